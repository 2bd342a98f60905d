//! Uploads: every line is stored once, in order and byte for byte.

mod batches;
mod command;
mod faults;
mod raw;
mod resumed;

use std::path::Path;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::client::{Answer, Api, Call, id_at, new_id, number};
use crate::harness::{All, Fleet, PATIENCE, Place, Start, eventually};

const TOKEN: &str = "a-token-for-services-that-ingest";
const SETTING: &str = "auth.ingest_token=a-token-for-services-that-ingest";

async fn all(folder: &Path, more: &[&str]) -> All {
    All::start_with(folder, &[&[SETTING][..], more].concat()).await
}

async fn service(place: &Place) -> Api {
    Api::connect(&place.frontends[0]).await.with_token(TOKEN)
}

async fn upload(api: &Api, query: &str, encoding: &str, body: impl Into<Vec<u8>>) -> Answer {
    let path = format!("/v1/ingest{query}");
    let headers = &[("content-type", "application/x-ndjson"), ("content-encoding", encoding)];
    let headers = if encoding.is_empty() { &headers[..1] } else { &headers[..] };
    api.call(Call { post: true, path: &path, headers, body: body.into() }).await
}

fn counts(told: &Value) -> [u64; 4] {
    ["accepted", "duplicates", "refused", "lines"].map(|name| number(told, name))
}

/// Lines of 10 conversations, in the order of their numbers.
fn lines(numbers: std::ops::Range<u64>) -> String {
    let line = |number| {
        let conversation = number % 10;
        format!("{{\"key\":\"talk {conversation}\",\"who\":\"user\",\"author\":\"eve\",\"text\":\"line {number}\"}}\n")
    };
    numbers.map(line).collect()
}

/// Lines that are together more than the smallest stream can hold, when there are [`MANY`] of them.
fn long_lines(numbers: std::ops::Range<u64>) -> String {
    lines(numbers).replace("\"text\"", &format!("\"data\":\"{}\",\"text\"", "x".repeat(3500)))
}

/// See [`long_lines`].
const MANY: u64 = 22_000;
/// A stream of 64 MiB.
const SMALL: &str = "nats.max_bytes=67108864";

/// Waits until so many messages are in the stream; gives the number of the last one.
async fn begun(place: &Place, messages: u64) -> u64 {
    let operator = Api::operator(place).await;
    eventually(PATIENCE, "a part of it in the stream", async || {
        let stats = operator.get("/admin/v1/stats").await;
        stats.body["stream"]["last_seq"].as_u64().filter(|last| *last >= messages)
    })
    .await
}

/// Everything that the store has of the log, in the order of record: (conversation, payload).
async fn stored(place: &Place, folder: &Path, expected: usize) -> Vec<(String, Value)> {
    let operator = Api::operator(place).await;
    eventually(PATIENCE, "everything in the store", async || {
        let stats = operator.get("/admin/v1/stats").await;
        let stats = (stats.status == 200).then_some(stats.body)?;
        (stats["audit_gap"]["behind"] == 0 && stats["last_seq"] == stats["stream"]["last_seq"]).then_some(())
    })
    .await;
    let connection = Connection::open(folder.join("data/messages.db")).unwrap();
    let mut query = connection.prepare("SELECT payload FROM messages WHERE who = 4 ORDER BY seq").unwrap();
    let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let payloads = rows.map(|row| serde_json::from_slice::<Value>(&row.unwrap()).unwrap());
    let found: Vec<_> =
        payloads.map(|payload| (payload["conversation"].as_str().unwrap().to_owned(), payload)).collect();
    assert_eq!(found.len(), expected);
    found
}

