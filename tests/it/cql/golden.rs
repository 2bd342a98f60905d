//! A keyspace as version 1 left it, which every later release reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use scylla::client::session::Session;
use yalo::audit::{Decoded, decode};
use yalo::bus::Record;
use yalo::domain::{ConversationId, Kind, ListCursor, Row, Timestamp, Who};
use yalo::store::{Contract, Copies, CqlOptions, PageQuery, Store, StoreOptions};
use yalo::wire::Subjects;

use crate::harness::deployment::{SUPERUSER, session, shared};

/// The tables of version 1, and a row after the other.
const GOLDEN: &str = include_str!("../../golden/store-v1.cql");
const SCHEMA: &str = include_str!("../../../src/store/cql/schema/1.cql");
/// Where the second block and the second era of the log begin.
const BLOCK: u64 = 1 << 18;
const ERA: u64 = 1 << 34;

async fn options(keyspace: &str) -> StoreOptions {
    StoreOptions::Cql(CqlOptions {
        nodes: shared().await.addresses(),
        keyspace: keyspace.to_owned(),
        replication: "1".to_owned(),
        datacenter: String::new(),
        user: SUPERUSER.0.to_owned(),
        password: SUPERUSER.1.to_owned(),
        ca: None,
        consistency: Copies::LocalQuorum,
        connections: 1,
        in_flight: 64,
        timeout: std::time::Duration::from_secs(20),
        read_only: false,
        fullness: Arc::default(),
    })
}

/// Every column of a keyspace, and its place in the keys.
async fn columns(session: &Session, keyspace: &str) -> BTreeSet<(String, String, String, i32, String, String)> {
    let text = "SELECT table_name, column_name, kind, position, type, clustering_order FROM system_schema.columns WHERE \
                keyspace_name = ?";
    let found = session.query_unpaged(text, (keyspace,)).await.unwrap().into_rows_result().unwrap();
    found.rows().unwrap().map(Result::unwrap).collect()
}

fn conversation(number: u8) -> ConversationId {
    ConversationId::parse(&format!("0198c0de-0000-7000-8000-{number:012x}")).unwrap()
}

/// The row is what its message becomes: digest and columns.
fn is_whole(row: &Row) {
    let subjects = Subjects::new("yalo").unwrap();
    let subject = row.subject.clone().unwrap_or_else(|| subjects.record(row.conversation.unwrap(), row.who.unwrap()));
    let record = Record { subject, seq: row.seq, at: row.at, payload: row.payload.clone() };
    let Decoded { row: expected, .. } = decode(&subjects, &record);
    assert_eq!(row, &expected);
}

