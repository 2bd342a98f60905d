//! A question that ends every process that tries to answer it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use yalo::domain::ConversationId;

use crate::client::{Api, number, text};
use crate::harness::{Fleet, eventually};

const BOTS: [&str; 2] = ["bot-1", "bot-2"];
/// Seven processes in a row, each missed for five seconds, and all the rest.
const LIMIT: Duration = Duration::from_mins(2);

/// Guests with a conversation each, all of one group.
async fn neighbours(base: &str, wanted: usize) -> Vec<(Api, String)> {
    let mut groups: HashMap<u8, Vec<(Api, String)>> = HashMap::new();
    loop {
        let guest = Api::guest(base).await;
        let group = ConversationId::parse(&guest.1).unwrap().partition().group(16);
        let members = groups.entry(group).or_default();
        members.push(guest);
        if members.len() == wanted {
            return groups.remove(&group).unwrap();
        }
    }
}

/// The answers of a conversation as far as there are any: kind and question.
async fn answers(me: &Api, conversation: &str) -> Vec<(String, u64)> {
    let page = me.get(&format!("/v1/conversations/{conversation}/messages?limit=500")).await.expect(200);
    let bots = page["messages"].as_array().unwrap().iter().filter(|message| message["who"] == "bot");
    bots.map(|answer| (text(answer, "kind"), number(&answer["reply_to"], "seq"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_kills_every_process_is_found_and_the_others_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &["bot.engine=drill"]).await;
    fleet.stop_role("bot-3").await;
    let place = fleet.place();
    let people = neighbours(&place.frontends[0], 4).await;
    let ask = async |number: usize, words: &str| {
        let (me, conversation) = &people[number];
        let path = format!("/v1/conversations/{conversation}/messages");
        let asked = me.post(&path, json!({ "text": words })).await.expect(202);
        asked["seq"].as_u64().unwrap()
    };
    // Two culprits, one that waits behind one of them, and a slow one that is always open when the process ends.
    let begun = Instant::now();
    let slow = ask(0, "sleep 8000 and more").await;
    let first = ask(1, "abort").await;
    let behind = ask(1, "are you still there?").await;
    let second = ask(2, "abort once more").await;
    let bystander = ask(3, "sleep 20").await;
    let expected = [
        vec![("text".to_owned(), slow)],
        vec![("apology".to_owned(), first), ("text".to_owned(), behind)],
        vec![("apology".to_owned(), second)],
        vec![("text".to_owned(), bystander)],
    ];
    let mut deaths = 0;
    loop {
        for (bot, status) in BOTS.into_iter().filter_map(|bot| fleet.tend(bot).map(|status| (bot, status))) {
            println!("{bot} ended after {:?} with {status}", begun.elapsed());
            deaths += 1;
        }
        let mut all = Vec::new();
        for (me, conversation) in &people {
            all.push(answers(me, conversation).await);
        }
        if all == expected {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "after {deaths} deaths there is only {all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("two culprits found after {:?} and {deaths} deaths", begun.elapsed());
    // Three make the group careful, each culprit is let run alone twice, and one that was under way when the group moved to
    // another bot ends the old one besides.
    assert!((6..=12).contains(&deaths), "{deaths} processes died");

    let operator = Api::operator(&place).await;
    let letters = operator.get("/admin/v1/dead-letters").await.expect(200);
    let mut found: Vec<u64> = Vec::new();
    for letter in letters["letters"].as_array().unwrap() {
        assert!(text(letter, "reason").contains("processes ended"), "{letter}");
        found.push(number(letter, "seq"));
    }
    found.sort_unstable();
    assert_eq!(found, [first, second]);

    // The group goes on as before: two slow questions take the time of one.
    let note = eventually(LIMIT, "a group that is not careful", async || {
        ask(3, "sleep 1").await;
        let group = ConversationId::parse(&people[0].1).unwrap().partition().group(16);
        let note = note(&fleet, group).await;
        (note["careful_to"] == 0).then_some(note)
    })
    .await;
    assert_eq!(note["culprits"], json!([]));
    for bot in BOTS {
        assert_eq!(fleet.tend(bot), None, "{bot} died although both culprits are known");
    }
    fleet.stop_role("bot-1").await;
    fleet.stop_role("bot-2").await;
}

/// What bots have left for each other about a group.
async fn note(fleet: &Fleet, group: u8) -> Value {
    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("KV_yalo_members").await.unwrap();
    let found = stream.get_last_raw_message_by_subject(&format!("$KV.yalo_members.group.{group}")).await.unwrap();
    serde_json::from_slice(&found.payload).unwrap()
}