/// Each line of [`lines`] is there once, and in each conversation they are in order.
fn are_in_order(found: &[(String, Value)], expected: u64) {
    let number =
        |payload: &Value| payload["text"].as_str().unwrap().trim_start_matches("line ").parse::<u64>().unwrap();
    let mut numbers: Vec<u64> = found.iter().map(|(_, payload)| number(payload)).collect();
    let mut last = std::collections::HashMap::new();
    for ((conversation, _), number) in found.iter().zip(&numbers) {
        let before = last.insert(conversation, *number);
        assert!(before < Some(*number), "line {number} after line {before:?} in {conversation}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=expected).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_uploaded_is_in_the_record_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING]).await;
    let place = fleet.place();
    let api = service(&place).await;
    let conversation = "0198c0de-0000-7000-8000-000000000001";
    let id = id_at(-400 * 86_400_000);
    let body = [
        json!({"conversation": conversation, "who": "user", "author": "eve", "text": "Grüße, 世界", "id": id})
            .to_string(),
        String::new(),
        "{\"key\":\"sensor 7\",\"data\":{\"t\": 20.50,  \"b\":[1]},\"sent_at\":\"2020-02-29T12:00:00.25Z\"}".to_owned(),
        json!({"key": "sensor 7", "who": "agent", "author": "bob", "kind": "note", "text": "hm", "bot": "echo"})
            .to_string(),
    ]
    .join("\r\n");
    let told = upload(&api, "", "", body).await.expect(200);
    assert_eq!((counts(&told), number(&told, "next_line")), ([3, 0, 0, 4], 5), "{told}");
    let found = stored(&place, folder.path(), 3).await;
    assert_eq!(number(&told, "last_seq"), 3);
    let keyed = uuid::Uuid::new_v5(&uuid::uuid!("7a105eed-0000-8000-8000-6b6579730001"), b"sensor 7").to_string();
    assert_eq!(found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [conversation, &keyed, &keyed]);
    let first = &found[0].1;
    assert_eq!((&first["id"], &first["who"], &first["side"]), (&json!(id), &json!("log"), &json!("user")));
    assert_eq!((&first["kind"], &first["text"]), (&json!("text"), &json!("Grüße, 世界")));
    let event = &found[1].1;
    assert_eq!((&event["kind"], &event["author"], event.get("side")), (&json!("event"), &json!("ingest"), None));
    assert_eq!(event["sent_at"], "2020-02-29T12:00:00.25Z");
    let connection = Connection::open(folder.path().join("data/messages.db")).unwrap();
    let raw: Vec<u8> =
        connection.query_row("SELECT payload FROM messages WHERE seq = 2", [], |row| row.get(0)).unwrap();
    let raw = String::from_utf8(raw).unwrap();
    assert!(raw.contains("\"data\":{\"t\": 20.50,  \"b\":[1]}"), "data is kept byte for byte: {raw}");
    assert_eq!((&found[2].1["kind"], &found[2].1["side"]), (&json!("note"), &json!("agent")));
    // Operators see the side; the description of the API knows it.
    let operator = Api::operator(&place).await;
    let path = format!("/admin/v1/conversations/{keyed}/messages");
    let page = operator.get(&path).await.expect(200);
    assert_eq!(page["messages"][1]["side"], "agent", "{page}");
    let verify = Start {
        name: "verify".to_owned(),
        arguments: ["audit", "verify", "--json"].map(str::to_owned).into(),
        ..fleet.start_of("admin")
    };
    let (code, output, errors) = verify.finish().await;
    assert_eq!(code, Some(0), "{output} {errors}");
    assert_eq!(serde_json::from_str::<Value>(&output).unwrap()["compared"], 3);
    fleet.stop().await;
}

#[tokio::test]
async fn packed_uploads_arrive_whole_and_a_torn_one_up_to_its_tear() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let api = service(&all.place()).await;
    let mut gzip = GzipEncoder::new(Vec::new());
    gzip.write_all(lines(1..4001).as_bytes()).await.unwrap();
    gzip.shutdown().await.unwrap();
    let told = upload(&api, "", "gzip", gzip.into_inner()).await.expect(200);
    assert_eq!(counts(&told), [4000, 0, 0, 4000]);
    let mut zstd = ZstdEncoder::new(Vec::new());
    zstd.write_all(lines(4001..8001).as_bytes()).await.unwrap();
    zstd.shutdown().await.unwrap();
    let told = upload(&api, "?line=4001", "zstd", zstd.into_inner()).await.expect(200);
    assert_eq!((counts(&told), number(&told, "next_line")), ([4000, 0, 0, 4000], 8001));
    // The tear is in the middle of a line, and what is before it can be unpacked.
    let mut torn = GzipEncoder::new(Vec::new());
    torn.write_all(lines(8001..9001).as_bytes()).await.unwrap();
    torn.write_all(b"{\"key\":\"talk 0\",\"text\":\"li").await.unwrap();
    torn.flush().await.unwrap();
    let problem = upload(&api, "?line=8001&source=s", "gzip", torn.into_inner()).await.refused(400, "body_incomplete");
    let (next, accepted) = (number(&problem, "next_line"), number(&problem, "accepted"));
    assert_eq!((accepted, next), (1000, 9001), "{problem}");
    let told = upload(&api, "?line=9001&source=s", "", lines(9001..9101)).await.expect(200);
    assert_eq!(counts(&told), [100, 0, 0, 100]);
    are_in_order(&stored(&all.place(), folder.path(), 9100).await, 9100);
    upload(&api, "", "br", lines(1..2)).await.refused(415, "unsupported_media_type");
    upload(&api, "", "gzip", lines(1..2)).await.refused(400, "body_incomplete");
    all.stop().await;
}

#[tokio::test]
async fn a_bad_line_is_named_and_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let api = service(&all.place()).await;
    let long = format!("{{\"key\":\"talk 1\",\"text\":\"{}\"}}\n", "x".repeat(1 << 20));
    let body = [
        lines(1..2),
        "{\"key\":\"talk 1\",\"txt\":\"x\"}\n".to_owned(),
        "{\"key\":\n".to_owned(),
        long,
        lines(2..3),
        "{\"key\":\"talk 1\",\"text\":\"\\ud800\"}\n".to_owned(),
        "{\"text\":\"nowhere\"}\n".to_owned(),
        lines(3..4),
    ]
    .concat();
    let told = upload(&api, "", "", body).await.expect(200);
    assert_eq!(counts(&told), [3, 0, 5, 8]);
    let errors = told["first_errors"].as_array().unwrap();
    let named: Vec<_> = errors.iter().map(|error| (number(error, "line"), error["code"].as_str().unwrap())).collect();
    let expected =
        [(2, "unknown_field"), (3, "invalid_json"), (4, "line_too_long"), (6, "invalid_json"), (7, "invalid_field")];
    assert_eq!(named, expected, "{told}");
    assert!(errors[0]["reason"].as_str().unwrap().contains("did you mean `text`?"), "{told}");
    are_in_order(&stored(&all.place(), folder.path(), 3).await, 3);
    // Thousands of them are counted, and the first ones named.
    let told = upload(&api, "?line=101", "", "nonsense\n".repeat(5000)).await.expect(200);
    assert_eq!((counts(&told), number(&told, "next_line")), ([0, 0, 5000, 5000], 5101));
    assert_eq!((told["first_errors"].as_array().unwrap().len(), &told["first_errors"][0]["line"]), (20, &json!(101)));
    all.stop().await;
}

