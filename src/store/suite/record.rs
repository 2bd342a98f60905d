//! Recording: whole, once, and never one row over another.

use futures_util::future::join_all;

use super::{conversation, counted, row, seqs, with_payload};
use crate::domain::{Kind, Row, Timestamp, Who};
use crate::store::{Contract, PageQuery, Recorded, Retired, StoreError, Totals};

pub(in crate::store) async fn a_recorded_row_reads_back_whole(store: &impl Contract) {
    let texts = ["", "نص عربي \u{202e}rtl", "👩‍👩‍👧‍👦 e\u{301}", "a\u{0}b", "\u{10ffff}", "'; DROP TABLE messages; --"];
    let mut rows = Vec::new();
    for (number, (text, seq)) in texts.into_iter().zip(1..).enumerate() {
        let who = Some(Who::ALL[number % Who::ALL.len()]);
        let kind = Some(Kind::ALL[number % Kind::ALL.len()]);
        let subject = (number % 2 == 1).then(|| format!("foreign.{text}"));
        rows.push(Row { who, kind, subject, author: Some(text.to_owned()), ..with_payload(row(seq, 1), text) });
    }
    for (kind, seq) in Kind::ALL.into_iter().zip(100..) {
        rows.push(Row { kind: Some(kind), at: Timestamp::from_ns(1), ..row(seq, 2) });
    }
    let recorded = store.record(rows.clone()).await.unwrap();
    assert_eq!(recorded, Recorded { written: rows.len(), ..Recorded::default() });
    assert_eq!(store.scan(0, 1000).await.unwrap(), rows);
    for row in rows {
        assert_eq!(store.by_seq(row.seq).await.unwrap(), Some(row));
    }
}

pub(in crate::store) async fn what_could_not_be_decoded_is_kept_raw(store: &impl Contract) {
    let placed = Row { id: None, who: None, kind: None, author: None, ..with_payload(row(7, 1), "\u{0}garbage") };
    let nowhere = Row {
        conversation: None,
        subject: Some("yalo.chat.x.y.z".to_owned()),
        payload: vec![0xff, 0x00, 0xfe].into(),
        ..Row { seq: 8, ..placed.clone() }
    };
    store.record(vec![placed.clone(), nowhere.clone()]).await.unwrap();
    assert_eq!(store.scan(0, 10).await.unwrap(), [placed.clone(), nowhere]);
    let query = PageQuery { limit: 10, ..PageQuery::default() };
    assert_eq!(store.page(conversation(1), query).await.unwrap(), [placed]);
    let totals = store.totals().await.unwrap();
    assert_eq!(totals.messages, 2);
    assert!(counted(totals.conversations, 1));
    assert_eq!(store.recent(None, 10).await.unwrap().len(), 1);
}

pub(in crate::store) async fn a_redelivery_changes_nothing(store: &impl Contract) {
    let rows = (1..=20).map(|seq| row(seq, 1)).collect::<Vec<_>>();
    store.record(rows[..15].to_vec()).await.unwrap();
    // The second call brings ten known rows, five new ones, and one of them twice.
    let mut again = rows[5..].to_vec();
    again.push(rows[19].clone());
    let recorded = store.record(again).await.unwrap();
    assert_eq!(recorded, Recorded { written: 5, known: 11, ..Recorded::default() });
    assert_eq!(store.record(rows.clone()).await.unwrap().known, 20);
    assert_eq!(store.totals().await.unwrap().messages, 20);
    assert!(counted(store.conversation(conversation(1)).await.unwrap().unwrap().messages, 20));
    assert_eq!(store.count_between(rows[0].at, Timestamp::from_ns(i64::MAX)).await.unwrap(), 20);
    assert_eq!(store.scan(0, 100).await.unwrap(), rows);
}

pub(in crate::store) async fn rows_that_are_said_to_be_new_are_there_once_even_if_they_were_not(store: &impl Contract) {
    let rows = (1..=20).map(|seq| row(seq, if seq % 3 == 0 { 1 } else { 2 })).collect::<Vec<_>>();
    assert_eq!(store.record_above(0, rows[..15].to_vec()).await.unwrap().written, 15);
    // Another writer had them in hand as well, and did not look.
    store.record_above(0, rows[5..].to_vec()).await.unwrap();
    // What is not said to be new is looked for.
    let other = with_payload(row(3, 9), "another third");
    let recorded = store.record_above(12, vec![rows[9].clone(), other]).await.unwrap();
    assert_eq!(recorded, Recorded { written: 0, known: 1, conflicts: vec![3], refused: Vec::new() });
    assert_eq!(store.scan(0, 100).await.unwrap(), rows);
    assert_eq!(store.totals().await.unwrap().messages, 20);
    let query = PageQuery { limit: 100, ..PageQuery::default() };
    let first: Vec<Row> = rows.iter().filter(|row| row.seq % 3 == 0).cloned().collect();
    assert_eq!(store.page(conversation(1), query).await.unwrap(), first);
    assert_eq!(store.recent(None, 10).await.unwrap().len(), 2);
}

