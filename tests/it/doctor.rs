//! `yalo doctor`: what is well is said to be well; what is changed on purpose is named, with what mends it.

use std::path::Path;

use async_nats::jetstream;
use serde_json::{Value, json};

use crate::client::Api;
use crate::harness::{All, Cluster, Fleet, PATIENCE, Start, eventually, lasting_address, nats_server};

/// One finding, as JSON tells it.
#[derive(Debug)]
struct Found {
    check: String,
    level: String,
    all: String,
    mend: String,
}

/// Runs `yalo doctor --json` with more arguments: exit code and findings.
async fn doctor(beside: &Start, more: &[&str]) -> (Option<i32>, Vec<Found>) {
    let (code, output, errors) = run(beside, &[&["doctor", "--json"], more].concat()).await;
    let told: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}{errors}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let found = |finding: &Value| Found {
        check: text(finding, "check"),
        level: text(finding, "level"),
        all: format!("{} {}", text(finding, "found"), text(finding, "risk")),
        mend: text(finding, "mend"),
    };
    (code, told["findings"].as_array().unwrap().iter().map(found).collect())
}

async fn run(beside: &Start, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    Start { name: "doctor".to_owned(), arguments, ..beside.clone() }.finish().await
}

/// What has to be mended, but for the folder: tests live in one for temporary files.
fn bad(found: &[Found]) -> Vec<&Found> {
    let bad = |found: &&Found| ["risk", "fault"].contains(&found.level.as_str()) && found.check != "folder";
    found.iter().filter(bad).collect()
}

/// That exactly one thing is bad, of this check, and that it says these words; what mends it.
fn only<'found>(found: &'found [Found], check: &str, words: &str) -> &'found str {
    let bad = bad(found);
    assert!(bad.len() == 1 && bad[0].check == check && bad[0].all.contains(words), "{check}: {words}: {bad:?}");
    &bad[0].mend
}

fn start(folder: &Path) -> Start {
    let data = folder.join("data").display().to_string();
    // Little enough for any machine.
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Start {
        folder: folder.to_owned(),
        environment: vec![
            set("YALO_DATA__DIR", &data),
            set("YALO_NATS__MAX_BYTES", "1000000000"),
            set("YALO_NATS__SERVER", &nats_server().display().to_string()),
            set("YALO_FRONTEND__MAX_CONNECTIONS", "100"),
        ],
        ..Start::default()
    }
}

#[tokio::test]
async fn a_laptop_is_well_but_for_its_temporary_folder() {
    let folder = tempfile::tempdir().unwrap();
    let beside = start(folder.path());
    // Before anything ran: only the machine.
    let (code, found) = doctor(&beside, &["--accept", "folder"]).await;
    assert_eq!((code, bad(&found).len()), (Some(0), 0), "{found:?}");
    assert!(found.iter().any(|found| found.check == "nats" && found.mend.contains("yalo all")), "{found:?}");

    let settings = ["nats.max_bytes=1000000000", "nats.sync_interval=200ms", "frontend.max_connections=100"];
    let mut all = All::start_with(folder.path(), &settings).await;
    Api::guest(&all.place().frontends[0]).await;
    let (code, found) = doctor(&beside, &[]).await;
    assert_eq!((code, bad(&found).len()), (Some(3), 0), "{found:?}");
    let told = |check: &str, words: &str| {
        assert!(
            found.iter().any(|found| found.check == check && found.all.contains(words)),
            "{check} {words}: {found:?}"
        );
    };
    told("folder", "in a folder for temporary files");
    // As the one that runs was started, not as this command was.
    told("sync", "nats.sync_interval is 200ms");
    told("copies", "once, on one server");
    told("clock", "this machine's clock");
    told("streams", "20 streams and consumers are as planned");
    told("window", "120 s");
    told("work", "bots are at work");
    told("work", "auditors are at work");
    told("store", "journal_mode");
    told("server", "nats-server 2.");
    assert_eq!(doctor(&beside, &["--accept", "folder"]).await.0, Some(0));
    // For people.
    let (code, output, _) = run(&beside, &["doctor", "--accept", "folder"]).await;
    assert_eq!(code, Some(0));
    assert!(output.contains("\nknown  folder") && output.ends_with("nothing has to be mended\n"), "{output}");
    assert!(output.contains("      mend: "), "{output}");
    let (code, _, errors) = run(&beside, &["doctor", "--accept", "folders"]).await;
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("folders") && errors.contains("window"), "{errors}");

    // A foreign hand at the store.
    let store = rusqlite::Connection::open(folder.path().join("data/messages.db")).unwrap();
    store.execute_batch("CREATE TRIGGER foreign_hand AFTER INSERT ON messages BEGIN SELECT 1; END").unwrap();
    let (code, found) = doctor(&beside, &[]).await;
    assert_eq!(code, Some(3));
    assert!(only(&found, "store", "triggers is 1").contains("drop"));
    store.execute_batch("DROP TRIGGER foreign_hand").unwrap();
    drop(store);

    // What does not run is started for the look, and ended again.
    all.stop().await;
    let (code, found) = doctor(&beside, &["--accept", "folder"]).await;
    assert_eq!((code, bad(&found).len()), (Some(0), 0), "{found:?}");
    all.restart().await;
    all.stop().await;
}