#[tokio::test]
async fn only_the_token_for_services_opens_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let (guest, _) = Api::guest(&all.place().frontends[0]).await;
    upload(&guest, "", "", lines(1..2)).await.refused(401, "unauthorized");
    upload(&guest.without_token(), "", "", lines(1..2)).await.refused(401, "unauthorized");
    upload(&guest.with_token(&format!("{TOKEN}x")), "", "", lines(1..2)).await.refused(401, "unauthorized");
    // The service is no guest either.
    guest.with_token(TOKEN).post("/v1/chat", json!({"text": "hi"})).await.refused(401, "unauthorized");
    // A refusal of a large upload is heard, too.
    upload(&guest, "", "", vec![b'x'; 8 << 20]).await.refused(401, "unauthorized");
    let service = guest.with_token(TOKEN);
    upload(&service, "?sauce=x", "", lines(1..2)).await.refused(400, "unknown_field");
    upload(&service, "?line=0", "", lines(1..2)).await.refused(400, "invalid_field");
    upload(&service, "?as=bot", "", lines(1..2)).await.refused(400, "invalid_field");
    all.stop().await;
}

#[tokio::test]
async fn without_a_token_the_answer_says_how_to_switch_it_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let api = Api::connect(&all.place().frontends[0]).await.with_token("");
    let problem = upload(&api.without_token(), "", "", lines(1..2)).await.refused(403, "forbidden");
    assert!(problem["next"].as_str().unwrap().contains("auth.ingest_token"), "{problem}");
    all.stop().await;
}