pub(in crate::store) async fn another_row_at_a_known_sequence_is_kept_out_and_named(store: &impl Contract) {
    store.record(vec![row(1, 1), row(2, 1)]).await.unwrap();
    let other = with_payload(row(2, 9), "another message");
    let recorded = store.record(vec![row(1, 1), other.clone(), row(3, 1)]).await.unwrap();
    assert_eq!(recorded, Recorded { written: 1, known: 1, conflicts: vec![2], refused: Vec::new() });
    // Again, and with both in one call.
    let within = with_payload(row(4, 9), "another fourth");
    let recorded = store.record(vec![other, row(4, 1), within]).await.unwrap();
    assert_eq!(recorded, Recorded { written: 1, known: 0, conflicts: vec![2, 4], refused: Vec::new() });
    assert_eq!(store.scan(0, 10).await.unwrap(), [row(1, 1), row(2, 1), row(3, 1), row(4, 1)]);
    assert_eq!(store.conversation(conversation(9)).await.unwrap(), None);
    assert_eq!(store.totals().await.unwrap().messages, 4);
}

pub(in crate::store) async fn a_row_that_cannot_be_stored_does_not_spoil_the_others(store: &impl Contract) {
    let recorded = store.record(vec![row(1, 1), Row { seq: u64::MAX, ..row(2, 1) }, row(3, 1)]).await.unwrap();
    assert_eq!((recorded.written, recorded.known), (2, 0));
    assert_eq!(recorded.refused.iter().map(|refused| refused.seq).collect::<Vec<_>>(), [u64::MAX]);
    assert_eq!(seqs(&store.scan(0, 10).await.unwrap()), [1, 3]);
}

pub(in crate::store) async fn several_writers_at_once_count_each_row_once(store: &impl Contract) {
    // Every row is brought by three writers, in calls of seven, each beginning elsewhere.
    let writers = (0..3u64).map(|writer| async move {
        for call in 0..40u64 {
            let first = (call * 7 + writer * 100) % 280;
            let rows = (first..first + 7).map(|seq| row(seq + 1, u8::try_from(seq % 5).unwrap()));
            let recorded = store.record(rows.collect::<Vec<_>>()).await.unwrap();
            assert_eq!(recorded.written + recorded.known, 7);
        }
    });
    join_all(writers).await;
    let totals = store.totals().await.unwrap();
    let stored = store.scan(0, 1000).await.unwrap();
    assert_eq!(totals.messages, u64::try_from(stored.len()).unwrap());
    let conversations = store.recent(None, 100).await.unwrap();
    let sum = conversations.iter().map(|conversation| conversation.messages).sum::<Option<u64>>();
    assert!(counted(sum, stored.len()));
    assert!(counted(totals.conversations, 5) && conversations.len() == 5);
}

pub(in crate::store) async fn a_call_without_rows_is_fine(store: &impl Contract) {
    assert_eq!(store.record(Vec::new()).await.unwrap(), Recorded::default());
}

pub(in crate::store) async fn an_empty_store_answers_everything(store: &impl Contract) {
    store.ping().await.unwrap();
    assert!(!store.settings().await.unwrap().is_empty());
    let (least, most) = (Timestamp::from_ns(i64::MIN), Timestamp::from_ns(i64::MAX));
    let Totals { messages, conversations, first, last } = store.totals().await.unwrap();
    assert_eq!((messages, first, last), (0, None, None));
    assert!(counted(conversations, 0));
    assert_eq!(store.last_seq().await.unwrap(), None);
    assert_eq!(store.retire(most, u64::MAX).await.unwrap(), Retired::default());
    assert_eq!(store.retired_below().await.unwrap(), 0);
    assert_eq!(store.count_between(least, most).await.unwrap(), 0);
    assert_eq!(store.between(least, most, 0, 10).await.unwrap(), []);
    assert_eq!(store.scan(0, 10).await.unwrap(), []);
    assert_eq!(store.by_seq(1).await.unwrap(), None);
    assert_eq!(store.by_id(conversation(1), super::id(0, 0)).await.unwrap(), None);
    assert_eq!(store.page(conversation(1), PageQuery { limit: 10, ..PageQuery::default() }).await.unwrap(), []);
    assert_eq!(store.conversation(conversation(1)).await.unwrap(), None);
    assert_eq!(store.recent(None, 10).await.unwrap(), []);
    assert_eq!(store.owned_by("", None, 10).await.unwrap(), []);
    assert_eq!(store.streams().await.unwrap(), []);
}

pub(in crate::store) async fn a_closed_store_says_so(store: &impl Contract) {
    store.record(vec![row(1, 1)]).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.record(vec![row(2, 1)]).await, Err(StoreError::Closed { .. })));
    assert!(matches!(store.by_seq(1).await, Err(StoreError::Closed { .. })));
    assert!(matches!(store.ping().await, Err(StoreError::Closed { .. })));
    store.close().await.unwrap();
}
