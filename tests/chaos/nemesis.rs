//! What goes wrong: kills, freezes, restarts, lines that break, hang and crawl, a store that is held or away.
//!
//! Chosen by a seed that is printed. No process and no line is in two faults at once; each fault is healed by the one
//! who made it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fleet::{Fleet, Kind};
use crate::run::Plan;
use crate::store::{Harm, Store, StoreKind, hold};
use crate::users::World;

/// One thing that can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`, and started again within two seconds.
    Kill(Kind),
    /// SIGSTOP for less than a heartbeat counts.
    Freeze(Kind),
    /// SIGSTOP for longer than a bot is believed to live.
    LongFreeze(Kind),
    /// SIGTERM, and started again.
    Restart(Kind),
    /// The line to NATS breaks.
    CutLink(Kind),
    /// The line to NATS stays up and nothing passes.
    HoldLink(Kind),
    /// The line to NATS crawls.
    SlowLink(Kind),
    /// Users lose their connections.
    CutDoor,
    /// The connections of users hang.
    HoldDoor,
    /// The connections of users crawl.
    SlowDoor,
    /// Somebody else holds the file of the store, or a node of it is frozen.
    HoldStore,
    /// A node of the store is killed, and started again within two seconds.
    KillNode,
    /// A node of the store is dead or frozen for longer than anybody waits for it.
    LoseNode,
    /// Somebody asks what ends the process of every bot that tries to answer it.
    Poison,
}

const ROLES: [Kind; 4] = [Kind::Frontend, Kind::Bot, Kind::Auditor, Kind::Admin];

/// Everything that can go wrong by itself. A poisoned question is for a scene of its own: who kills bots all the time makes
/// an innocent one look like it.
pub(crate) fn all(store: StoreKind) -> Vec<Fault> {
    let mut faults = vec![Fault::CutDoor, Fault::HoldDoor, Fault::SlowDoor, Fault::HoldStore];
    for kind in ROLES {
        faults.extend([Fault::Kill(kind), Fault::Freeze(kind), Fault::LongFreeze(kind), Fault::Restart(kind)]);
        faults.extend([Fault::CutLink(kind), Fault::HoldLink(kind), Fault::SlowLink(kind)]);
    }
    // Bots are what order hangs on.
    faults.extend([Fault::Kill(Kind::Bot), Fault::LongFreeze(Kind::Bot), Fault::Restart(Kind::Bot)]);
    faults.extend([Fault::Kill(Kind::Server), Fault::Freeze(Kind::Server), Fault::LongFreeze(Kind::Server)]);
    if store != StoreKind::Sqlite {
        // Some find that enough nodes are away already.
        faults.extend([Fault::HoldStore, Fault::KillNode, Fault::KillNode, Fault::LoseNode, Fault::LoseNode]);
    }
    faults
}

/// Makes the faults of a plan, and heals the last of them.
pub(crate) async fn rage(fleet: &Arc<Fleet>, world: &Arc<World>, plan: &Plan) {
    let faults = &plan.faults;
    if faults.is_empty() {
        sleep(plan.span).await;
        return;
    }
    let mut rng = Rng::with_seed(plan.seed);
    let end = Instant::now() + plan.span;
    let mut running = JoinSet::new();
    while Instant::now() < end {
        while running.len() >= plan.at_once {
            healed(&mut running).await;
        }
        let fault = faults[rng.usize(..faults.len())];
        running.spawn(make(Arc::clone(fleet), Arc::clone(world), fault, rng.fork()));
        sleep(Duration::from_millis(rng.u64(200..1200))).await;
    }
    while !running.is_empty() {
        healed(&mut running).await;
    }
}

