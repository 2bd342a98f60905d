//! Bots together: who answers what, what becomes of it when one of them dies, freezes or leaves, and what its asker can
//! do meanwhile.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Api, Call, number, text};
use crate::harness::{All, Fleet, PATIENCE, Place, eventually};

/// People who talk during the faults.
const PEOPLE: usize = 32;

/// The whole conversation, oldest first.
async fn transcript(me: &Api, conversation: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), "0-0".to_owned());
    loop {
        let path = format!("/v1/conversations/{conversation}/messages?limit=500&after={after}");
        let page = me.get(&path).await.expect(200);
        let messages = page["messages"].as_array().unwrap().clone();
        let Some(last) = messages.last() else { return all };
        after = text(last, "cursor");
        all.extend(messages);
    }
}

/// Each question has one answer, and the answers come in the order of the questions.
#[track_caller]
fn is_answered_in_order(transcript: &[Value], questions: usize) {
    let side = |who: &str| transcript.iter().filter(|message| message["who"] == who).cloned().collect::<Vec<_>>();
    let asked: Vec<u64> = side("user").iter().map(|question| number(question, "seq")).collect();
    let answered: Vec<u64> = side("bot").iter().map(|answer| number(&answer["reply_to"], "seq")).collect();
    assert_eq!(asked.len(), questions);
    assert_eq!(answered, asked);
}

/// How many groups a process answers, by its metrics.
async fn groups(fleet: &Fleet, bot: &str) -> Option<u32> {
    let page = reqwest::get(format!("{}/metrics", fleet.role(bot).address("ops"))).await.ok()?.text().await.ok()?;
    let line = page.lines().find_map(|line| line.strip_prefix("yalo_bot_groups "))?;
    line.parse().ok()
}

/// Waits until these bots share all groups as evenly as they can.
async fn have_shared(fleet: &Fleet, bots: &[&str]) {
    eventually(PATIENCE, "an even share of the groups", async || {
        let shares = join_all(bots.iter().map(|bot| groups(fleet, bot))).await;
        let shares: Option<Vec<u32>> = shares.into_iter().collect();
        let shares = shares?;
        let even = shares.iter().max()? - shares.iter().min()? <= 1;
        (even && shares.iter().sum::<u32>() == 16).then_some(())
    })
    .await;
}

/// Talks turn by turn until told to end; how many turns, and the slowest.
async fn chat_on(place: &Place, number: usize, end: &tokio_util::sync::CancellationToken) -> (usize, Duration) {
    let (me, conversation) = Api::guest(&place.frontends[number % place.frontends.len()]).await;
    let (mut turns, mut slowest) = (0, Duration::ZERO);
    while !end.is_cancelled() {
        let begun = Instant::now();
        let words = format!("{number}.{turns}");
        let said = me.post("/v1/chat", json!({"text": words, "conversation": conversation})).await.expect(200);
        assert_eq!(said["answer"]["text"], words);
        (turns, slowest) = (turns + 1, slowest.max(begun.elapsed()));
    }
    is_answered_in_order(&transcript(&me, &conversation).await, turns);
    (turns, slowest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_moves_on_when_its_bot_dies_freezes_or_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (all, end) = (["bot-1", "bot-2", "bot-3"], tokio_util::sync::CancellationToken::new());
    have_shared(&fleet, &all).await;
    let talking = join_all((0..PEOPLE).map(|number| chat_on(&place, number, &end)));
    let faults = async {
        let moved = |begun: Instant, what: &str| println!("{what}: the share has moved after {:?}", begun.elapsed());
        let begun = Instant::now();
        fleet.kill9("bot-1");
        have_shared(&fleet, &["bot-2", "bot-3"]).await;
        moved(begun, "kill -9");
        fleet.start_again("bot-1").await;
        have_shared(&fleet, &all).await;

        let begun = Instant::now();
        fleet.role("bot-2").signal(Signal::STOP);
        have_shared(&fleet, &["bot-1", "bot-3"]).await;
        moved(begun, "SIGSTOP");
        fleet.role("bot-2").signal(Signal::CONT);
        have_shared(&fleet, &all).await;

        let begun = Instant::now();
        fleet.stop_role("bot-3").await;
        have_shared(&fleet, &["bot-1", "bot-2"]).await;
        moved(begun, "SIGTERM");
        fleet.start_again("bot-3").await;
        have_shared(&fleet, &all).await;
        end.cancel();
    };
    let (turns, ()) = tokio::join!(talking, faults);
    let slowest = turns.iter().map(|(_, slowest)| slowest).max().unwrap();
    println!("{} turns, the slowest took {slowest:?}", turns.iter().map(|(turns, _)| turns).sum::<usize>());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_asker_is_answered_in_order_while_bots_die() {
    const QUESTIONS: usize = 1000;
    const KILL_EVERY: Duration = Duration::from_secs(5);
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &["bot.engine=drill"]).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let begun = Instant::now();
    let asking = async {
        for _ in 0..QUESTIONS {
            let words = format!("sleep {}", fastrand::u32(0..50));
            me.post(&path, json!({"text": words})).await.expect(202);
        }
        println!("asked within {:?}", begun.elapsed());
    };
    // Read on from where the last look ended, so that a look is quick however much there is.
    let seen = std::cell::RefCell::new((0, "0-0".to_owned()));
    let answered = async || {
        let after = seen.borrow().1.clone();
        let page = me.get(&format!("{path}?limit=100&after={after}")).await.expect(200);
        let messages = page["messages"].as_array().unwrap();
        let mut seen = seen.borrow_mut();
        seen.0 += messages.iter().filter(|message| message["who"] == "bot").count();
        seen.1 = messages.last().map_or(after, |last| text(last, "cursor"));
        (seen.0 >= QUESTIONS).then_some(())
    };
    let mut kills = 0;
    let killing = async {
        // The one after the other, until all is answered.
        while tokio::time::timeout(KILL_EVERY, eventually(2 * PATIENCE, "all answers", answered)).await.is_err() {
            assert!(begun.elapsed() < 6 * PATIENCE, "it goes on and on");
            let bot = format!("bot-{}", 1 + kills % 3);
            fleet.kill9(&bot);
            fleet.start_again(&bot).await;
            kills += 1;
        }
    };
    tokio::join!(asking, killing);
    println!("{QUESTIONS} answers within {:?}, {kills} kills", begun.elapsed());
    is_answered_in_order(&transcript(&me, &conversation).await, QUESTIONS);
    fleet.stop().await;
}

/// An answer that takes long is announced, can be stopped, and leaves the conversation as it should be.
async fn a_long_answer_can_be_stopped(place: &Place) {
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}");
    let mut events = me.events(Call { path: &format!("{path}/events"), ..Call::default() }).await;
    let asked = me.post(&format!("{path}/messages"), json!({"text": "sleep 60000"})).await.expect(202);
    assert_eq!(events.message().await.data["seq"], asked["seq"]);
    let working = events.next().await.unwrap();
    assert_eq!((working.name.as_str(), &working.data["reply_to"]["seq"]), ("working", &asked["seq"]));
    // Any frontend will do.
    let other = me.at(place.frontends.last().unwrap());
    assert_eq!(other.post(&format!("{path}/stop"), json!({})).await.expect(202), json!({}));
    let stopped = loop {
        let event = events.next().await.unwrap();
        if event.name == "message" {
            break event.data;
        }
        assert_eq!(event.name, "working");
    };
    assert_eq!((&stopped["kind"], &stopped["reply_to"]["seq"]), (&json!("stopped"), &asked["seq"]));
    // A stop without anything to stop does nothing.
    me.post(&format!("{path}/stop"), json!({})).await.expect(202);
    let said = me.post("/v1/chat", json!({"text": "go on", "conversation": conversation})).await.expect(200);
    assert_eq!(said["answer"]["text"], "go on");
}

