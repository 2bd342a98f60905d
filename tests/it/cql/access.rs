//! Who may talk to the cluster: sign-in and TLS, and what is said when one of them does not fit.

use std::time::{Duration, Instant};

use serde_json::json;

use super::talk::Talk;
use crate::client::Api;
use crate::harness::deployment::{Deployment, SUPERUSER, session, shared};
use crate::harness::{PATIENCE, Start, eventually, lasting_address};

/// A refusal comes without the wait for a cluster that is away.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_yalo_out_is_named_with_its_key_and_the_way_out() {
    let cassandra = shared().await;
    let (plain, tls, nobody) = (&cassandra.addresses()[0], &cassandra.tls_addresses()[0], &lasting_address());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| cassandra.folder().join(name).display().to_string();
    let (right, stranger, missing) = (file("ca.pem"), file("stranger.pem"), file("missing.pem"));
    let empty = folder.path().join("empty.pem").display().to_string();
    std::fs::write(&empty, "no certificate\n").unwrap();
    let (user, secret) = SUPERUSER;
    let wrong = "not the password";
    for (what, node, ca, (user, password), code, words) in [
        ("no TLS", tls, "", (user, secret), 1, ["store.ca", "want TLS"]),
        ("a file that is missing", tls, &missing, (user, secret), 1, ["store.ca", "missing.pem"]),
        ("a file of something else", tls, &empty, (user, secret), 1, ["store.ca", "empty.pem"]),
        ("a stranger", tls, &stranger, (user, secret), 1, ["store.ca", "signed"]),
        ("TLS where there is none", plain, &right, (user, secret), 1, ["store.ca", "do not speak TLS"]),
        ("nobody, with TLS", tls, &right, ("", ""), 1, ["store.user", "store.password"]),
        ("nobody", plain, "", ("", ""), 1, ["store.user", "store.password"]),
        ("a wrong password, with TLS", tls, &right, (user, wrong), 1, ["store.password", "correct"]),
        ("a wrong password", plain, "", (user, wrong), 1, ["store.password", "correct"]),
        ("nobody there", nobody, "", (user, secret), 4, ["store.nodes", "start"]),
        ("all is right", tls, &right, (user, secret), 1, ["keyspace", "yalo init"]),
    ] {
        let settings = [
            "kind=cql",
            &format!("nodes={node}"),
            &format!("ca={ca}"),
            &format!("user={user}"),
            &format!("password={password}"),
        ]
        .map(|setting| format!("store.{setting}"));
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let arguments = ["export"].into_iter().chain(settings).map(str::to_owned).collect();
        let begun = Instant::now();
        let export =
            Start { name: "export".to_owned(), folder: folder.path().to_owned(), arguments, ..Start::default() };
        let (ended, _, errors) = export.finish().await;
        println!("{what}: {errors}");
        assert_eq!(ended, Some(code), "{what}: {errors}");
        let said = errors.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(words.iter().all(|word| said.contains(word)) && said.contains(node.as_str()), "{what}: {said}");
        assert!(!errors.contains(wrong) && begun.elapsed() < SOON, "{what}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_make_keyspaces_is_enough_and_one_who_may_not_write_is_told() {
    let cassandra = shared().await;
    let session = session(&cassandra.addresses()).await;
    for text in [
        "CREATE ROLE writer WITH LOGIN = true AND PASSWORD = 'the writer''s'",
        "CREATE ROLE reader WITH LOGIN = true AND PASSWORD = 'readers'",
        "GRANT CREATE ON ALL KEYSPACES TO writer",
    ] {
        session.query_unpaged(text, ()).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let ca = format!("store.ca={}", cassandra.folder().join("ca.pem").display());
    let settings = [&ca, "store.user=writer", "store.password=the writer's", "store.timeout_ms=10000"];
    let address = cassandra.tls_addresses().remove(0);
    let mut all = Deployment::start_with(folder.path(), address, "access", &settings).await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let mut talk = Talk::begin(&place).await;
    talk.say(5).await;
    talk.stored(&operator).await;
    talk.is_whole(&operator).await;
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])), "{report}");

    let reader = ["store.user=reader", "store.password=readers"];
    // A right takes effect when the node looks again, within seconds.
    session.query_unpaged("GRANT SELECT ON KEYSPACE access TO reader", ()).await.unwrap();
    eventually(PATIENCE, "a reader who may read", async || {
        let (code, _, errors) = all.tool(&["audit", "verify"], &reader).finish().await;
        assert!(code == Some(0) || errors.contains("store.user"), "{errors}");
        (code == Some(0)).then_some(())
    })
    .await;
    let (code, _, errors) = all.tool(&["init"], &[&reader[..], &["store.keyspace=other"]].concat()).finish().await;
    assert!(code == Some(1) && errors.contains("store.user"), "{errors}");
    all.fleet.stop_auditors().await;
    let mut auditor = all.role("auditor-1", &reader).spawn();
    talk.say(1).await;
    auditor.fails(&["store.user", "right"]).await;
    // Nothing of it was acknowledged.
    all.fleet.start_again("auditor-2").await;
    talk.stored(&operator).await;
    talk.is_whole(&operator).await;
}
