//! Retention: what was retired lies below one sequence, and everything above it is as if the rest had never been there.

use std::collections::{BTreeMap, BTreeSet};

use super::{START_MS, began, conversation, counted, opened, row, seqs};
use crate::domain::{Conversation, Row, Timestamp};
use crate::store::{Contract, PageQuery};

fn after(ms: u64) -> Timestamp {
    Timestamp::from_ms(START_MS + ms)
}

fn number(number: u64) -> u8 {
    u8::try_from(number).unwrap()
}

/// Step after step until no more goes; how many rows went.
pub(in crate::store) async fn retire(store: &impl Contract, before: Timestamp, upto: u64) -> u64 {
    let mut gone = 0;
    // Bounded: a store that never ends fails below.
    for _ in 0..100 {
        let retired = store.retire(before, upto).await.unwrap();
        gone += retired.rows;
        if !retired.more {
            return gone;
        }
    }
    panic!("it never ends");
}

/// Rows, sums and lists are those of the model above what was retired, and nothing that must stay went.
pub(in crate::store) async fn agrees(store: &impl Contract, model: &BTreeMap<u64, Row>) {
    let below = store.retired_below().await.unwrap();
    let left: Vec<Row> = model.range(below..).map(|(_, row)| row.clone()).collect();
    assert_eq!(store.scan(0, 10_000).await.unwrap(), left);
    let totals = store.totals().await.unwrap();
    let expected: BTreeSet<_> = left.iter().filter_map(|row| row.conversation).collect();
    assert_eq!(totals.messages, left.len() as u64);
    assert!(counted(totals.conversations, expected.len()));
    assert_eq!(totals.first.map(|place| place.seq), left.first().map(|row| row.seq));
    let (least, most) = (Timestamp::from_ns(i64::MIN), Timestamp::from_ns(i64::MAX));
    assert_eq!(store.count_between(least, most).await.unwrap(), totals.messages);
    assert_eq!(store.between(least, most, 0, 10_000).await.unwrap(), left);
    let listed = store.recent(None, 1000).await.unwrap();
    assert_eq!(listed.iter().map(|found| found.id).collect::<BTreeSet<_>>(), expected);
    for found in listed {
        let rows: Vec<&Row> = left.iter().filter(|row| row.conversation == Some(found.id)).collect();
        assert!(counted(found.messages, rows.len()));
        assert_eq!(&found.last, *rows.last().unwrap());
        assert!(began(found.first_at, &rows));
        let query = PageQuery { after: Some(0), before: None, limit: 10_000 };
        assert_eq!(store.page(found.id, query).await.unwrap().len(), rows.len());
    }
    // A new row lies above all that ever were.
    assert_eq!(store.last_seq().await.unwrap(), model.keys().last().copied());
}

pub(in crate::store) async fn what_is_retired_leaves_everything_else_whole(store: &impl Contract) {
    let rows = (1..=9000).map(|seq| if seq % 100 == 1 { opened(seq, 1, "ada") } else { row(seq, number(seq / 1000)) });
    let model: BTreeMap<u64, Row> = rows.map(|row| (row.seq, row)).collect();
    for rows in model.values().cloned().collect::<Vec<_>>().chunks(3000) {
        store.record(rows.to_vec()).await.unwrap();
    }
    assert_eq!(store.retired_below().await.unwrap(), 0);
    agrees(store, &model).await;
    let mut gone = 0;
    // Nothing is old enough; some is, and not passed yet; some; all.
    for (before, upto, most) in [(0, 9000, 0), (9001, 50, 50), (5000, 9000, 4999), (99_999, 9000, 9000)] {
        gone += retire(store, after(before), upto).await;
        assert!(gone <= most, "{gone} of {most}");
        assert!(store.retired_below().await.unwrap() <= most + 1);
        agrees(store, &model).await;
    }
}

