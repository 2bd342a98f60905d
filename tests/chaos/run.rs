//! One run: a fleet, its users, the faults, the rest that follows, and the judgement.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fleet::{Fleet, Kind, Shape};
use crate::judge::{self, Stream};
use crate::nemesis::{self, Fault};
use crate::record::Record;
use crate::users::{By, Place, Way, World};

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) faults: Vec<Fault>,
    /// How many faults there may be side by side.
    pub(crate) at_once: usize,
    pub(crate) seed: u64,
    pub(crate) span: Duration,
    pub(crate) conversations: usize,
    /// The mean pause between two bursts of one user.
    pub(crate) pace: Duration,
    pub(crate) slow_answers: u64,
    pub(crate) late: Option<Duration>,
    /// How long everything may take to come right afterwards.
    pub(crate) rest: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) sent: usize,
    pub(crate) stored: usize,
    /// From the first try to send a message to the moment when somebody was told its answer.
    pub(crate) longest: Duration,
}

/// Runs a plan to its judgement.
pub(crate) async fn run(plan: &Plan) -> Outcome {
    fastrand::seed(plan.seed);
    let mut fleet = Fleet::start(&plan.shape).await;
    let world = Arc::new(World { late: plan.late, slow_answers: plan.slow_answers, ..World::new(&fleet) });
    let mut stream = Stream::default();
    let missing = {
        let shared = Arc::new(fleet);
        let tending = {
            let (fleet, world) = (Arc::clone(&shared), Arc::clone(&world));
            tokio::spawn(async move { fleet.tend(&world.record).await })
        };
        let (mut talkers, mut readers) = (JoinSet::new(), JoinSet::new());
        populate(&world, plan, &mut talkers, &mut readers).await;
        nemesis::rage(&shared, &world, plan).await;
        world.quiet.cancel();
        let missing = come_right(&shared, &world.record, &mut stream, plan.rest).await;
        world.over.cancel();
        talkers.shutdown().await;
        readers.shutdown().await;
        tending.abort();
        tending.await.ok();
        fleet = Arc::into_inner(shared).expect("nobody else has the fleet any more");
        missing
    };
    for what in missing.iter().take(20) {
        world.record.violation(what);
    }
    if missing.is_empty() {
        finish(&fleet, &world.record, &stream).await;
    }
    let outcome = outcome(&world.record, &stream);
    if !outcome.violations.is_empty() && plan.shape.mistake.is_none() {
        println!("the folder of the fleet: {}", fleet.keep().display());
    }
    outcome
}

async fn populate(world: &Arc<World>, plan: &Plan, talkers: &mut JoinSet<()>, readers: &mut JoinSet<()>) {
    for number in 0..plan.conversations {
        let conversation = world.open(number).await;
        let opened = world.record.conversations().swap_remove(conversation);
        let by = [By::Http, By::Socket, By::Waiting, By::Http][number % 4];
        let place = Place { number: conversation, id: opened.id, token: opened.token, cursor: opened.cursor, by };
        for way in [[Way::Sse, Way::Socket], [Way::Socket, Way::Poll], [Way::Poll, Way::Sse]][number % 3] {
            readers.spawn(Arc::clone(world).read(place.clone(), way));
        }
        talkers.spawn(Arc::clone(world).talk(place, plan.pace));
    }
}

/// Waits until nothing is missing any more; what still is, or what is wrong for good.
async fn come_right(fleet: &Fleet, record: &Record, stream: &mut Stream, limit: Duration) -> Vec<String> {
    let end = Instant::now() + limit;
    let source = loop {
        if let Ok(source) = fleet.jetstream().await.get_stream("YALO_CHAT").await {
            break source;
        }
        if Instant::now() > end {
            return vec!["the stream cannot be read".to_owned()];
        }
        sleep(Duration::from_millis(200)).await;
    };
    loop {
        let mut missing = vec!["the stream cannot be read to its end".to_owned()];
        let told = record.conversations();
        if stream.read_on(&source).await.is_some() {
            let findings = judge::compare(&told, stream);
            if !findings.wrong.is_empty() {
                return findings.wrong;
            }
            missing = findings.missing;
            if !record.all_accepted() {
                missing.push("not everything is accepted yet".to_owned());
            }
            match judge::leftovers(&source).await {
                Some(left) => missing.extend(left),
                None => missing.push("the consumers cannot be seen".to_owned()),
            }
        }
        if missing.is_empty() || Instant::now() > end {
            return missing;
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// The store, the proof by yalo itself, and an orderly end that leaves nothing behind.
async fn finish(fleet: &Fleet, record: &Record, stream: &Stream) {
    match judge::compare_store(&fleet.store, stream).await {
        Ok(wrong) => wrong.iter().take(20).for_each(|what| record.violation(what)),
        Err(error) => record.violation(&format!("the store cannot be read: {error:#}")),
    }
    let (code, said) = fleet.tool("verify", &["audit", "verify"]).finish().await;
    if code != Some(0) {
        record.violation(&format!("audit verify ends with {code:?}: {said}"));
    }
    for member in fleet.members.iter().filter(|member| member.kind != Kind::Server) {
        match member.process.lock().await.stop(Duration::from_secs(25)).await {
            Ok(0) => {}
            Ok(code) => record.violation(&format!("a {} ended with {code}", member.kind.name())),
            Err(why) => record.violation(&why),
        }
    }
    match members(fleet, record.last_crash()).await {
        Some(left) if left.is_empty() => {}
        Some(left) => record.violation(&format!("heartbeats are left over: {left:?}")),
        None => record.violation("the heartbeats cannot be read"),
    }
}

/// The bots whose heartbeat was not taken back, of those that beat in the last seconds and after the last crash: those of
/// the dead are left to expire.
async fn members(fleet: &Fleet, crash: Option<OffsetDateTime>) -> Option<Vec<String>> {
    let stream = fleet.jetstream().await.get_stream("KV_yalo_members").await.ok()?;
    let mut subjects = stream.info_with_subjects("$KV.yalo_members.bot.*").await.ok()?;
    let mut left = Vec::new();
    while let Some(subject) = subjects.next().await {
        let (subject, _) = subject.ok()?;
        let last = stream.get_last_raw_message_by_subject(&subject).await.ok()?;
        let age = OffsetDateTime::now_utc() - last.time;
        let is_dead = crash.is_some_and(|crash| last.time <= crash);
        if !last.payload.is_empty() && age.whole_seconds() < 5 && !is_dead {
            left.push(subject);
        }
    }
    Some(left)
}

fn outcome(record: &Record, stream: &Stream) -> Outcome {
    let mut longest = Duration::ZERO;
    let conversations = record.conversations();
    for conversation in &conversations {
        let mut answers: HashMap<u64, Instant> = HashMap::new();
        for told in conversation.readings.iter().flat_map(|reading| &reading.told) {
            if let Some(question) = told.message["reply_to"]["seq"].as_u64() {
                let at = answers.entry(question).or_insert(told.at);
                *at = (*at).min(told.at);
            }
        }
        for sent in &conversation.sent {
            let answer = sent.accepted.and_then(|seq| answers.get(&seq));
            longest = longest.max(answer.map_or(Duration::ZERO, |at| at.saturating_duration_since(sent.tried)));
        }
    }
    Outcome {
        violations: record.violations(),
        counts: record.counts(),
        sent: conversations.iter().map(|conversation| conversation.sent.len()).sum(),
        stored: stream.messages.len(),
        longest,
    }
}
