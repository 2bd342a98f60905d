//! A stranger on NATS: what is not of yalo is kept as it came, laid down as a dead letter, and stops nobody.

use base64::Engine as _;
use serde_json::json;
use yalo::domain::{ConversationId, Who};
use yalo::wire::Subjects;

use crate::client::{Api, Call, number, text};
use crate::harness::{Fleet, PATIENCE, eventually};

#[tokio::test]
async fn garbage_on_the_subjects_is_kept_raw_and_the_flow_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let operator = Api::operator(&place).await;
    let jetstream = async_nats::jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());

    let id = ConversationId::parse(&conversation).unwrap();
    let subjects = Subjects::new("yalo").unwrap();
    let elsewhere = ConversationId::new();
    let partition = id.partition().0.wrapping_add(1);
    let golden = include_str!("../golden/envelope-v1.json").lines().next().unwrap();
    let garbage: Vec<(String, Vec<u8>)> = vec![
        (subjects.record(id, Who::User), b"\x00\xff not an envelope".to_vec()),
        (subjects.record(id, Who::User), Vec::new()),
        (subjects.record(id, Who::Bot), b"{}".to_vec()),
        (subjects.record(elsewhere, Who::User), golden.as_bytes().to_vec()),
        (format!("yalo.chat.{partition}.{conversation}.user"), b"in a foreign partition".to_vec()),
        ("yalo.chat.7.not-an-id.user".to_owned(), b"nobody's".to_vec()),
        ("yalo.log.x.y".to_owned(), b"a log".to_vec()),
    ];
    let mut published = Vec::new();
    for (subject, payload) in garbage {
        let ack = jetstream.publish(subject.clone(), payload.clone().into()).await.unwrap().await.unwrap();
        published.push((ack.sequence, subject, payload));
    }
    // An envelope of a later release is no garbage: kept raw, and no dead letter.
    let newer = jetstream.publish(subjects.record(id, Who::User), r#"{"v":2}"#.into()).await.unwrap().await.unwrap();

    let said = me.post("/v1/chat", json!({"text": "on we go", "conversation": conversation})).await.expect(200);
    assert_eq!(said["answer"]["text"], "on we go");
    let last = number(&said["answer"], "seq");
    for seq in 1..=last {
        let row = eventually(PATIENCE, "every sequence in the store", async || {
            let answer = operator.get(&format!("/admin/v1/messages/{seq}")).await;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        assert_eq!(number(&row, "seq"), seq);
        if let Some((_, subject, payload)) = published.iter().find(|(at, _, _)| *at == seq) {
            let raw = base64::engine::general_purpose::STANDARD.decode(text(&row, "raw")).unwrap();
            assert_eq!((text(&row, "subject"), raw), (subject.clone(), payload.clone()));
        } else {
            assert_eq!(row.get("raw").is_some(), seq == newer.sequence, "{row}");
        }
    }
    let mut dead = jetstream.get_stream("YALO_DEAD").await.unwrap();
    let letters = eventually(PATIENCE, "a dead letter for each", async || {
        let mut dead = dead.clone();
        let count = dead.info().await.unwrap().state.messages;
        (count >= published.len() as u64).then_some(count)
    })
    .await;
    assert_eq!(letters, published.len() as u64);
    let first = dead.info().await.unwrap().state.first_sequence;
    let letter = dead.get_raw_message(first).await.unwrap();
    assert!(letter.subject.starts_with("yalo.dead.auditor."), "{}", letter.subject);

    // Users see none of it, wherever they look.
    let page = me.get(&format!("/v1/conversations/{conversation}/messages")).await.expect(200);
    let kinds: Vec<_> = page["messages"].as_array().unwrap().iter().map(|message| text(message, "kind")).collect();
    assert_eq!(kinds, ["opened", "text", "text"]);
    let transcript = operator.get(&format!("/admin/v1/conversations/{conversation}/messages")).await.expect(200);
    let raws = transcript["messages"].as_array().unwrap().iter().filter(|row| row.get("raw").is_some());
    assert_eq!(raws.count(), 4, "three of garbage and a newer one: {transcript}");
    fleet.stop().await;
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_laid_down_holds_up_nobody_and_is_laid_down_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(
        folder.path(),
        &["auditor.flushes=1", "nats.publish_timeout_ms=500", "nats.publish_deadline_ms=1000"],
    )
    .await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let operator = Api::operator(&place).await;
    // Who watches has the admin look each second.
    let watcher = operator.events(Call { path: "/admin/v1/events", ..Call::default() }).await;
    let jetstream = async_nats::jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    jetstream.delete_stream("YALO_DEAD").await.unwrap();
    fleet.stop_role("auditor-2").await;
    let mut garbage = Vec::new();
    for _ in 0..8 {
        garbage.push(jetstream.publish("yalo.log.x.y", "a log".into()).await.unwrap().await.unwrap().sequence);
    }
    let says = async || fleet.role("auditor-1").says("can't be laid down, it is tried again").then_some(());
    eventually(PATIENCE, "an auditor that says it", says).await;
    let said = me.post("/v1/chat", json!({"text": "on we go", "conversation": conversation})).await.expect(200);
    for seq in garbage.iter().copied().chain([number(&said["answer"], "seq")]) {
        eventually(PATIENCE, "it in the store", async || {
            let stored = operator.get(&format!("/admin/v1/messages/{seq}")).await;
            (stored.status == 200).then_some(())
        })
        .await;
    }
    let says = async || fleet.role("admin").says("the flow cannot be looked at").then_some(());
    eventually(PATIENCE, "an admin that says it", says).await;
    drop(watcher);
    fleet.init().await;
    eventually(PATIENCE, "a dead letter for each", async || {
        let mut dead = jetstream.get_stream("YALO_DEAD").await.unwrap();
        (dead.info().await.unwrap().state.messages == garbage.len() as u64).then_some(())
    })
    .await;
    fleet.start_again("auditor-2").await;
    fleet.stop().await;
}

#[tokio::test]
async fn what_the_readme_publishes_straight_over_nats_is_a_message_of_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let operator = Api::operator(&fleet.place()).await;
    let readme = include_str!("../../README.md");
    let command = readme.lines().find_map(|line| line.strip_prefix("nats request ")).unwrap();
    let (subject, rest) = command.split_once(" '").unwrap();
    let (payload, rest) = rest.split_once("' -H \"").unwrap();
    let (header, id) = rest.trim_end_matches('"').split_once(':').unwrap();
    let jetstream = async_nats::jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    let publish = async || {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(header, id);
        let sent = jetstream.publish_with_headers(subject.to_owned(), headers, payload.into()).await;
        sent.unwrap().await.unwrap()
    };
    let stored = publish().await;
    assert!(publish().await.duplicate);
    let row = eventually(PATIENCE, "it in the store", async || {
        let answer = operator.get(&format!("/admin/v1/messages/{}", stored.sequence)).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    let said = ["who", "side", "author", "text"].map(|field| text(&row, field));
    assert_eq!(said, ["log", "user", "crm", "Hello"], "{row}");
    assert!(row.get("raw").is_none(), "{row}");
    fleet.stop().await;
}