#[tokio::test]
async fn a_long_answer_can_be_stopped_in_yalo_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_with(folder.path(), &["bot.engine=drill"]).await;
    a_long_answer_can_be_stopped(&all.place()).await;
    all.stop().await;
}

#[tokio::test]
async fn a_long_answer_can_be_stopped_in_a_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &["bot.engine=drill"]).await;
    a_long_answer_can_be_stopped(&fleet.place()).await;
    fleet.stop().await;
}

#[tokio::test]
async fn an_engine_that_fails_or_panics_ends_in_an_apology_and_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_with(folder.path(), &["bot.engine=drill", "bot.attempts=2"]).await;
    let (me, conversation) = Api::guest(&all.place().frontends[0]).await;
    for words in ["fail", "panic"] {
        let said = me.post("/v1/chat", json!({"text": words, "conversation": conversation})).await.expect(200);
        assert_eq!(said["answer"]["kind"], "apology", "{said}");
    }
    let said = me.post("/v1/chat", json!({"text": "well", "conversation": conversation})).await.expect(200);
    assert_eq!(said["answer"]["text"], "well");
    let page = reqwest::get(format!("{}/metrics", all.process().address("ops"))).await.unwrap().text().await.unwrap();
    assert!(page.contains("yalo_dead_letters_total{role=\"bot\"} 2\n"), "{page}");
    all.stop().await;
}

/// Fewer places for questions than groups that wait for one.
#[tokio::test]
async fn a_bot_of_one_lane_answers_every_group_turn_after_turn() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_with(folder.path(), &["bot.concurrency=1"]).await;
    let place = all.place();
    for _ in 0..4 {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        for turn in ["one", "two", "three"] {
            let said = me.post("/v1/chat", json!({"text": turn, "conversation": conversation})).await.expect(200);
            assert_eq!(said["answer"]["text"], turn);
        }
    }
    all.stop().await;
}

#[tokio::test]
async fn a_bot_without_the_bucket_of_members_says_so_until_it_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let (me, conversation) = Api::guest(&fleet.place().frontends[0]).await;
    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    async_nats::jetstream::new(client).delete_stream("KV_yalo_members").await.unwrap();
    let bot = fleet.role("bot-1");
    let ready = format!("{}/readyz", bot.address("ops"));
    eventually(PATIENCE, "a bot that says what it misses", async || {
        let page = reqwest::get(&ready).await.unwrap();
        let (status, page) = (page.status(), page.text().await.unwrap());
        let says = status == 503 && page.contains("members (bot-0)") && page.contains("yalo init");
        (says && bot.says("no heartbeat can be written")).then_some(())
    })
    .await;
    let path = format!("/v1/conversations/{conversation}/messages");
    me.post(&path, json!({"text": "anybody?"})).await.expect(202);
    fleet.init().await;
    eventually(PATIENCE, "its answer", async || {
        let page = me.get(&path).await.expect(200);
        page["messages"].as_array().unwrap().iter().any(|message| message["who"] == "bot").then_some(())
    })
    .await;
    // Any bot of the fleet may have answered; this one is back soon, too.
    let bot = fleet.role("bot-1");
    eventually(PATIENCE, "a bot that is itself again", async || {
        let well = reqwest::get(&ready).await.unwrap().status() == 200;
        (well && bot.says("heartbeats are written again")).then_some(())
    })
    .await;
    fleet.stop().await;
}
