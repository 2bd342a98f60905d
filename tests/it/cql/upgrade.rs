//! A newer release with another schema, which exists in these tests only, beside a fleet of this one.

use std::fs;
use std::path::Path;

use async_nats::jetstream::{self, stream};
use futures_util::future::join_all;
use scylla::client::session::Session;

use super::talk::Talk;
use crate::client::Api;
use crate::harness::deployment::{Deployment, shared};
use crate::harness::{PATIENCE, Start, eventually};

/// What the newer release adds to `log`: enough that it can be killed in the middle.
const COLUMNS: usize = 24;

/// A command of the newer release.
fn newer(all: &Deployment, folder: &Path, words: &[&str], more: &[&str]) -> Start {
    let file = folder.join("next.cql");
    let columns = (0..COLUMNS).map(|number| format!("ALTER TABLE log ADD later_{number} text; -- {number}\n"));
    let table = "CREATE TABLE IF NOT EXISTS later (\n    name text PRIMARY KEY\n);\n".to_owned();
    fs::write(&file, columns.chain([table]).collect::<String>()).unwrap();
    let mut start = all.tool(words, more);
    start.environment.push(("DELIBERATE_SCHEMA".to_owned(), file.display().to_string()));
    start
}

async fn version(session: &Session) -> usize {
    let found = session.query_unpaged("SELECT value FROM settings WHERE name = 'schema'", ()).await.unwrap();
    found.into_rows_result().unwrap().single_row::<(String,)>().unwrap().0.parse().unwrap()
}

/// How much of it is there.
async fn added(session: &Session) -> usize {
    let columns =
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = 'upgrade' AND table_name = 'log'";
    let found = session.query_unpaged(columns, ()).await.unwrap().into_rows_result().unwrap();
    found.rows::<(String,)>().unwrap().filter(|row| row.as_ref().unwrap().0.starts_with("later_")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_release_brings_the_tables_up_to_date_however_often_it_is_killed_while_this_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Deployment::start_at(folder.path(), shared().await.addresses().remove(0), "upgrade").await;
    let place = all.fleet.place();
    let operator = Api::operator(&place).await;
    let session = all.session().await;
    let mut talk = Talk::begin(&place).await;
    talk.say(3).await;
    talk.stored(&operator).await;
    let older = version(&session).await;
    let next = |words: &[&str]| newer(&all, folder.path(), words, &[]);
    let waits_for_init = async |roles: &[&[&str]]| {
        for words in roles {
            let (code, _, errors) = next(words).finish().await;
            let named = errors.contains(&format!("version {older}")) && errors.contains("run `yalo init`");
            assert!(code == Some(1) && named, "{words:?}: {code:?} {errors}");
        }
    };
    waits_for_init(&[&["auditor"], &["admin"], &["audit", "verify"], &["export"]]).await;

    let mut init = next(&["init"]).spawn();
    eventually(PATIENCE, "the middle of it", async || (added(&session).await > COLUMNS / 4).then_some(())).await;
    init.kill9();
    let half = added(&session).await;
    assert!(half < COLUMNS, "it was done before it was killed");
    assert_eq!(version(&session).await, older);
    waits_for_init(&[&["auditor"]]).await;
    talk.say(1).await;
    talk.stored(&operator).await;

    // One of them does the rest, when the turn of the dead one is over.
    let said = join_all((0..3).map(async |_| {
        let (code, output, errors) = next(&["init"]).finish().await;
        assert_eq!(code, Some(0), "{output}{errors}");
        output
    }))
    .await;
    let line = format!("to version {} of the schema", older + 1);
    assert_eq!(said.iter().filter(|output| output.contains(&line)).count(), 1, "{said:?}");
    assert_eq!((added(&session).await, version(&session).await), (COLUMNS, older + 1));
    session.query_unpaged("SELECT name FROM later", ()).await.unwrap();

    // Roles of this release run on, until somebody starts one anew.
    talk.say(3).await;
    talk.stored(&operator).await;
    talk.is_whole(&operator).await;
    let (code, output, errors) = next(&["audit", "verify"]).finish().await;
    assert_eq!(code, Some(0), "{output}{errors}");
    for words in [&["auditor"][..], &["init"]] {
        let (code, _, errors) = all.tool(words, &[]).finish().await;
        assert!(code == Some(1) && errors.contains("newer"), "{words:?}: {errors}");
    }

    // An older store without its NATS: the stream that is made begins above it.
    let another = ["nats.prefix=another", "store.keyspace=another"];
    let (code, _, errors) = all.tool(&["init"], &["store.keyspace=another"]).finish().await;
    assert_eq!(code, Some(0), "{errors}");
    for text in [
        "INSERT INTO another.log_eras (stream, era) VALUES (0, 0)",
        "INSERT INTO another.log_blocks (stream, era, block) VALUES (0, 0, 0)",
        "INSERT INTO another.log (stream, block, shard, seq, digest, at_ns, payload) VALUES (0, 0, 15, 1000, 0x00, 1, 0x7b7d)",
    ] {
        session.query_unpaged(text, ()).await.unwrap();
    }
    let (code, output, errors) = newer(&all, folder.path(), &["init"], &another).finish().await;
    assert_eq!(code, Some(0), "{output}{errors}");
    assert!(output.contains(&line) && output.contains("first_seq 1001"), "{output}");

    // One that NATS refuses afterwards says what is changed by then, and what is not.
    let foreign = ["nats.prefix=foreign", "store.keyspace=foreign"];
    let (code, _, errors) = all.tool(&["init"], &["store.keyspace=foreign"]).finish().await;
    assert_eq!(code, Some(0), "{errors}");
    let nats = async_nats::connect(all.fleet.nats_url()).await.unwrap();
    let subjects = vec!["somebody.else".to_owned()];
    let stream = stream::Config { name: "FOREIGN_CHAT".to_owned(), subjects, ..stream::Config::default() };
    jetstream::new(nats).create_stream(stream).await.unwrap();
    let (code, _, errors) = newer(&all, folder.path(), &["init"], &foreign).finish().await;
    let said = ["the store is changed", &line, "nothing was changed on NATS", "it is not (only) yalo's"];
    assert!(code == Some(1) && said.iter().all(|words| errors.contains(words)), "{errors}");
    all.fleet.stop().await;
}