/// Waits for the end of a fault. One that could not be healed ends the run.
async fn healed(running: &mut JoinSet<()>) {
    if let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

async fn make(fleet: Arc<Fleet>, world: Arc<World>, fault: Fault, mut rng: Rng) {
    match fault {
        Fault::Kill(kind) | Fault::Freeze(kind) | Fault::LongFreeze(kind) | Fault::Restart(kind) => {
            on_process(&fleet, &world, fault, kind, rng).await;
        }
        Fault::CutLink(kind) | Fault::HoldLink(kind) | Fault::SlowLink(kind) => {
            let links: Vec<_> = fleet.members.iter().filter(|member| member.kind == kind).collect();
            let Some(link) = &links[rng.usize(..links.len())].link else { return };
            note(&world, &format!("{fault:?}"), link.address());
            on_line(link, fault, &mut rng).await;
        }
        Fault::CutDoor | Fault::HoldDoor | Fault::SlowDoor => {
            let door = &fleet.doors[rng.usize(..fleet.doors.len())];
            note(&world, &format!("{fault:?}"), door.address());
            on_line(door, fault, &mut rng).await;
        }
        Fault::Poison => {
            note(&world, "Poison", "");
            world.ask_once(rng.usize(..100), "abort").await;
        }
        Fault::HoldStore | Fault::KillNode | Fault::LoseNode => on_store(&fleet.store, &world, fault, &mut rng).await,
    }
}

async fn on_store(store: &Store, world: &World, fault: Fault, rng: &mut Rng) {
    let (harm, span) = match fault {
        Fault::KillNode => (Harm::Kill, 0..2000),
        Fault::LoseNode => (if rng.bool() { Harm::Kill } else { Harm::Freeze }, 10_000..25_000),
        _ => (Harm::Freeze, 500..5000),
    };
    let span = Duration::from_millis(rng.u64(span));
    match store {
        Store::Sqlite(path) => {
            note(world, "HoldStore", format!("{span:?}"));
            let path = path.clone();
            let held = tokio::task::spawn_blocking(move || hold(&path, span)).await.unwrap();
            if let Err(error) = held {
                world.record.count(&format!("the store could not be held: {error}"));
            }
        }
        Store::Cql(ring) => {
            let node = rng.usize(..ring.size());
            let begun = || note(world, &format!("{fault:?}"), format!("{harm:?} node {} for {span:?}", node + 1));
            ring.harm(node, harm, span, begun).await;
        }
    }
}

async fn on_process(fleet: &Fleet, world: &World, fault: Fault, kind: Kind, mut rng: Rng) {
    let free: Vec<_> = fleet.members.iter().filter(|member| member.kind == kind).collect();
    let member = free[rng.usize(..free.len())];
    // In another fault already: then not this one.
    let Ok(mut process) = member.process.try_lock() else { return };
    note(world, &format!("{fault:?}"), &process.start.name);
    match fault {
        Fault::Kill(_) => {
            process.kill9();
            sleep(Duration::from_millis(rng.u64(0..2000))).await;
            process.run_again();
        }
        Fault::Restart(_) => {
            if let Err(why) = process.stop(Duration::from_secs(25)).await {
                world.record.violation(&why);
                process.kill9();
            }
            sleep(Duration::from_millis(rng.u64(0..500))).await;
            process.run_again();
        }
        _ => {
            let long = matches!(fault, Fault::LongFreeze(_));
            process.signal(Signal::STOP);
            sleep(Duration::from_millis(if long { rng.u64(5500..9000) } else { rng.u64(300..3500) })).await;
            process.signal(Signal::CONT);
        }
    }
}

async fn on_line(line: &crate::proxy::Proxy, fault: Fault, rng: &mut Rng) {
    match fault {
        Fault::CutLink(_) | Fault::CutDoor => line.cut(),
        Fault::HoldLink(_) | Fault::HoldDoor => {
            let (requests, answers) = [(true, true), (true, false), (false, true)][rng.usize(..3)];
            line.set(requests, answers, Duration::ZERO);
            sleep(Duration::from_millis(rng.u64(300..7000))).await;
            if rng.bool() {
                line.cut();
            }
            line.heal();
        }
        _ => {
            line.set(false, false, Duration::from_millis(rng.u64(5..150)));
            sleep(Duration::from_millis(rng.u64(1000..5000))).await;
            line.heal();
        }
    }
}

fn note(world: &World, fault: &str, on: impl std::fmt::Display) {
    let word: String = fault.chars().filter(|letter| letter.is_alphanumeric()).collect();
    world.record.count(&format!("fault {word}"));
    if std::env::var_os("CHAOS_VERBOSE").is_some() {
        println!("  {fault} {on}");
    }
}
