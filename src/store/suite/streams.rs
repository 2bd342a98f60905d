//! The stream that the rows belong to.

use super::row;
use crate::domain::Timestamp;
use crate::store::{BoundStream, Contract, StreamBinding};

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