pub(in crate::store) async fn what_was_retired_does_not_come_back(store: &impl Contract) {
    let model: BTreeMap<u64, Row> = (1..=20).map(|seq| (seq, row(seq, number(seq % 2)))).collect();
    let rows: Vec<Row> = model.values().cloned().collect();
    store.record(rows.clone()).await.unwrap();
    retire(store, after(11), 20).await;
    // Some of them in one call with a new one.
    let again = rows.iter().cloned().chain([row(21, 1)]).collect::<Vec<_>>();
    let recorded = store.record(again).await.unwrap();
    assert_eq!((recorded.written, recorded.known), (1, 20));
    let mut model = model;
    model.insert(21, row(21, 1));
    agrees(store, &model).await;
    // To the last row: also then a stream made anew begins above.
    retire(store, after(99_999), 21).await;
    assert_eq!(store.record(rows).await.unwrap().known, 20);
    agrees(store, &model).await;
    store.bind_stream("YALO_CHAT", after(0)).await.unwrap();
    assert_eq!(store.streams().await.unwrap()[0].above_seq, 21);
}

/// The same id comes again when a key of somebody else's is loaded again after all of it was retired.
pub(in crate::store) async fn what_was_retired_may_be_opened_again(store: &impl Contract) {
    store.record(vec![opened(1, 1, "ada"), row(2, 1), row(3, 2)]).await.unwrap();
    retire(store, after(99_999), 3).await;
    for (seq, owner, other) in [(10, "bob", "ada"), (20, "eve", "bob"), (30, "ada", "eve")] {
        let now = Timestamp::now();
        let rows = [opened(seq, 1, owner), row(seq + 1, 1), opened(seq + 2, 1, other)];
        store.record(rows.map(|row| Row { at: now, ..row }).to_vec()).await.unwrap();
        let found = store.conversation(conversation(1)).await.unwrap().expect("a conversation");
        assert_eq!((found.owner.as_deref(), found.last.seq), (Some(owner), seq + 2));
        let ids = |found: Vec<Conversation>| found.iter().map(|found| found.id).collect::<Vec<_>>();
        assert_eq!(ids(store.owned_by(owner, None, 10).await.unwrap()), [conversation(1)], "{owner}");
        assert_eq!(store.all_owned_by(owner).await.unwrap().len(), 1, "{owner}");
        assert_eq!(ids(store.owned_by(other, None, 10).await.unwrap()), [], "{other}");
        assert_eq!(store.all_owned_by(other).await.unwrap(), [], "{other}");
        // A part of it, then the rest.
        retire(store, Timestamp::from_ms(now.ms() + 1000), seq + 1).await;
        let found = store.conversation(conversation(1)).await.unwrap().expect("a conversation");
        assert_eq!(found.owner.as_deref(), Some(owner), "of the row that is left it is not the owner");
        retire(store, Timestamp::from_ms(now.ms() + 1000), seq + 2).await;
        assert!(store.conversation(conversation(1)).await.unwrap().is_none());
        assert_eq!(ids(store.owned_by(owner, None, 10).await.unwrap()), [], "{owner}");
        assert_eq!(store.all_owned_by(owner).await.unwrap(), [], "{owner}");
    }
}

pub(in crate::store) async fn nothing_goes_behind_a_row_that_stays(store: &impl Contract) {
    // The clock stepped back: the fifth row is younger than those that came after it.
    let times = [1, 2, 3, 4, 50, 5, 6, 7, 60, 61];
    let rows: Vec<Row> = (1..).zip(times).map(|(seq, ms)| Row { at: after(ms), ..row(seq, 1) }).collect();
    store.record(rows.clone()).await.unwrap();
    retire(store, after(40), 10).await;
    let left = seqs(&store.scan(0, 10).await.unwrap());
    assert!(left.ends_with(&[5, 6, 7, 8, 9, 10]), "{left:?}");
    agrees(store, &rows.into_iter().map(|row| (row.seq, row)).collect()).await;
    assert!(conversation(1) == store.recent(None, 2).await.unwrap()[0].id);
}

pub(in crate::store) async fn several_that_retire_at_once_leave_it_whole(store: &impl Contract) {
    let model: BTreeMap<u64, Row> = (1..=20_000).map(|seq| (seq, row(seq, number(seq % 7)))).collect();
    for rows in model.values().cloned().collect::<Vec<_>>().chunks(5000) {
        store.record(rows.to_vec()).await.unwrap();
    }
    let passes = (0..3).map(|_| retire(store, after(15_001), 20_000));
    let gone: u64 = futures_util::future::join_all(passes).await.iter().sum();
    let left = 20_000 - store.totals().await.unwrap().messages;
    // A cluster has no lock: two may find the same rows, and both say so.
    assert!(left > 0 && (gone == left || (gone > left && !super::counts(store).await)), "{gone} {left}");
    agrees(store, &model).await;
}