#[tokio::test]
async fn what_a_foreign_hand_changed_in_a_fleet_is_named_and_init_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let mut beside = start(folder.path());
    beside.environment.truncate(1);
    beside.environment.push(("YALO_NATS__URL".to_owned(), fleet.nats_url()));
    let monitor = fleet.monitor();
    let (code, found) = doctor(&beside, &["--accept", "folder", "--accept", "files", "--accept", "disk"]).await;
    assert_eq!(code, Some(0), "{found:?}");
    assert!(found.iter().any(|found| found.check == "sync" && found.mend.contains("--monitor")), "{found:?}");
    // Of its own accord a nats-server finds a dead line after four minutes only, and says so on its page.
    let (_, found) = doctor(&beside, &["--monitor", &monitor]).await;
    assert!(only(&found, "window", "ends a dead connection after 240s").contains("ping_interval"));
    let told = |check: &str, words: &str| found.iter().any(|found| found.check == check && found.all.contains(words));
    assert!(told("sync", "sync_interval is 100ms") && told("folder", "folder for temporary files"), "{found:?}");
    let (_, found) = doctor(&beside, &["--monitor", &format!("http://{}", lasting_address())]).await;
    assert!(only(&found, "server", "no page of a server").contains("8222"));

    let context = jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    let mut stream = context.get_stream("YALO_CHAT").await.unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    config.duplicate_window = std::time::Duration::from_secs(5);
    context.update_stream(&config).await.unwrap();
    let (code, found) = doctor(&beside, &[]).await;
    assert_eq!(code, Some(3));
    assert!(only(&found, "window", "stored a second time").contains("yalo init"));
    fleet.init().await;
    assert_eq!(bad(&doctor(&beside, &[]).await.1).len(), 0);

    fleet.stop_role("bot-1").await;
    fleet.stop_role("bot-2").await;
    fleet.stop_role("bot-3").await;
    stream.delete_consumer("bot-3").await.unwrap();
    let (_, found) = doctor(&beside, &[]).await;
    assert!(only(&found, "consumers", "consumer bot-3 of YALO_CHAT is missing").contains("yalo init"));
    fleet.init().await;
    // A question that nobody pulls.
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    me.post(&path, json!({"text": "is anybody there?"})).await.expect(202);
    let (_, found) = doctor(&beside, &[]).await;
    assert!(only(&found, "work", "1 messages lie there").contains("yalo bot"));
    fleet.start_again("bot-1").await;
    // Pulls of the bots that left are forgotten when they run out; the new one has each group at once.
    eventually(PATIENCE, "nothing to be mended", async || bad(&doctor(&beside, &[]).await.1).is_empty().then_some(()))
        .await;

    // The machine is looked at whether NATS answers or not.
    fleet.stop_nats();
    let (code, found) = doctor(&beside, &["--set", "nats.connect_timeout_ms=500"]).await;
    assert_eq!(code, Some(4), "{found:?}");
    only(&found, "nats", "can't be looked at");
    assert!(found.iter().any(|found| found.check == "files"), "{found:?}");
}

#[tokio::test]
async fn a_cluster_that_lost_a_server_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path()).await;
    let mut beside = start(folder.path());
    beside.environment.push(("YALO_NATS__URL".to_owned(), cluster.url()));
    let (code, _, errors) = run(&beside, &["init"]).await;
    assert_eq!(code, Some(0), "{errors}");
    let (_, found) = doctor(&beside, &["--accept", "store"]).await;
    assert!(
        found.iter().any(|found| found.check == "copies" && found.mend.contains("nats.replicas to 3")),
        "{found:?}"
    );
    beside.environment.push(("YALO_NATS__REPLICAS".to_owned(), "3".to_owned()));
    let (code, _, errors) = run(&beside, &["init"]).await;
    assert_eq!(code, Some(0), "{errors}");
    cluster.is_whole(PATIENCE).await;
    let of_copies = |found: &[Found]| {
        found.iter().filter(|found| found.check == "copies").map(|f| f.level.clone()).collect::<Vec<_>>()
    };
    let (_, found) = doctor(&beside, &[]).await;
    assert_eq!(of_copies(&found), ["ok"], "{found:?}");
    let (_, follower) = cluster.leader_and_follower().await;
    cluster.kill9(follower);
    cluster.is_missed(follower, PATIENCE).await;
    let (code, found) = doctor(&beside, &[]).await;
    assert_eq!((code, of_copies(&found)), (Some(3), vec!["ok".to_owned(), "risk".to_owned()]), "{found:?}");
    assert!(found.iter().any(|found| found.all.starts_with(&format!("{follower} "))), "{found:?}");
}
