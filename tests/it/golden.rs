//! A data folder as an earlier `yalo all` left it: it is brought up to date, proved whole, and talked on in.

use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::client::{Api, number, text};
use crate::harness::{All, PATIENCE, Start, eventually};

/// The folder `data`, and in `guest.json` somebody who talked there. Its stream keeps messages for ten years.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/data-v2.tar.gz");
/// So many messages are in it.
const MESSAGES: u64 = 16;
const APOLOGY: &str = "Sorry, I could not answer that. Please try again later.";

fn version(store: &Connection) -> i64 {
    store.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// The proof of everything: so many rows are stored, and the stream has the same.
async fn is_whole(folder: &Path, rows: u64) {
    let data = format!("data.dir={}", folder.join("data").display());
    let arguments = ["audit", "verify", "--json", "--set", &data].map(str::to_owned).into();
    let start = Start { name: "verify".to_owned(), folder: folder.to_owned(), arguments, ..Start::default() };
    let (code, output, errors) = start.finish().await;
    let report: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output} {errors}"));
    let proved = (code, &report["findings"], &report["rows"], &report["compared"]);
    assert_eq!(proved, (Some(0), &json!([]), &json!(rows), &json!(rows)), "{report}");
}

async fn opens_whole_and_is_talked_on_in(stored: i64) {
    let folder = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").args(["-xzf", FOLDER, "-C"]).arg(folder.path()).status().unwrap();
    assert!(unpacked.success());
    let store = folder.path().join("data/messages.db");
    if stored == 1 {
        // All that the second version has and the first has not.
        let downgrade = "DROP TABLE retired; PRAGMA user_version = 1";
        Connection::open(&store).unwrap().execute_batch(downgrade).unwrap();
    }
    let mut all = All::start_with(folder.path(), &["nats.max_age_hours=87600"]).await;
    let (place, store) = (all.place(), Connection::open(store).unwrap());
    assert_eq!(version(&store), 2);
    is_whole(folder.path(), MESSAGES).await;

    let guest = fs::read_to_string(folder.path().join("guest.json")).unwrap();
    let guest: Value = serde_json::from_str(&guest).unwrap();
    let (token, conversation) = (text(&guest, "token"), text(&guest, "conversation"));
    let me = Api::connect(&place.frontends[0]).await.with_token(&token);
    let page = me.get(&format!("/v1/conversations/{conversation}/messages")).await.expect(200);
    let said: Vec<&str> = page["messages"].as_array().unwrap().iter().filter_map(|one| one["text"].as_str()).collect();
    let turns = ["hello", "grüß dich", "two\nlines, \"quoted\"", "👩‍👩‍👧 نص"].map(|turn| [turn, turn]);
    assert_eq!(said, [turns.as_flattened(), &["fail", APOLOGY]].concat());

    let go_on = json!({"text": "and on", "conversation": conversation});
    let answer = me.post("/v1/chat", go_on).await.expect(200)["answer"].clone();
    assert_eq!((&answer["text"], number(&answer, "seq")), (&json!("and on"), MESSAGES + 2));
    let operator = Api::operator(&place).await;
    eventually(PATIENCE, "everything in the store", async || {
        (number(&operator.get("/admin/v1/stats").await.body, "last_seq") == MESSAGES + 2).then_some(())
    })
    .await;
    is_whole(folder.path(), MESSAGES + 2).await;
    all.stop().await;
}

#[tokio::test]
async fn a_data_folder_with_a_store_of_version_1_is_brought_up_to_date_and_talked_on_in() {
    opens_whole_and_is_talked_on_in(1).await;
}

#[tokio::test]
async fn a_data_folder_with_a_store_of_version_2_is_talked_on_in() {
    opens_whole_and_is_talked_on_in(2).await;
}
