//! A nats-server that is too old, not there, or goes away.

use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::Api;
use crate::harness::{All, PATIENCE, Start, all, children, eventually};

/// A frontend of a fleet whose NATS is at `url`.
fn frontend(folder: &std::path::Path, url: &str) -> Start {
    let arguments = ["frontend", "--set", "frontend.listen=127.0.0.1:0", "--set", "ops.listen=127.0.0.1:0"];
    Start {
        name: "frontend".to_owned(),
        folder: folder.to_owned(),
        arguments: arguments.map(str::to_owned).into(),
        environment: vec![
            ("YALO_NATS__URL".to_owned(), url.to_owned()),
            ("YALO_AUTH__GUEST_KEY".to_owned(), "a key that all frontends of this fleet share".to_owned()),
        ],
        ..Start::default()
    }
}

#[tokio::test]
async fn a_program_that_is_too_old_is_refused_by_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("nats-server");
    std::fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.9.25'\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    let setting = format!("nats.server={}", old.display());
    let (code, _, errors) = all(folder.path(), "refused", &[&setting]).finish().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("2.9.25") && errors.contains("2.11.0") && errors.contains("make run"), "{errors}");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_by_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    // What a nats-server of 2022 says when somebody connects.
    let greeting = json!({
        "server_id": "OLD", "server_name": "old", "version": "2.9.0", "proto": 1, "go": "go1.19", "host": "127.0.0.1",
        "port": 4222, "headers": true, "max_payload": 1_048_576, "jetstream": true,
    });
    let old = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(format!("INFO {greeting}\r\n").as_bytes()).await.unwrap();
            let (mut heard, mut buffer) = (String::new(), [0; 1024]);
            while !heard.contains("PING\r\n") {
                let length = stream.read(&mut buffer).await.unwrap();
                heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            stream.write_all(b"PONG\r\n").await.unwrap();
            // It stays until the other side goes.
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        }
    };
    let start = frontend(folder.path(), &url);
    let (code, _, errors) = tokio::select! {
        () = old => unreachable!(),
        ended = start.finish() => ended,
    };
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("2.9.0") && errors.contains("2.11.0") && errors.contains("nats.url"), "{errors}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_refused_by_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("nats://{}", crate::harness::lasting_address());
    let (code, _, errors) = frontend(folder.path(), &url).finish().await;
    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains(&url) && errors.contains("nats.url"), "{errors}");
}

#[tokio::test]
async fn a_managed_server_that_dies_comes_back_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let (me, conversation) = Api::guest(&all.place().frontends[0]).await;
    me.post("/v1/chat", json!({"text": "before", "conversation": conversation})).await.expect(200);
    for round in 0..2 {
        let server = children(all.process().pid());
        kill_process(Pid::from_raw(i32::try_from(server[0]).unwrap()).unwrap(), Signal::KILL).unwrap();
        // Whoever asks meanwhile waits, or is told to come again: never anything else.
        let words = format!("after {round}");
        let message = json!({"text": words, "conversation": conversation, "id": crate::client::new_id()});
        let said = eventually(PATIENCE, "an answer", async || {
            let answer = me.post("/v1/chat", message.clone()).await;
            assert!(matches!(answer.status, 200 | 202 | 503), "{answer:?}");
            assert_eq!(answer.status == 503, answer.headers.contains_key("retry-after"), "{answer:?}");
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        assert_eq!(said["answer"]["text"], json!(words));
    }
    let page = me.get(&format!("/v1/conversations/{conversation}/messages")).await.expect(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 7, "{page}");
    all.stop().await;
}

#[tokio::test]
async fn while_nats_is_away_a_fleet_says_so_and_goes_on_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = crate::harness::Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    fleet.stop_nats();
    let ready = format!("{}/readyz", fleet.role("frontend-1").address("ops"));
    eventually(PATIENCE, "not ready, and why", async || {
        let page = reqwest::get(&ready).await.unwrap();
        (page.status() == 503 && page.text().await.unwrap().contains("trying again: ")).then_some(())
    })
    .await;
    let message = json!({"text": "meanwhile", "id": crate::client::new_id()});
    let path = format!("/v1/conversations/{conversation}/messages");
    let refused = me.post(&path, message.clone()).await;
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    refused.refused(503, "unavailable");
    fleet.restart_nats();
    let accepted = eventually(PATIENCE, "the message accepted", async || {
        let answer = me.post(&path, message.clone()).await;
        (answer.status == 202).then_some(answer.body)
    })
    .await;
    let after = crate::client::text(&accepted, "cursor");
    let answer = me.get(&format!("{path}?after={after}&wait=30")).await.expect(200);
    assert_eq!(answer["messages"][0]["text"], "meanwhile");
    eventually(PATIENCE, "ready again", async || (reqwest::get(&ready).await.unwrap().status() == 200).then_some(()))
        .await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_role_that_finds_no_streams_says_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = crate::harness::Fleet::start(folder.path()).await;
    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    context.delete_consumer_from_stream("bot-7", "YALO_CHAT").await.unwrap();
    context.delete_stream("YALO_DEAD").await.unwrap();
    let (code, _, errors) = frontend(folder.path(), &fleet.nats_url()).finish().await;
    assert_eq!(code, Some(1), "{errors}");
    for word in ["bot-7", "YALO_DEAD", "yalo init"] {
        assert!(errors.contains(word), "{word}: {errors}");
    }
}