fn seqs<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<u64> {
    rows.into_iter().map(|row| row.seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_version_1_wrote_is_read_whole_and_written_on() {
    let session = session(&shared().await.addresses()).await;
    let replication = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
    session.query_unpaged(format!("CREATE KEYSPACE golden WITH replication = {replication}"), ()).await.unwrap();
    session.use_keyspace("golden", false).await.unwrap();
    assert!(GOLDEN.starts_with(SCHEMA), "a version is never changed: the next one goes into a script of its own");
    for statement in GOLDEN.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        session.query_unpaged(statement, ()).await.unwrap_or_else(|error| panic!("{error}: {statement}"));
    }
    let tables: BTreeSet<String> = columns(&session, "golden").await.into_iter().map(|column| column.0).collect();
    for table in tables {
        let rows = session.query_unpaged(format!("SELECT * FROM {table} LIMIT 1"), ()).await.unwrap();
        assert_eq!(rows.into_rows_result().unwrap().rows_num(), 1, "nothing in {table}");
    }

    // The scripts lead to the same tables, wherever they begin.
    let (golden, fresh) = (options("golden").await, options("golden_fresh").await);
    for options in [&golden, &fresh] {
        Store::create(options).await.unwrap();
    }
    assert_eq!(columns(&session, "golden").await, columns(&session, "golden_fresh").await);

    let store = Store::open(&golden).await.unwrap();
    let rows = store.scan(0, 1000).await.unwrap();
    let dense = (4..=22).chain(22..=46);
    assert_eq!(seqs(&rows), dense.chain([BLOCK + 7, ERA + 5, ERA + 6, ERA + 7]).collect::<Vec<_>>());
    rows.iter().for_each(is_whole);
    for who in Who::ALL {
        assert!(rows.iter().any(|row| row.who == Some(who)), "{who:?}");
    }
    for kind in Kind::ALL {
        assert!(rows.iter().any(|row| row.kind == Some(kind)), "{kind:?}");
    }
    assert!(rows.iter().any(|row| row.conversation.is_none()));
    assert_eq!(store.by_seq(5).await.unwrap().as_ref(), rows.get(1));
    assert_eq!((store.retired_below().await.unwrap(), store.last_seq().await.unwrap()), (4, Some(ERA + 7)));
    let totals = store.totals().await.unwrap();
    assert_eq!((totals.messages, totals.first.unwrap().seq), (ERA + 4, 4));

    // Each by itself: from both ends, and who owns it.
    for (number, owner) in [(1, Some("ada")), (2, Some("bob")), (3, None), (12, Some("ada"))] {
        let id = conversation(number);
        let own: Vec<&Row> = rows.iter().filter(|row| row.conversation == Some(id)).collect();
        for after in [Some(0), None] {
            let page = store.page(id, PageQuery { after, before: None, limit: 100 }).await.unwrap();
            assert_eq!(page.iter().collect::<Vec<_>>(), own, "{number}");
        }
        for seq in seqs(own.iter().copied()) {
            for (after, before) in [(Some(seq - 1), None), (None, Some(seq + 1))] {
                assert_eq!(seqs(&store.page(id, PageQuery { after, before, limit: 1 }).await.unwrap()), [seq]);
            }
        }
        let found = store.conversation(id).await.unwrap().unwrap();
        assert_eq!((found.owner.as_deref(), found.first_at), (owner, own[0].at));
        assert_eq!(&found.last, *own.last().unwrap());
        let Some(message) = own.iter().find_map(|row| row.id) else { panic!("no id in {number}") };
        assert_eq!(store.by_id(id, message).await.unwrap().unwrap().id, Some(message));
    }
    let listed = async |before, limit| {
        let found = store.recent(before, limit).await.unwrap();
        found.into_iter().map(|found| found.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 3).await, [1, 12, 2].map(conversation));
    let at = rows.iter().find(|row| row.seq == 46).unwrap().at;
    let before = ListCursor { last_at: at, conversation: conversation(1) };
    assert_eq!(listed(Some(before), 3).await, [conversation(3)]);
    let owned = store.owned_by("ada", None, 10).await.unwrap();
    assert_eq!(owned.iter().map(|found| found.id).collect::<Vec<_>>(), [1, 12].map(conversation));
    assert_eq!(store.owned_by("eve", None, 10).await.unwrap().len(), 0);
    let streams = store.streams().await.unwrap();
    assert_eq!(streams.iter().map(|stream| stream.above_seq).collect::<Vec<_>>(), [0, 22]);

    // What is delivered again is known, what is new is stored, what is old goes: of a table, if need be, all.
    assert_eq!(store.record(rows.clone()).await.unwrap().known, rows.len());
    let new = Row { seq: ERA + 8, at: Timestamp::now(), ..rows[0].clone() };
    assert_eq!(store.record(vec![new]).await.unwrap().written, 1);
    for (before, last, left) in [(at, ERA, 6), (Timestamp::now(), ERA + 8, 0)] {
        while store.retire(before, last).await.unwrap().more {}
        assert_eq!(store.scan(0, 1000).await.unwrap().len(), left);
    }
    for table in ["log", "messages", "conversations", "activity"] {
        let left = session.query_unpaged(format!("SELECT * FROM {table} LIMIT 1"), ()).await.unwrap();
        assert_eq!(left.into_rows_result().unwrap().rows_num(), 0, "left in {table}");
    }
    let left = session.query_unpaged("SELECT owner FROM user_conversations", ()).await.unwrap();
    let left = left.into_rows_result().unwrap();
    let left: Vec<String> = left.rows::<(String,)>().unwrap().map(|row| row.unwrap().0).collect();
    assert!(!left.iter().any(|owner| ["ada", "bob"].contains(&owner.as_str())), "{left:?}");
    store.close().await.unwrap();
}
