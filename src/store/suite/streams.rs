//! The stream that the rows belong to.

use super::{conversation, opened, row};
use crate::domain::Timestamp;
use crate::store::{BoundStream, Contract, Heritage, StreamBinding};

pub(in crate::store) async fn a_stream_is_bound_once_and_another_one_is_named(store: &impl Contract) {
    let (old, new) = (Timestamp::from_ns(1_764_000_000_123_456_789), Timestamp::from_ns(1_764_000_000_123_456_790));
    let bound = |created, above_seq| BoundStream { name: "YALO_CHAT".to_owned(), created, above_seq };
    assert_eq!(store.bind_stream("YALO_CHAT", old).await.unwrap(), StreamBinding::New);
    assert_eq!(store.bind_stream("YALO_CHAT", old).await.unwrap(), StreamBinding::Same);
    store.record(vec![row(41, 1), row(42, 1)]).await.unwrap();
    // Made anew under the same name; asking does not bind it.
    for _ in 0..2 {
        let binding = store.bind_stream("YALO_CHAT", new).await.unwrap();
        assert_eq!(binding, StreamBinding::Other { bound: bound(old, 0), last_seq: 42 });
    }
    // Two auditors decide to go on.
    store.rebind_stream("YALO_CHAT", new).await.unwrap();
    store.rebind_stream("YALO_CHAT", new).await.unwrap();
    assert_eq!(store.bind_stream("YALO_CHAT", new).await.unwrap(), StreamBinding::Same);
    assert!(matches!(store.bind_stream("OTHER", new).await.unwrap(), StreamBinding::Other { .. }));
    assert_eq!(store.streams().await.unwrap(), [bound(old, 0), bound(new, 42)]);
}

pub(in crate::store) async fn what_another_store_knows_is_taken_over(store: &impl Contract) {
    let stream =
        |ms, above_seq| BoundStream { name: "YALO_CHAT".to_owned(), created: Timestamp::from_ms(ms), above_seq };
    let streams = vec![stream(1_764_000_000_002, 0), stream(1_764_000_000_003, 0), stream(1_764_000_000_001, 7)];
    let heritage = Heritage { streams: streams.clone(), retired_below: 5, owners: Vec::new() };
    for heritage in [heritage.clone(), Heritage { retired_below: 3, ..heritage }] {
        store.inherit(heritage).await.unwrap();
        assert_eq!(store.streams().await.unwrap(), streams);
        assert_eq!((store.retired_below().await.unwrap(), store.last_seq().await.unwrap()), (5, Some(4)));
    }
    let rows = vec![row(4, 1), row(5, 1), row(6, 2)];
    let recorded = store.record(rows.clone()).await.unwrap();
    assert_eq!((recorded.known, recorded.written), (1, 2));
    assert_eq!(store.scan(0, 10).await.unwrap(), rows[1..]);
    let owners = vec![(conversation(1), "ada".to_owned())];
    for _ in 0..2 {
        store.inherit(Heritage { owners: owners.clone(), ..Heritage::default() }).await.unwrap();
    }
    store.record(vec![opened(7, 1, "late"), opened(8, 2, "bob")]).await.unwrap();
    for (number, owner) in [(1, "ada"), (2, "bob")] {
        assert_eq!(store.conversation(conversation(number)).await.unwrap().unwrap().owner.as_deref(), Some(owner));
        assert_eq!(store.owned_by(owner, None, 10).await.unwrap()[0].id, conversation(number));
    }
    assert_eq!(store.owned_by("late", None, 10).await.unwrap(), []);
    assert_eq!((store.retired_below().await.unwrap(), store.streams().await.unwrap()), (5, streams));
}
