//! The keyspace: missing, made once, of another version, dropped while it is used.

use super::{Cql, CqlOptions, fresh, nodes, options};
use crate::domain::{Kind, Row, Timestamp, Who};
use crate::store::suite::row;
use crate::store::{Contract, StoreError};

async fn refused(options: &CqlOptions) -> String {
    let error = Cql::open(options).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_) | StoreError::NewerVersion { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_keyspace_is_made_once_and_a_missing_one_is_named() {
    let options = options().await;
    let said = refused(&options).await;
    assert!(said.contains(&options.keyspace) && said.contains("yalo init"), "{said}");
    let done = Cql::create(&options).await.unwrap();
    assert_eq!(done.len(), 2, "{done:?}");
    assert_eq!(Cql::create(&options).await.unwrap(), Vec::<String>::new());
    let store = Cql::open(&options).await.unwrap();
    let reader = Cql::open(&CqlOptions { read_only: true, ..options }).await.unwrap();
    assert!(matches!(reader.record(vec![row(1, 1)]).await, Err(StoreError::ReadOnly { .. })));
    let settings = store.settings().await.unwrap();
    assert_eq!(settings[0].fits, nodes() > 2, "one copy is not safe");
    assert_eq!((settings[2].name, settings[2].found.as_str(), settings[2].fits), ("commitlog_sync", "batch", true));
}

#[tokio::test]
async fn another_version_of_the_schema_is_refused_by_name() {
    let (_, store) = fresh().await;
    let session = &store.shared.flight.session;
    for (version, word) in [("99", "newer"), ("0", "yalo init")] {
        let keyspace = &store.shared.options.keyspace;
        let text = format!("INSERT INTO {keyspace}.settings (name, value) VALUES ('schema', '{version}')");
        session.query_unpaged(text, ()).await.unwrap();
        let said = refused(&store.shared.options).await;
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn a_table_that_is_dropped_in_mid_flight_stops_the_writer_by_name() {
    let (_, store) = fresh().await;
    store.record(vec![row(1, 1)]).await.unwrap();
    let text = format!("DROP TABLE {}.messages", store.shared.options.keyspace);
    store.shared.flight.session.query_unpaged(text, ()).await.unwrap();
    let error = store.record(vec![row(2, 1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)) && !error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("yalo init"), "{error}");
}

#[tokio::test]
async fn a_row_too_large_for_the_cluster_is_refused_and_the_others_are_stored() {
    let (_, store) = fresh().await;
    let large = Row { payload: vec![b'x'; 9 << 20].into(), ..row(2, 1) };
    let recorded = store.record(vec![row(1, 1), large, row(3, 1)]).await.unwrap();
    assert_eq!((recorded.written, recorded.refused.len()), (2, 1), "{recorded:?}");
    assert_eq!(recorded.refused[0].seq, 2);
    // An owner who is longer than any key can be is listed nowhere, and spoils nothing.
    for (seq, number, length, listed) in [(4, 2, 65_527, 1), (6, 3, 65_528, 0), (8, 4, 70_000, 0)] {
        let owner = "x".repeat(length);
        let (who, kind, author) = (Some(Who::Meta), Some(Kind::Opened), Some(owner.clone()));
        let opened = Row { who, kind, author, ..row(seq, number) };
        let recorded = store.record(vec![opened, row(seq + 1, number)]).await.unwrap();
        assert_eq!((recorded.written, recorded.refused.len()), (2, 0), "{recorded:?}");
        assert_eq!(store.last_seq().await.unwrap(), Some(seq + 1));
        assert_eq!(store.owned_by(&owner, None, 10).await.unwrap().len(), listed, "{length}");
    }
    while store.retire(Timestamp::now(), 9).await.unwrap().more {}
    assert_eq!(store.scan(0, 10).await.unwrap(), []);
    let error = Cql::open(&CqlOptions { nodes: vec!["127.0.0.1:1".to_owned()], ..store.shared.options.clone() }).await;
    assert!(error.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_data_centre_that_is_not_there_is_named_with_its_key() {
    let (options, store) = fresh().await;
    let error = Cql::open(&CqlOptions { datacenter: "nowhere".to_owned(), ..options }).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("store.datacenter"), "{error}");
    store.close().await.unwrap();
}
