//! What of an export comes back when it is uploaded to another deployment.

use serde_json::{Value, json};
use yalo::domain::Row;

use super::{export, fill, seqs};
use crate::client::{Api, Call, number};
use crate::harness::record::made;
use crate::harness::{All, PATIENCE, Start, eventually};

const TOKEN: &str = "a-token-for-services-that-ingest";

#[tokio::test]
async fn every_message_comes_back_as_a_log_with_its_side_and_raw_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // No text of yalo's own holds the character NUL; an upload refuses it.
    let has_nul = |row: &Row| row.id.is_some() && String::from_utf8_lossy(&row.payload).contains("\\u0000");
    let rows = made(1200).into_iter().filter(|row| !has_nul(row));
    let rows: Vec<Row> = rows.zip(1..).map(|(row, seq)| Row { seq, ..row }).collect();
    fill(folder.path(), &rows).await;
    let exported = export(folder.path(), &[]).await;
    let other = tempfile::tempdir().unwrap();
    let mut all = All::start_with(other.path(), &[&format!("auth.ingest_token={TOKEN}")]).await;
    let place = all.place();
    let api = Api::connect(&place.frontends[0]).await.with_token(TOKEN);
    let (path, headers) = ("/v1/ingest", &[("content-type", "application/x-ndjson")][..]);
    let call = Call { post: true, path, headers, body: exported.clone().into() };
    let told = api.call(call).await.expect(200);
    let raw = rows.iter().filter(|row| row.id.is_none()).count();
    let messages = rows.len() - raw;
    assert!(raw > 5);
    let told = ["accepted", "refused"].map(|name| number(&told, name));
    assert_eq!(told, [messages as u64, raw as u64]);
    // By the command, out of a pipe: each is known by its id.
    std::fs::write(other.path().join("exported.ndjson"), &exported).unwrap();
    let wrapper = ["bash", "-c", "cat exported.ndjson | \"$@\"", "bash"].map(str::to_owned).to_vec();
    let words = ["ingest", "--json", "--url", &place.frontends[0], "--token", TOKEN, "-"].map(str::to_owned);
    let (name, folder, arguments) = ("ingest".to_owned(), other.path().to_owned(), words.to_vec());
    let ingest = Start { name, folder, arguments, wrapper, ..Start::default() };
    let (code, output, errors) = ingest.finish().await;
    let told: Value = serde_json::from_str(&output).unwrap();
    let told = ["accepted", "duplicates", "refused"].map(|name| number(&told, name));
    assert_eq!((code, told), (Some(3), [0, messages as u64, raw as u64]), "{errors}");
    let again = eventually(PATIENCE, "everything in the store", async || {
        let again = export(other.path(), &[]).await;
        (seqs(&again).len() == messages).then_some(again)
    })
    .await;
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let messages = exported.lines().map(read).filter(|line| line.get("raw").is_none());
    for (seq, (before, after)) in (1_u64..).zip(messages.zip(again.lines().map(read))) {
        for name in ["conversation", "id", "author", "kind", "text", "reply_to", "bot", "sent_at", "data"] {
            assert_eq!(before[name], after[name], "{name} of {before}");
        }
        let side = if before["who"] == "log" { &before["side"] } else { &before["who"] };
        assert_eq!((&after["who"], &after["side"], &after["seq"]), (&json!("log"), side, &json!(seq)), "{before}");
    }
    all.stop().await;
}
