//! Equal reads at the same time are one read.

use futures_util::future::join_all;

use super::fresh;
use crate::domain::Timestamp;
use crate::store::suite::{conversation, row};
use crate::store::{Contract, PageQuery};

const READERS: usize = 20;

/// So many at once: all have the same answer, and they have asked together.
macro_rules! together {
    ($store:expr, $question:ident, $ask:expr) => {{
        let mut reads: Vec<_> = (0..READERS).map(|_| Box::pin($ask)).collect();
        for read in &mut reads {
            assert!(futures_util::poll!(read).is_pending(), "answered without being asked");
        }
        assert_eq!($store.shared.questions.$question.asking(), [READERS], stringify!($question));
        let answers: Vec<_> = join_all(reads).await.into_iter().map(Result::unwrap).collect();
        assert!(answers.windows(2).all(|two| two[0] == two[1]));
        assert_eq!($store.shared.questions.$question.asking(), [0; 0]);
    }};
}

#[tokio::test]
async fn equal_reads_at_the_same_time_are_one() {
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
