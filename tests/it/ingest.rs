//! Uploads: every line is stored once, in order and byte for byte, whatever breaks on the way.

use std::path::Path;
use std::time::Duration;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
async fn an_upload_that_is_cut_is_resumed_without_doubles() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let address = place.frontends[0].trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /v1/ingest?source=cut HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\ntransfer-encoding: \
         chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let part = lines(1..1501);
    // The last line is cut in two: its half is no message.
    let part = &part[..part.len() - 5];
    socket.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await.unwrap();
    let operator = Api::operator(&place).await;
    eventually(PATIENCE, "the whole lines in the stream", async || {
        let stats = operator.get("/admin/v1/stats").await.expect(200);
        (stats["stream"]["last_seq"].as_u64() >= Some(1499)).then_some(())
    })
    .await;
    drop(socket);
    let api = service(&place).await;
    let told = upload(&api, "?source=cut", "", lines(1..2001)).await.expect(200);
    assert_eq!(counts(&told), [501, 1499, 0, 2000]);
    are_in_order(&stored(&place, folder.path(), 2000).await, 2000);
    all.stop().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_told_how_far_it_got() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &["frontend.body_timeout_ms=500"]).await;
    let address = all.place().frontends[0].trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let part = lines(1..101);
    let head = format!(
        "POST /v1/ingest HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{part}\r\n",
        TOKEN,
        part.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, async {
        while !answer.contains("request_id") {
            let mut piece = [0; 4096];
            let length = socket.read(&mut piece).await.unwrap();
            assert!(length > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
    });
    read.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"accepted\":100") && answer.contains("\"next_line\":101"), "{answer}");
    drop(socket);
    all.stop().await;
}

#[tokio::test]
async fn nats_dies_in_the_middle_and_every_line_is_stored_once_and_in_order() {
    const LINES: u64 = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING]).await;
    let place = fleet.place();
    let api = service(&place).await;
    let sending = upload(&api, "?source=file", "", lines(1..LINES + 1));
    let killing = async {
        let operator = Api::operator(&place).await;
        eventually(PATIENCE, "a part of it in the stream", async || {
            let stats = operator.get("/admin/v1/stats").await;
            (stats.body["stream"]["last_seq"].as_u64() >= Some(LINES / 10)).then_some(())
        })
        .await;
        fleet.restart_nats();
    };
    let (told, ()) = tokio::join!(sending, killing);
    let told = told.expect(200);
    assert_eq!(counts(&told), [LINES, 0, 0, LINES], "{told}");
    are_in_order(&stored(&place, folder.path(), usize::try_from(LINES).unwrap()).await, LINES);
    fleet.stop().await;
}

