//! A backup of the store is put back by the commands of README.md, as they are printed there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::client::{Api, number};
use crate::harness::{All, PATIENCE, eventually};

/// The commands from the one that makes the backup to the end of their block.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let lines = readme.lines().skip_while(|line| !line.starts_with("sqlite3 .yalo/messages.db \".backup"));
    lines.take_while(|line| *line != "```").map(str::to_owned).collect()
}

/// Runs one line where `.yalo` is and `yalo` is on the path.
fn run(folder: &Path, line: &str) -> Output {
    let programs = Path::new(env!("CARGO_BIN_EXE_yalo")).parent().unwrap().display();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("PATH={programs}:$PATH; {line}")).current_dir(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("YALO_") || name.starts_with("NATS_")) {
            command.env_remove(name);
        }
    }
    command.output().unwrap()
}

/// Some turns, and everything in the store: the transcript there.
async fn talk(all: &All, me: &Api, conversation: &str, turns: usize) -> Value {
    let place = all.place();
    let (me, operator) = (me.at(&place.frontends[0]), Api::operator(&place).await);
    let mut last = 0;
    for turn in 0..turns {
        let said = me.post("/v1/chat", json!({"text": format!("turn {turn}"), "conversation": conversation})).await;
        last = number(&said.expect(200)["answer"], "seq");
    }
    eventually(PATIENCE, "everything in the store", async || {
        let stats = operator.get("/admin/v1/stats").await.body;
        (stats["last_seq"].as_u64() >= Some(last)).then_some(())
    })
    .await;
    transcript(all, conversation).await
}

async fn transcript(all: &All, conversation: &str) -> Value {
    let operator = Api::operator(&all.place()).await;
    operator.get(&format!("/admin/v1/conversations/{conversation}/messages?limit=500")).await.expect(200)
}

#[tokio::test]
async fn a_backup_is_put_back_as_the_readme_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    std::os::unix::fs::symlink("data", folder.path().join(".yalo")).unwrap();
    let (me, conversation) = Api::guest(&all.place().frontends[0]).await;
    let early = talk(&all, &me, &conversation, 5).await;
    let (mut whole, mut said) = (Value::Null, Vec::new());
    for line in commands() {
        match line.as_str() {
            "# stop yalo" => {
                // The backup is behind by now.
                whole = talk(&all, &me, &conversation, 5).await;
                assert_ne!(whole, early);
                all.stop().await;
            }
            "# start yalo" => {
                all.restart().await;
                assert_eq!(transcript(&all, &conversation).await, early, "the backup is what runs");
            }
            _ => {
                let output = run(folder.path(), &line);
                let printed = String::from_utf8_lossy(&output.stdout).into_owned();
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                let code = if line.ends_with("ends with 3") { 3 } else { 0 };
                assert_eq!(output.status.code(), Some(code), "{line}: {printed}{errors}");
                said.push(printed);
            }
        }
    }
    let [_, _, missing, mended, complete] = &said[..] else { panic!("{said:?}") };
    assert!(missing.contains("12 to 21"), "{missing}");
    assert!(mended.contains("10 messages were missing and are stored now"), "{mended}");
    assert!(complete.contains("complete: nothing is missing"), "{complete}");
    assert_eq!(transcript(&all, &conversation).await, whole);
    all.stop().await;
}
