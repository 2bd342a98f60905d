//! Equal reads at the same time share a read, and none is older than the call.

use futures_util::future::join_all;

use super::fresh;
use crate::domain::Timestamp;
use crate::store::suite::{conversation, row};
use crate::store::{Contract, PageQuery};

const READERS: usize = 20;

/// So many at once: the first one asks, and all others share another question. All have the same answer.
macro_rules! together {
    ($store:expr, $question:ident, $ask:expr) => {{
        let mut reads: Vec<_> = (0..READERS).map(|_| Box::pin($ask)).collect();
        for read in &mut reads {
            assert!(futures_util::poll!(read).is_pending(), "answered without being asked");
        }
        assert_eq!($store.shared.questions.$question.asking(), [READERS - 1], stringify!($question));
        let answers: Vec<_> = join_all(reads).await.into_iter().map(Result::unwrap).collect();
        assert!(answers.windows(2).all(|two| two[0] == two[1]));
        assert_eq!($store.shared.questions.$question.asking(), [0; 0]);
    }};
}

#[tokio::test]
async fn equal_reads_at_the_same_time_share_one() {
    let (_, store) = fresh().await;
    store.record(vec![row(1, 1), row(2, 1)]).await.unwrap();
    let one = row(1, 1);
    let (from, to) = (Timestamp::from_ms(0), Timestamp::now());
    together!(store, totals, store.totals());
    together!(store, pages, store.page(conversation(1), PageQuery { limit: 10, ..PageQuery::default() }));
    together!(store, ones, store.conversation(conversation(1)));
    together!(store, by_seq, store.by_seq(1));
    together!(store, by_id, store.by_id(conversation(1), one.id.unwrap()));
    together!(store, between, store.between(from, to, 0, 10));
    together!(store, recent, store.recent(None, 10));
    together!(store, owned, store.owned_by("ada", None, 10));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_read_finds_what_was_stored_before_it_though_an_equal_one_did_not() {
    let (_, store) = fresh().await;
    let mut missed = 0;
    for seq in 1..=20 {
        let mut early = Box::pin(store.by_seq(seq));
        assert!(futures_util::poll!(&mut early).is_pending(), "answered without being asked");
        // As a rule the early question is answered when a later one is, and waits for somebody to hear of it.
        assert_eq!(store.by_seq(1000).await.unwrap(), None);
        store.record(vec![row(seq, 1)]).await.unwrap();
        let (late, early) = tokio::join!(store.by_seq(seq), early);
        assert_eq!(late.unwrap().map(|row| row.seq), Some(seq));
        missed += u32::from(early.unwrap().is_none());
    }
    assert!(missed > 0, "no early one was answered before the row was stored");
}