#[tokio::test]
async fn while_nats_is_away_uploads_are_refused_and_go_on_where_they_ended() {
    let folder = tempfile::tempdir().unwrap();
    let more = [SETTING, "nats.publish_deadline_ms=2000", "nats.publish_timeout_ms=500"];
    let mut fleet = Fleet::start_with(folder.path(), &more).await;
    let place = fleet.place();
    let api = service(&place).await;
    assert_eq!(number(&upload(&api, "?source=file", "", lines(1..101)).await.expect(200), "accepted"), 100);
    fleet.stop_nats();
    let refused = upload(&api, "?source=file&line=101", "", lines(101..5001)).await;
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    let problem = refused.refused(503, "unavailable");
    assert_eq!((number(&problem, "accepted"), number(&problem, "next_line")), (0, 101), "{problem}");
    fleet.restart_nats();
    let told = eventually(PATIENCE, "an upload", async || {
        let answer = upload(&api, "?source=file&line=101", "", lines(101..5001)).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(number(&told, "accepted") + number(&told, "duplicates"), 4900, "{told}");
    are_in_order(&stored(&place, folder.path(), 5000).await, 5000);
    fleet.stop().await;
}

#[tokio::test]
async fn a_full_stream_says_how_far_it_got_and_takes_the_rest_when_there_is_room() {
    const LINES: u64 = 22_000;
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &["nats.max_bytes=67108864"]).await;
    // More than the stream can hold, and what is on its way is a small part of it.
    let lines = |numbers| lines(numbers).replace("\"text\"", &format!("\"data\":\"{}\",\"text\"", "x".repeat(3500)));
    let place = all.place();
    let api = service(&place).await;
    let (mut next, mut refusals) = (1, 0);
    let told = loop {
        let answer = upload(&api, &format!("?source=file&line={next}"), "", lines(next..LINES + 1)).await;
        if answer.status == 200 {
            break answer.body;
        }
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        let problem = answer.refused(503, "overloaded");
        assert_eq!(number(&problem, "next_line"), next + number(&problem, "accepted"), "{problem}");
        // Users can still talk, and there is room again when the auditor has trimmed.
        let (guest, _) = Api::guest(&place.frontends[0]).await;
        guest.post("/v1/chat", json!({"text": "still here"})).await.expect(200);
        (next, refusals) = (number(&problem, "next_line"), refusals + 1);
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(refusals > 0, "the stream never filled");
    assert_eq!(number(&told, "next_line"), LINES + 1);
    are_in_order(&stored(&place, folder.path(), usize::try_from(LINES).unwrap()).await, LINES);
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

/// `yalo ingest` as somebody would type it: exit code, its report, and what it says besides.
async fn command(folder: &Path, place: &Place, words: &[&str]) -> (Option<i32>, Value, String) {
    let usual = ["ingest", "--json", "--url", place.frontends[0].as_str()];
    let token = if words.contains(&"--token") { &[][..] } else { &["--token", TOKEN] };
    let arguments = usual.iter().chain(token).chain(words).map(|word| (*word).to_owned()).collect();
    let start = Start { name: "ingest".to_owned(), folder: folder.to_owned(), arguments, ..Start::default() };
    let (code, output, errors) = start.finish().await;
    let report = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}"));
    (code, report, errors)
}

#[tokio::test]
async fn the_command_brings_files_in_and_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let file = folder.path().join("messages.ndjson.zst");
    let mut zstd = ZstdEncoder::new(Vec::new());
    // Several chunks.
    zstd.write_all(lines(1..60_001).as_bytes()).await.unwrap();
    zstd.shutdown().await.unwrap();
    std::fs::write(&file, zstd.into_inner()).unwrap();
    let path = file.display().to_string();
    let (code, report, errors) = command(folder.path(), &place, &[&path]).await;
    assert_eq!((code, counts(&report)), (Some(0), [60_000, 0, 0, 60_000]), "{errors}");
    assert!(!folder.path().join("messages.ndjson.zst.yalo-ingest").exists());
    // Again: nothing is doubled.
    let (code, report, _) = command(folder.path(), &place, &["--from-line", "50001", &path]).await;
    assert_eq!((code, counts(&report)), (Some(0), [0, 10_000, 0, 10_000]));
    are_in_order(&stored(&place, folder.path(), 60_000).await, 60_000);

    // Lines that are refused make it end with 3, and are named.
    let bad = folder.path().join("bad.ndjson");
    let long = "x".repeat(400_000);
    std::fs::write(&bad, format!("{}nonsense\n{long}\n{}", lines(1..3), lines(3..4))).unwrap();
    let (code, report, errors) = command(folder.path(), &place, &[&bad.display().to_string()]).await;
    assert_eq!((code, counts(&report)), (Some(3), [3, 0, 2, 5]), "{errors}");
    let mut named: Vec<_> = report["first_errors"].as_array().unwrap().iter().map(|e| number(e, "line")).collect();
    named.sort_unstable();
    assert_eq!(named, [3, 4], "{report}");

    // A frontend that goes away in the middle: it ends with 4, and says how to go on.
    all.stop().await;
    let (code, report, errors) = command(folder.path(), &place, &["--timeout", "1", &path]).await;
    assert_eq!((code, number(&report, "lines")), (Some(4), 0), "{errors}");
    assert!(errors.contains("--resume"), "{errors}");
    let state = folder.path().join("messages.ndjson.zst.yalo-ingest");
    let place_of = |text: String| number(&serde_json::from_str::<Value>(&text).unwrap(), "next_line");
    assert_eq!(place_of(std::fs::read_to_string(&state).unwrap()), 1);
    let known = std::fs::read_to_string(&state).unwrap().replace("\"next_line\":1}", "\"next_line\":59001}");
    std::fs::write(&state, known).unwrap();
    all.restart().await;
    let place = all.place();
    let (code, report, errors) = command(folder.path(), &place, &["--resume", &path]).await;
    assert_eq!((code, number(&report, "lines")), (Some(0), 1000), "{errors}");
    assert!(!state.exists());
    let (code, _, errors) = command(folder.path(), &place, &["--token", "wrong", &path]).await;
    assert!(code == Some(1) && errors.contains("unauthorized"), "{errors}");
    all.stop().await;
}
