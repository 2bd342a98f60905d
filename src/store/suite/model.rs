//! Random calls against the store and against a plain map: both must say the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{START_MS, began, conversation, counted, counts, opened, row, with_payload};
use crate::domain::{Row, Timestamp};
use crate::store::{Contract, PageQuery};

/// Rows of few conversations and close sequences, some of them known, some in conflict.
fn calls() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let row = (1..200u64, 0..4u8, 0..12u8, 0..5_000u64).prop_map(|(seq, number, shape, step_ms)| {
        // What a sequence holds follows from the sequence, so most repetitions are redeliveries.
        let number = if shape == 0 { number } else { u8::try_from(seq % 4).unwrap() };
        let made = if seq % 9 == 0 { opened(seq, number, &format!("user-{}", seq % 2)) } else { row(seq, number) };
        let at = Timestamp::from_ms(START_MS + seq * 1000 - seq * 7919 % 5_000);
        match shape {
            0 => Row { at, ..with_payload(made, &format!("other {number} {step_ms}")) },
            _ if seq % 17 == 0 => Row { at, conversation: None, id: None, ..made },
            _ => Row { at, ..made },
        }
    });
    prop::collection::vec(prop::collection::vec(row, 0..30), 1..40)
}

pub(in crate::store) async fn the_store_agrees_with_a_map(store: &impl Contract) {
    let mut runner = TestRunner::deterministic();
    let calls = calls().new_tree(&mut runner).unwrap().current();
    let mut model: BTreeMap<u64, Row> = BTreeMap::new();
    for call in calls {
        let (mut written, mut known, mut conflicts) = (0, 0, Vec::new());
        for row in &call {
            match model.get(&row.seq) {
                None => {
                    model.insert(row.seq, row.clone());
                    written += 1;
                }
                Some(stored) if stored.digest == row.digest => known += 1,
                Some(_) => conflicts.push(row.seq),
            }
        }
        let mut recorded = store.record(call).await.unwrap();
        conflicts.sort_unstable();
        recorded.conflicts.sort_unstable();
        assert_eq!((recorded.written, recorded.known, recorded.conflicts), (written, known, conflicts));
    }
    assert!(model.len() > 100, "too few rows to mean anything: {}", model.len());
    assert_eq!(store.scan(0, 1000).await.unwrap(), model.values().cloned().collect::<Vec<_>>());
    let counts = counts(store).await;
    let totals = store.totals().await.unwrap();
    assert!(!counts || totals.messages == u64::try_from(model.len()).unwrap());
    for seq in [0, 1, 37, 100, 150, 199] {
        assert_eq!(store.by_seq(seq).await.unwrap(), model.get(&seq).cloned());
        for number in 0..4 {
            let of_it = model.values().filter(|row| row.conversation == Some(conversation(number)));
            let after = of_it.clone().filter(|row| row.seq > seq).take(5).cloned().collect::<Vec<_>>();
            let query = PageQuery { after: Some(seq), before: None, limit: 5 };
            assert_eq!(store.page(conversation(number), query).await.unwrap(), after);
            let mut before = of_it.filter(|row| row.seq < seq).cloned().collect::<Vec<_>>();
            let query = PageQuery { after: None, before: Some(seq), limit: 5 };
            assert_eq!(
                store.page(conversation(number), query).await.unwrap(),
                before.split_off(before.len().saturating_sub(5))
            );
        }
        let (from, to) = (Timestamp::from_ms(START_MS), Timestamp::from_ms(START_MS + seq * 1000));
        let within = model.values().filter(|row| from <= row.at && row.at < to).count();
        let counted = store.count_between(from, to).await.unwrap();
        assert!(!counts || counted == u64::try_from(within).unwrap(), "{counted}, {within}");
        assert_eq!(store.between(from, to, 0, 1000).await.unwrap().len(), within);
    }
    for found in store.recent(None, 100).await.unwrap() {
        let rows = model.values().filter(|row| row.conversation == Some(found.id)).collect::<Vec<_>>();
        assert!(counted(found.messages, rows.len()), "{found:?}");
        assert_eq!(&found.last, *rows.last().unwrap());
        assert!(began(found.first_at, &rows), "{found:?}");
        let first = rows.iter().find(|row| row.kind == Some(crate::domain::Kind::Opened));
        assert_eq!(found.owner, first.and_then(|row| row.author.clone()));
    }
}
