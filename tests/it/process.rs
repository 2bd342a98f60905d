//! Starting and stopping: what the program says and how it ends.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::client::Api;
use crate::harness::{All, children, eventually};

#[tokio::test]
async fn a_second_yalo_on_one_data_folder_names_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let (code, output, errors) = crate::harness::all(folder.path(), "second", &[]).finish().await;
    assert_eq!((code, output.as_str()), (Some(1), ""), "{errors}");
    assert!(errors.contains(&all.process().pid().to_string()) && errors.contains("data.dir"), "{errors}");
    // The first one is not disturbed.
    let api = Api::connect(&all.place().frontends[0]).await;
    api.post("/v1/chat", json!({"text": "still here"})).await.expect(200);
    all.stop().await;
}

#[tokio::test]
async fn a_used_port_is_refused_with_the_key_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for key in ["frontend.listen", "admin.listen"] {
        let setting = format!("{key}={}", taken.local_addr().unwrap());
        let (code, output, errors) = crate::harness::all(folder.path(), "refused", &[&setting]).finish().await;
        assert_eq!((code, output.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.contains(key), "{errors}");
    }
}

#[tokio::test]
async fn a_wrong_setting_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let setting = "frontend.answer_timeout_sm=5";
    let (code, _, errors) = crate::harness::all(folder.path(), "refused", &[setting]).finish().await;
    assert_ne!(code, Some(0));
    assert!(errors.contains("answer_timeout_sm") && errors.contains("answer_timeout_ms"), "{errors}");
}

#[tokio::test]
async fn a_missing_nats_server_is_an_error_that_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let setting = "nats.server=/nowhere/nats-server";
    let (code, _, errors) = crate::harness::all(folder.path(), "refused", &[setting]).finish().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("/nowhere/nats-server") && errors.contains("nats.server"), "{errors}");
}

#[tokio::test]
async fn both_signals_to_stop_end_it_cleanly_with_its_nats_server() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        let mut all = All::start(folder.path()).await;
        let place = all.place();
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        me.post("/v1/chat", json!({"text": "before the end", "conversation": conversation})).await.expect(200);
        // Open streams must not hold the stop up.
        let mut socket = me.signed_in_socket().await;
        let path = format!("/v1/conversations/{conversation}/events");
        let mut events = me.events(crate::client::Call { path: &path, ..Default::default() }).await;
        let server = children(all.process().pid());
        assert_eq!(server.len(), 1, "one nats-server: {server:?}");
        all.process().signal(signal);
        let bye = socket.read().await.unwrap();
        assert_eq!((&bye["type"], &bye["code"]), (&json!("bye"), &json!("stopping")));
        assert_eq!(socket.read().await.unwrap_err(), "closed 1001");
        assert_eq!(events.next().await.map(|event| event.name).as_deref(), Some("bye"));
        // No second signal: that would end it at once.
        all.ends_cleanly().await;
        eventually(Duration::from_secs(5), "the end of nats-server", async || (!lives(server[0])).then_some(())).await;
    }
}

#[tokio::test]
async fn a_killed_yalo_takes_its_nats_server_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    let server = children(all.process().pid());
    all.kill9();
    eventually(Duration::from_secs(5), "the end of nats-server", async || (!lives(server[0])).then_some(())).await;
    all.restart().await;
    all.stop().await;
}

/// Whether there is such a process that has not ended.
fn lives(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !status.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z')
}
