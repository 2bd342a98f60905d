//! People read the file with other programs; and every query finds its rows by an index.

use std::process::Command;

use super::{fresh, options};
use crate::domain::{Row, Timestamp};
use crate::store::Contract;
use crate::store::sqlite::{lists, rows};
use crate::store::suite::{opened, row, with_payload};

/// What the `sqlite3` program answers, columns split by `|`.
fn shell(path: &std::path::Path, sql: &str) -> String {
    let output = Command::new("sqlite3")
        .arg("-readonly")
        .arg(path)
        .arg(sql)
        .output()
        .expect("sqlite3 is not on PATH: install the package sqlite3");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{sql}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_sqlite3_program_shows_messages_as_people_write_them() {
    let (folder, store) = fresh().await;
    let at = Timestamp::parse("2026-11-23T22:04:13.000456789Z").unwrap();
    let said = r#"{"v":1,"text":"grüß dich","reply_to":{"id":"x","seq":1},"data":{"a":[1]}}"#;
    let spoken = Row { at, ..with_payload(row(2, 1), said) };
    let raw = Row { conversation: None, id: None, who: None, kind: None, author: None, ..with_payload(row(3, 1), "{") };
    let bytes = Row { payload: vec![0xff, 0].into(), ..Row { seq: 4, ..raw.clone() } };
    store.record(vec![opened(1, 1, "ada"), spoken, raw, bytes]).await.unwrap();
    let path = options(&folder).path;
    let columns = "seq, at, conversation, who, kind, author, text, reply_to_seq, data";
    assert_eq!(
        shell(&path, &format!("SELECT {columns} FROM v_messages WHERE seq = 2")),
        "2|2026-11-23T22:04:13.000456789Z|0198c0de-0000-7000-8000-000000000001|user|text|guest-1|grüß dich|1|{\"a\":[1]}\n"
    );
    assert_eq!(shell(&path, "SELECT id FROM v_messages WHERE seq = 1"), "019ab697-e801-7000-8000-000000000000\n");
    assert_eq!(shell(&path, "SELECT count(*), count(text) FROM v_messages"), "4|2\n");
    assert_eq!(
        shell(&path, "SELECT conversation, owner, messages, last_at FROM v_conversations"),
        "0198c0de-0000-7000-8000-000000000001|ada|2|2026-11-23T22:04:13.000456789Z\n"
    );
    assert_eq!(shell(&path, "PRAGMA integrity_check"), "ok\n");
    store.close().await.unwrap();
    assert_eq!(shell(&path, "SELECT count(*) FROM messages"), "4\n");
}

#[tokio::test]
async fn no_query_looks_at_all_messages() {
    let (_folder, store) = fresh().await;
    let queries = [
        rows::page_sql(true),
        rows::page_sql(false),
        rows::by_id_sql(),
        rows::scan_sql(),
        lists::recent_sql(),
        lists::owned_sql(),
    ];
    for sql in queries {
        let explain = format!("EXPLAIN QUERY PLAN {sql}");
        let plan = store
            .read("explain", move |connection| {
                let mut statement = connection.prepare(&explain)?;
                let steps =
                    statement.raw_query().mapped(|step| step.get::<_, String>(3)).collect::<Result<Vec<_>, _>>();
                steps.map(|steps| steps.join("; "))
            })
            .await
            .unwrap();
        assert!(!plan.contains("SCAN m"), "{sql}: {plan}");
        let sorts = plan.contains("TEMP B-TREE");
        assert!(!sorts || sql == lists::owned_sql(), "{sql}: {plan}");
        let by_both = !sql.contains("m.conversation = ?1") || plan.contains("(conversation=? AND rowid");
        assert!(by_both, "{sql}: {plan}");
    }
    store.close().await.unwrap();
}
