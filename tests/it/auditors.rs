//! Auditors under faults: a row that the store refuses for good, the moment between the write and its acknowledgement, and a
//! consumer that is away.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use rusqlite::Connection;
use serde_json::json;

use crate::client::{Api, number};
use crate::harness::record::acknowledged;
use crate::harness::{Fleet, PATIENCE, Start, eventually};
use crate::proxy::Proxy;

fn store(folder: &Path) -> Connection {
    let store = Connection::open(folder.join("data/messages.db")).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    store
}

fn is_stored(store: &Connection, seq: u64) -> bool {
    let count = "SELECT count(*) FROM messages WHERE seq = ?1";
    store.query_row(count, [seq.cast_signed()], |row| row.get::<_, i64>(0)).unwrap() == 1
}

/// Runs `yalo audit verify`: exit code and all that it says.
async fn verify(fleet: &Fleet, more: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["audit", "verify"], more].concat().into_iter().map(str::to_owned).collect();
    let (code, output, errors) =
        Start { name: "verify".to_owned(), arguments, ..fleet.start_of("admin") }.finish().await;
    (code, format!("{output}{errors}"))
}

/// The last message of the stream, once everything up to it is acknowledged.
async fn all_acknowledged(fleet: &Fleet) -> u64 {
    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    let stream = jetstream::new(client).get_stream("YALO_CHAT").await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    acknowledged(&fleet.nats_url(), last).await;
    last
}

#[tokio::test]
async fn a_row_that_the_store_refuses_for_good_is_laid_down_named_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    all_acknowledged(&fleet).await;
    let rows = store(folder.path());
    rows.execute_batch(
        "CREATE TRIGGER refusal BEFORE INSERT ON messages WHEN instr(CAST(new.payload AS TEXT), 'unbearable')
         BEGIN SELECT RAISE(ABORT, 'nobody may say that'); END",
    )
    .unwrap();
    // In one batch with others, as far as that can be had.
    let path = format!("/v1/conversations/{conversation}/messages");
    let mut sent = Vec::new();
    for words in ["before", "unbearable", "after"] {
        let said = me.post(&path, json!({"text": words})).await.expect(202);
        sent.push(number(&said, "seq"));
    }
    let me_again = me.at(&place.frontends[1]);
    eventually(PATIENCE, "three answers", async || {
        let page = me_again.get(&format!("{path}?limit=100&after=0-0")).await.expect(200);
        let answers = page["messages"].as_array().unwrap().iter().filter(|message| message["who"] == "bot").count();
        (answers == 3).then_some(())
    })
    .await;
    // The flow goes on: acknowledged, the others stored, the question and its echo laid down with the reason.
    all_acknowledged(&fleet).await;
    assert_eq!(sent.iter().map(|seq| is_stored(&rows, *seq)).collect::<Vec<_>>(), [true, false, true]);
    let operator = Api::operator(&place).await;
    let letters = eventually(PATIENCE, "two dead letters", async || {
        let letters = operator.get("/admin/v1/dead-letters").await.expect(200);
        let letters = letters["letters"].as_array().unwrap().clone();
        (letters.len() == 2).then_some(letters)
    })
    .await;
    assert!(letters.iter().all(|letter| letter["role"] == "auditor"), "{letters:?}");
    assert!(letters[0].to_string().contains("nobody may say that"), "{letters:?}");
    assert!(letters.iter().any(|letter| letter["seq"] == json!(sent[1])), "{letters:?}");

    let (code, said) = verify(&fleet, &[]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&sent[1].to_string()), "{said}");
    // While it is refused, a repair says so; afterwards the stream gives it back.
    let (code, said) = verify(&fleet, &["--repair"]).await;
    assert_eq!(code, Some(3), "{said}");
    rows.execute_batch("DROP TRIGGER refusal").unwrap();
    let (code, said) = verify(&fleet, &["--repair"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(is_stored(&rows, sent[1]));
    let (code, said) = verify(&fleet, &[]).await;
    assert_eq!(code, Some(0), "{said}");
    fleet.stop().await;
}

#[tokio::test]
async fn an_auditor_that_dies_between_write_and_acknowledgement_repeats_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    all_acknowledged(&fleet).await;
    fleet.stop_auditors().await;
    let proxy = Proxy::start(vec![fleet.nats_url().trim_start_matches("nats://").to_owned()]).await;
    let mut start = fleet.start_of("auditor-1");
    start.name = "behind a proxy".to_owned();
    start.environment.push(("YALO_NATS__URL".to_owned(), format!("nats://{}", proxy.address())));
    let mut auditor = start.run().await;
    let said = me.post("/v1/chat", json!({"text": "all is well", "conversation": conversation})).await.expect(200);
    let before = all_acknowledged(&fleet).await;
    assert_eq!(before, number(&said["answer"], "seq"));

    // From now on nothing that it says reaches the server: what its open pulls still get is written, and not acknowledged.
    proxy.set(true, false, Duration::ZERO);
    let said = me.post("/v1/chat", json!({"text": "written", "conversation": conversation})).await.expect(200);
    let last = number(&said["answer"], "seq");
    let rows = store(folder.path());
    eventually(PATIENCE, "the question in the store", async || is_stored(&rows, before + 1).then_some(())).await;
    auditor.kill9();
    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    let stream = jetstream::new(client).get_stream("YALO_CHAT").await.unwrap();
    let mut consumer: PullConsumer = stream.get_consumer("audit").await.unwrap();
    let held = consumer.info().await.unwrap().clone();
    assert_eq!(held.ack_floor.stream_sequence, before, "nothing of it is acknowledged: {held:?}");
    assert!(held.num_ack_pending > 0, "{held:?}");
    proxy.cut();
    proxy.heal();

    fleet.start_again("auditor-1").await;
    assert_eq!(all_acknowledged(&fleet).await, last);
    let count: i64 = rows.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    assert_eq!(count.cast_unsigned(), last, "each once");
    let (code, said) = verify(&fleet, &[]).await;
    assert_eq!(code, Some(0), "{said}");
    let operator = Api::operator(&place).await;
    let letters = operator.get("/admin/v1/dead-letters").await.expect(200);
    assert!(!letters.to_string().contains("auditor"), "{letters}");
    fleet.start_again("auditor-2").await;
    fleet.stop().await;
}

/// Both waits are longer than the half second after which an auditor looks for a reconnect: neither may begin anew with it.
#[tokio::test]
async fn an_auditor_writes_a_row_that_is_alone_and_asks_again_however_long_its_consumer_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &["auditor.flush_ms=1500"]).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let said = me.post("/v1/chat", json!({"text": "alone", "conversation": conversation})).await.expect(200);
    assert_eq!(all_acknowledged(&fleet).await, number(&said["answer"], "seq"));

    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    let stream = jetstream::new(client).get_stream("YALO_CHAT").await.unwrap();
    stream.delete_consumer("audit").await.unwrap();
    for name in ["auditor-1", "auditor-2"] {
        let says =
            async || fleet.role(name).says("cannot pull: consumer audit of stream YALO_CHAT is missing").then_some(());
        eventually(PATIENCE, "an auditor that says what it misses", says).await;
    }
    let said = me.post("/v1/chat", json!({"text": "unheard", "conversation": conversation})).await.expect(200);
    fleet.init().await;
    assert_eq!(all_acknowledged(&fleet).await, number(&said["answer"], "seq"));
    assert!(["auditor-1", "auditor-2"].iter().any(|name| fleet.role(name).says("messages come again")));
    let (code, said) = verify(&fleet, &[]).await;
    assert_eq!(code, Some(0), "{said}");
    fleet.stop().await;
}
