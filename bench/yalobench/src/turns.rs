//! Turns at an even pace: a question in over HTTP, its answer out, many conversations side by side, each on a
//! connection that stays open. The latency of a turn counts from the instant that it was due.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use natsbench::cost::{children, cpu_seconds, peak_mib, quantile};
use natsbench::pace::pace;
use natsbench::server::Server;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::person::Person;
use crate::process::{Launch, Process, free_address};

/// What is sent, and to what.
#[derive(Debug, Clone)]
pub struct TurnsOptions {
    pub yalo: PathBuf,
    pub server: PathBuf,
    pub folder: PathBuf,
    /// One process for each role instead of one for all.
    pub apart: bool,
    pub turns: u64,
    pub rate: u64,
    /// Turns at the start that do not count.
    pub warm_up: u64,
    pub conversations: u64,
}

/// Runs the turns and prints one line of `key=value`.
pub async fn run(options: &TurnsOptions) -> Result<()> {
    let frontend = free_address()?;
    let fleet = Fleet::start(options, &frontend).await?;
    let mut people = Vec::new();
    for _ in 0..options.conversations {
        people.push(Person::open(&frontend).await.context("open a conversation")?);
    }
    let all = options.warm_up + options.turns;
    let before: Vec<f64> = fleet.processes().iter().map(|(_, pid)| cpu_seconds(*pid)).collect();
    let start = Instant::now();
    let (mut latencies, failed) = talk(people, options.rate, all, options.warm_up).await?;
    let seconds = start.elapsed().as_secs_f64();
    let costs: Vec<String> = fleet
        .processes()
        .iter()
        .zip(before)
        .map(|((name, pid), before)| {
            let cpu = (cpu_seconds(*pid) - before) * 1e6 / all as f64;
            format!("{name}_cpu_us={cpu:.0} {name}_peak_mib={:.0}", peak_mib(*pid))
        })
        .collect();
    fleet.stop().await?;
    ensure!(failed == 0, "{failed} of {all} turns had no answer");
    println!(
        "turns turns={} conversations={} seconds={seconds:.1} p50_us={} p99_us={} max_us={} {}",
        options.turns,
        options.conversations,
        quantile(&mut latencies, 0.5),
        quantile(&mut latencies, 0.99),
        quantile(&mut latencies, 1.0),
        costs.join(" "),
    );
    Ok(())
}

/// Everybody asks when it is their turn. Returns the latencies in microseconds and the number of failures.
async fn talk(people: Vec<Person>, rate: u64, all: u64, warm_up: u64) -> Result<(Vec<u64>, u64)> {
    let mut tasks = JoinSet::new();
    let mut queues = Vec::new();
    for mut person in people {
        let (queue, mut dues) = mpsc::channel::<(u64, Instant)>(100_000);
        queues.push(queue);
        tasks.spawn(async move {
            let (mut latencies, mut failed) = (Vec::new(), 0);
            while let Some((number, due)) = dues.recv().await {
                match timeout(Duration::from_secs(30), person.ask(&format!("question number {number}"))).await {
                    Ok(Ok(())) if number >= warm_up => latencies.push(u64::try_from(due.elapsed().as_micros())?),
                    Ok(Ok(())) => {}
                    _ => failed += 1,
                }
            }
            anyhow::Ok((latencies, failed))
        });
    }
    let mut dues = pace(rate, all);
    while let Some((number, due)) = dues.recv().await {
        let whose = usize::try_from(number)? % queues.len();
        queues[whose].send((number, due)).await.context("a person has left")?;
    }
    drop(queues);
    let (mut latencies, mut failed) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (more, failures) = done??;
        latencies.extend(more);
        failed += failures;
    }
    Ok((latencies, failed))
}

/// yalo as it is measured: `yalo all` with its own server, or a server and a process for each role.
pub struct Fleet {
    yalo: Vec<Process>,
    server: Option<Server>,
}

impl Fleet {
    /// Starts it and waits until it is ready.
    pub async fn start(options: &TurnsOptions, frontend: &str) -> Result<Self> {
        let mut settings = vec![format!("frontend.listen={frontend}"), "admin.listen=127.0.0.1:0".to_owned()];
        let mut server = None;
        if options.apart {
            let own = Server::start(&options.server, &options.folder)?;
            settings.push(format!("nats.url={}", own.url()));
            settings.push(format!("auth.guest_key={}", "0".repeat(64)));
            server = Some(own);
        } else {
            settings.push(format!("nats.server={}", options.server.display()));
        }
        let launch = Launch { yalo: &options.yalo, folder: &options.folder, settings };
        let roles: &[&str] = if options.apart { &["frontend", "bot", "auditor", "admin"] } else { &["all"] };
        if options.apart {
            launch.finish("init")?;
        }
        let mut yalo = Vec::new();
        for role in roles {
            let ops = free_address()?;
            let mut launch = launch.clone();
            launch.settings.push(format!("ops.listen={ops}"));
            let mut process = launch.start(role)?;
            process.ready(&ops).await?;
            yalo.push(process);
        }
        Ok(Self { yalo, server })
    }

    /// Names and ids of all processes, the nats-server's among them.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let mut processes: Vec<_> = self.yalo.iter().map(|process| (process.name.clone(), process.pid())).collect();
        let own = self.yalo.first().map(|process| children(process.pid())).unwrap_or_default();
        let server = self.server.as_ref().map(Server::pid).or_else(|| own.first().copied());
        processes.extend(server.map(|pid| ("server".to_owned(), pid)));
        processes
    }

    /// Ends the roles, and then the server.
    pub async fn stop(self) -> Result<()> {
        for process in self.yalo {
            process.stop().await?;
        }
        Ok(())
    }
}
