//! Rows that are there in part: what is left of a write that was cut off, once somebody has read some of its columns.

use super::fresh;
use crate::store::cql::columns::uuid;
use crate::store::suite::{conversation, row, seqs};
use crate::store::{Contract, PageQuery};

#[tokio::test]
async fn a_row_that_is_there_in_part_hides_no_other_and_is_whole_once_it_is_delivered_again() {
    let (_, store) = fresh().await;
    let (session, keyspace) = (&store.shared.flight.session, &store.shared.options.keyspace);
    store.record((1..=3).map(|seq| row(seq, 1)).collect::<Vec<_>>()).await.unwrap();
    // One of a conversation, cut off before the log; one of the log.
    let (fourth, fifth) = (row(4, 1), row(5, 2));
    let text = format!("INSERT INTO {keyspace}.messages (conversation, part, seq, digest) VALUES (?, 0, 4, ?)");
    session.query_unpaged(text, (uuid(&conversation(1)), &fourth.digest)).await.unwrap();
    let text =
        format!("INSERT INTO {keyspace}.log (stream, block, shard, seq, digest, at_ns) VALUES (0, 0, 0, 5, ?, ?)");
    session.query_unpaged(text, (&fifth.digest, fifth.at.ns())).await.unwrap();

    let page =
        async || seqs(&store.page(conversation(1), PageQuery { limit: 10, ..PageQuery::default() }).await.unwrap());
    assert_eq!(page().await, [1, 2, 3]);
    assert_eq!(seqs(&store.scan(0, 10).await.unwrap()), [1, 2, 3]);
    assert_eq!((store.by_seq(5).await.unwrap(), store.last_seq().await.unwrap()), (None, Some(5)));
    assert_eq!(store.recent(None, 10).await.unwrap().len(), 1);

    let recorded = store.record(vec![fourth.clone(), fifth.clone()]).await.unwrap();
    assert_eq!((recorded.written, recorded.known), (1, 1));
    assert_eq!(page().await, [1, 2, 3, 4]);
    assert_eq!(store.scan(3, 10).await.unwrap(), [fourth, fifth]);
    store.close().await.unwrap();
}
