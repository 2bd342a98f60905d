//! `GET /admin/v1/export`: the same bytes as the command writes, and a body that never looks complete when it is not.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use reqwest::header::{AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};

use super::{fill, pipe, seqs};
use crate::client::{Api, number};
use crate::harness::record::{conversation, made};
use crate::harness::{All, PATIENCE, Place, eventually};

async fn ask(place: &Place, query: &str) -> reqwest::Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.get(format!("{}/admin/v1/export{query}", place.admin));
    request.header(AUTHORIZATION, format!("Bearer {}", place.token)).send().await.unwrap()
}

async fn bytes(place: &Place, query: &str) -> Vec<u8> {
    let response = ask(place, query).await;
    assert_eq!(response.status(), 200, "{query}: {}", response.text().await.unwrap());
    response.bytes().await.unwrap().into()
}

#[tokio::test]
async fn the_api_gives_what_the_command_writes() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &made(8000)).await;
    let mut all = All::start(folder.path()).await;
    let place = all.place();
    let seven = conversation(7).to_string();
    for (query, arguments, kind, name) in [
        ("", &[][..], "application/x-ndjson", "yalo-export.ndjson"),
        ("?format=csv", &["--format", "csv"], "text/csv", "yalo-export.csv"),
        (
            "?user=ada&compress=gzip&from=100",
            &["--user", "ada", "--from", "100"],
            "application/gzip",
            "yalo-export.ndjson.gz",
        ),
        ("?compress=zstd&to=5000", &["--to", "5000"], "application/zstd", "yalo-export.ndjson.zst"),
        (
            &format!("?conversation={seven}&after=1764000010070-1007"),
            &["--conversation", &seven, "--after", "1764000010070-1007"],
            "application/x-ndjson",
            "yalo-export.ndjson",
        ),
    ] {
        let response = ask(&place, query).await;
        assert_eq!(response.status(), 200, "{query}");
        assert!(response.headers()[CONTENT_TYPE].to_str().unwrap().starts_with(kind), "{:?}", response.headers());
        let next = if query.contains("to=5000") { "5001" } else { "8001" };
        assert_eq!(response.headers()["yalo-next-from"], next, "{query}");
        assert!(response.headers()[CONTENT_DISPOSITION].to_str().unwrap().contains(&format!("\"{name}\"")));
        let body: Vec<u8> = response.bytes().await.unwrap().into();
        let body = match kind {
            "application/gzip" => pipe("gzip", &["-dc"], &body),
            "application/zstd" => super::unzstd(&body).await,
            _ => body,
        };
        assert!(String::from_utf8(body).unwrap() == super::export(folder.path(), arguments).await, "{query}");
    }
    let operator = Api::operator(&place).await;
    let get = async |query: &str| operator.get(&format!("/admin/v1/export{query}")).await;
    get("?format=xml").await.refused(400, "invalid_field");
    get("?compress=zip").await.refused(400, "invalid_field");
    get("?from=yesterday").await.refused(400, "invalid_field");
    get("?limit=5").await.refused(400, "unknown_field");
    get("?after=x").await.refused(400, "invalid_cursor");
    get("?conversation=x").await.refused(400, "invalid_id");
    get(&format!("?user=ada&conversation={seven}")).await.refused(400, "invalid_field");
    get("?user=ada&after=1764000010070-1007").await.refused(400, "invalid_field");
    get("?user=nobody").await.refused(404, "not_found");
    operator.without_token().get("/admin/v1/export").await.refused(401, "unauthorized");

    // What was just said, with what users do not see.
    let (me, talk) = Api::guest(&place.frontends[0]).await;
    let said = me.post("/v1/chat", json!({"text": "=hello", "conversation": talk})).await.expect(200);
    let last = number(&said["answer"], "seq");
    let exported = eventually(PATIENCE, "the answer in the store", async || {
        let exported = String::from_utf8(bytes(&place, "?from=8001").await).unwrap();
        (seqs(&exported).last() == Some(&last)).then_some(exported)
    })
    .await;
    assert_eq!(seqs(&exported), (8001..=last).collect::<Vec<_>>());
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["kind"] == "opened" && line["conversation"] == talk), "{exported}");
    assert!(lines.iter().any(|line| line["reply_to"]["seq"].is_u64() && line["who"] == "bot"), "{exported}");
    all.stop().await;
}

#[tokio::test]
async fn four_run_at_once_and_a_client_that_leaves_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    // More than sockets hold.
    fill(folder.path(), &made(80_000)).await;
    let mut all = All::start(folder.path()).await;
    let place = all.place();
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut response = ask(&place, "").await;
        assert!(response.chunk().await.unwrap().is_some());
        slow.push(response);
    }
    let refused = ask(&place, "").await;
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key(RETRY_AFTER)), (503, true));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "overloaded");
    // One goes; the others are served to their end.
    drop(slow.pop());
    let whole = eventually(PATIENCE, "room again", async || {
        let response = ask(&place, "").await;
        if response.status() == 200 { Some(response.bytes().await.unwrap()) } else { None }
    })
    .await;
    assert_eq!(whole.split(|byte| *byte == b'\n').count(), 80_001);
    // A server that goes down in the middle leaves no body that looks whole.
    let stopping = all.stop();
    let reading = async {
        let mut ends = Vec::new();
        for response in slow {
            ends.push(response.bytes().await.is_err());
        }
        ends
    };
    let ((), ends) = tokio::join!(stopping, reading);
    assert_eq!(ends, [true, true, true]);
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle_breaks_the_body() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), &made(60_000)).await;
    let mut all = All::start(folder.path()).await;
    let place = all.place();
    let database = folder.path().join("data/messages.db");
    let content = std::fs::read(&database).unwrap();
    let (from, to) = (content.len() / 2, content.len() / 4 * 3);
    let spoil = |bytes: &[u8]| {
        let mut file = File::options().write(true).open(&database).unwrap();
        file.seek(SeekFrom::Start(from as u64)).unwrap();
        file.write_all(bytes).unwrap();
    };
    let whole = bytes(&place, "").await;
    spoil(&vec![0x5a; to - from]);
    for query in ["", "?compress=gzip", "?format=csv&compress=zstd"] {
        let mut response = ask(&place, query).await;
        assert_eq!(response.status(), 200);
        let mut came = 0;
        let end = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => came += chunk.len(),
                end => break end,
            }
        };
        assert!(end.is_err() && came > 0 && came < whole.len(), "{query}: {came} bytes came, then {end:?}");
    }
    // What its connections have read meanwhile they may keep, so it is only put back for a clean stop.
    spoil(&content[from..to]);
    all.stop().await;
}