#[tokio::test]
async fn the_same_upload_twice_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let api = service(&all.place()).await;
    assert_eq!(counts(&upload(&api, "?source=file", "", lines(1..3001)).await.expect(200)), [3000, 0, 0, 3000]);
    assert_eq!(counts(&upload(&api, "?source=file", "", lines(1..3001)).await.expect(200)), [0, 3000, 0, 3000]);
    // From the middle on, and one more.
    let told = upload(&api, "?source=file&line=2901", "", lines(2901..3002)).await.expect(200);
    assert_eq!(counts(&told), [1, 100, 0, 101]);
    are_in_order(&stored(&all.place(), folder.path(), 3001).await, 3001);
    // Ids of one's own do the same.
    let line = format!("{{\"key\":\"talk 1\",\"text\":\"x\",\"id\":\"{}\"}}\n", new_id());
    assert_eq!(counts(&upload(&api, "", "", line.repeat(2)).await.expect(200)), [1, 1, 0, 2]);
    all.stop().await;
}

#[tokio::test]
async fn questions_of_users_are_answered_in_order_in_conversations_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING]).await;
    let place = fleet.place();
    let api = service(&place).await;
    let (eve, _) = Api::guest(&place.frontends[0]).await;
    let opened = eve.post("/v1/conversations", json!({})).await.expect(201);
    let hers = opened["conversation"].as_str().unwrap();
    let me = eve.post("/v1/chat", json!({"text": "who am I?", "conversation": hers})).await.expect(200);
    let name = me["message"]["author"].as_str().unwrap();
    let asked = |number: u64| {
        format!("{{\"key\":\"{name} {}\",\"author\":\"{name}\",\"text\":\"question {number}\"}}\n", number % 3)
    };
    let others = [
        json!({"conversation": hers, "author": name, "text": "and here"}),
        json!({"conversation": hers, "author": "mallory", "text": "mine?"}),
        json!({"key": "x", "author": name, "text": "x", "id": id_at(-7 * 86_400_000)}),
    ];
    let body: String = (0..60).map(asked).chain(others.iter().map(|line| format!("{line}\n"))).collect();
    let told = upload(&api, "?as=user", "", body).await.expect(200);
    assert_eq!(counts(&told), [61, 0, 2, 63], "{told}");
    let codes: Vec<_> = told["first_errors"].as_array().unwrap().iter().map(|error| error["code"].clone()).collect();
    assert_eq!(codes, ["not_found", "id_too_old"], "{told}");
    // They are the user's own conversations: the user reads them, and the answers, in order.
    let namespace = uuid::uuid!("7a105eed-0000-8000-8000-6b6579730001");
    for talk in 0..3 {
        let conversation = uuid::Uuid::new_v5(&namespace, format!("{name} {talk}").as_bytes());
        let path = format!("/v1/conversations/{conversation}/messages?limit=100");
        let page = eventually(PATIENCE, "twenty answers", async || {
            let page = eve.get(&path).await.expect(200);
            let answers =
                |page: &Value| page["messages"].as_array().unwrap().iter().filter(|m| m["who"] == "bot").count();
            (answers(&page) == 20).then_some(page)
        })
        .await;
        let said = |who: &str| -> Vec<String> {
            let messages = page["messages"].as_array().unwrap().iter().filter(|message| message["who"] == who);
            messages.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
        };
        let expected: Vec<_> = (0..20).map(|turn| format!("question {}", turn * 3 + talk)).collect();
        assert_eq!((said("user"), said("bot")), (expected.clone(), expected));
    }
    fleet.stop().await;
}
