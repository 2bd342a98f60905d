//! Copies between two files: what is carried over, what is named, and where a later run may begin.

use tempfile::TempDir;

use super::*;
use crate::domain::Timestamp;
use crate::store::suite::retention::retire;
use crate::store::suite::{START_MS, conversation, opened, row, seqs, with_payload};
use crate::store::{Refused, Sqlite, SqliteOptions, StreamBinding};

async fn open(folder: &TempDir, name: &str) -> Sqlite {
    let options = SqliteOptions { path: folder.path().join(name), readers: 2, read_only: false };
    Sqlite::open(&options).await.unwrap()
}

async fn both() -> (TempDir, Sqlite, Sqlite) {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (open(&folder, "source.db").await, open(&folder, "target.db").await);
    (folder, source, target)
}

fn after(ms: u64) -> Timestamp {
    Timestamp::from_ms(START_MS + ms)
}

async fn run(source: &Sqlite, target: &Sqlite, from: u64) -> Copied {
    copy(source, target, from, |_, _| ()).await.unwrap()
}

#[tokio::test]
async fn a_copy_has_every_row_and_a_second_run_brings_the_rest() {
    let (_folder, source, target) = both().await;
    let far = 1 << 40;
    let rows: Vec<Row> =
        (1..=2500).chain([2503, far, far + 1]).map(|seq| row(seq, u8::try_from(seq % 7).unwrap())).collect();
    source.record(rows.clone()).await.unwrap();
    // Some are there already, from both sides of the edge of a window.
    target.record(rows[900..1100].to_vec()).await.unwrap();
    let (mut told, mut last) = (0, 0);
    let copied = copy(&source, &target, 0, |done, all| (told, last) = (done.max(told), all)).await.unwrap();
    assert_eq!(target.scan(0, 10_000).await.unwrap(), rows);
    let holes = 2 + (far - 2504);
    let expected = Copied { from: 1, upto: far + 1, rows: 2503, stored: 2303, holes, next: 2501, ..Copied::default() };
    assert_eq!(copied, expected);
    assert_eq!((told, last), (far + 1, far + 1));
    source.record((2501..=2502).map(|seq| row(seq, 1)).collect::<Vec<_>>()).await.unwrap();
    let copied = run(&source, &target, copied.next).await;
    assert_eq!((copied.from, copied.rows, copied.stored, copied.next), (2501, 5, 2, 2504));
    assert_eq!(run(&source, &target, 0).await.stored, 0);
    assert_eq!(run(&source, &target, far + 2).await.rows, 0);
}

#[tokio::test]
async fn each_difference_is_named_and_mends_nothing() {
    let (_folder, source, target) = both().await;
    source.record((1..=2000).filter(|seq| *seq != 1500).map(|seq| row(seq, 1)).collect::<Vec<_>>()).await.unwrap();
    let others = [700, 701].map(|seq| with_payload(row(seq, 1), "another"));
    target.record([&others[..], &[row(1500, 1), row(2001, 1)]].concat()).await.unwrap();
    // The digest alone is no proof.
    let altered = Row { at: after(1), ..row(900, 1) };
    target.record(vec![altered.clone()]).await.unwrap();
    let copied = run(&source, &target, 0).await;
    let difference = |from, to, unlike| Difference { from, to, unlike };
    let expected = [
        difference(700, 701, Unlike::Other),
        difference(900, 900, Unlike::Other),
        difference(1500, 1500, Unlike::Extra),
    ];
    assert_eq!((copied.differences, copied.differing, copied.next), (expected.to_vec(), 4, 700));
    assert_eq!(target.by_seq(700).await.unwrap().as_ref(), Some(&others[0]));
    assert_eq!(target.by_seq(900).await.unwrap(), Some(altered));
    // What lies above the first store's last is none of its business.
    assert_eq!(target.last_seq().await.unwrap(), Some(2001));
}

#[tokio::test]
async fn a_hole_that_the_second_store_fills_is_gone_through_in_steps() {
    let (_folder, source, target) = both().await;
    let filled = 10_000;
    let rows = |from, to| (from..=to).map(|seq| row(seq, 1)).collect::<Vec<_>>();
    source.record([rows(1, 10), rows(filled, filled + 10)].concat()).await.unwrap();
    target.record(rows(5, filled - 1)).await.unwrap();
    // What is read at once does not grow with the hole.
    let span = span(&target, 1, filled, 10).await.unwrap();
    assert!(span.to < 50 && span.rows.len() < 50, "{} {}", span.to, span.rows.len());
    let copied = run(&source, &target, 0).await;
    let extra = Difference { from: 11, to: filled - 1, unlike: Unlike::Extra };
    assert_eq!((copied.rows, copied.stored, copied.holes, copied.next), (21, 15, 0, 11));
    assert_eq!((copied.differing, copied.differences), (filled - 11, vec![extra]));
    assert_eq!(target.totals().await.unwrap().messages, filled + 10);
}

#[tokio::test]
async fn what_was_retired_stays_away_and_its_owners_are_known() {
    let (_folder, source, target) = both().await;
    let rows = [vec![opened(1, 1, "ada"), opened(2, 2, "bob")], (3..=3000).map(|seq| row(seq, 1)).collect()].concat();
    source.record(rows.clone()).await.unwrap();
    source.record(vec![row(3001, 2), opened(3002, 1, "thief")]).await.unwrap();
    retire(&source, after(100), 3000).await;
    run(&source, &target, 0).await;
    for store in [&source, &target] {
        assert_eq!(store.retired_below().await.unwrap(), 100);
        for (number, owner) in [(1, "ada"), (2, "bob")] {
            let found = store.conversation(conversation(number)).await.unwrap().unwrap();
            assert_eq!(found.owner.as_deref(), Some(owner));
            assert_eq!(store.owned_by(owner, None, 10).await.unwrap().len(), 1);
        }
    }
    assert_eq!(target.record(rows[..100].to_vec()).await.unwrap().known, 100);
    assert_eq!(target.totals().await.unwrap(), source.totals().await.unwrap());
    // More goes there. Here it stays: a copy removes nothing.
    retire(&source, after(2000), 3000).await;
    let copied = run(&source, &target, 0).await;
    assert_eq!((copied.from, copied.holes, copied.is_equal()), (2000, 0, true));
    assert_eq!(target.retired_below().await.unwrap(), 100);
    assert_eq!(target.scan(0, 10_000).await.unwrap()[1900..], source.scan(0, 10_000).await.unwrap());
    // What the second one alone has retired is not brought back.
    retire(&target, after(2500), 3000).await;
    let copied = run(&source, &target, 0).await;
    assert_eq!((copied.from, copied.stored, copied.is_equal()), (2500, 0, true));
    assert_eq!(seqs(&target.scan(0, 1).await.unwrap()), [2500]);
}

#[tokio::test]
async fn another_record_is_not_mixed_with_this_one() {
    let (folder, source, target) = both().await;
    assert!(matches!(copy(&source, &target, 0, |_, _| ()).await, Err(CopyError::Empty)));
    source.bind_stream("YALO_CHAT", after(0)).await.unwrap();
    source.record(vec![row(1, 1), row(2, 1)]).await.unwrap();
    source.rebind_stream("YALO_CHAT", after(1)).await.unwrap();
    source.record(vec![row(3, 1)]).await.unwrap();
    run(&source, &target, 0).await;
    let streams = source.streams().await.unwrap();
    assert_eq!(streams.iter().map(|stream| stream.above_seq).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(target.streams().await.unwrap(), streams);
    assert_eq!(target.bind_stream("YALO_CHAT", after(1)).await.unwrap(), StreamBinding::Same);
    // The second one is in use, and knows of a stream more.
    target.rebind_stream("YALO_CHAT", after(2)).await.unwrap();
    assert!(run(&source, &target, 0).await.is_equal());
    let other = open(&folder, "other.db").await;
    other.bind_stream("OTHER", after(0)).await.unwrap();
    let error = copy(&source, &other, 0, |_, _| ()).await.unwrap_err().to_string();
    assert!(error.contains("OTHER") && error.contains("YALO_CHAT"), "{error}");
    assert_eq!(other.scan(0, 10).await.unwrap(), []);
}

#[test]
fn two_rows_at_one_sequence_have_to_be_two_on_both_sides() {
    let twins = [row(4, 1), with_payload(row(4, 1), "twin"), row(5, 1)];
    let told = |one: &[Row], other: &[Row]| {
        let refused = [Refused { seq: 5, reason: "too long".to_owned() }];
        let compared = compare((3, 6), one, other, &refused);
        (compared.holes, compared.differences.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(told(&twins, &twins), (vec![(3, 3), (6, 6)], Vec::new()));
    let (_, said) = told(&twins, &twins[..1]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("4: another row") && said[1].ends_with("second store: too long"), "{said:?}");
    let mut compared = compare((1, 9), &twins, &[], &[]);
    compared.forget(5, 7);
    assert_eq!(compared.holes, [(7, 9)]);
    assert_eq!(compared.differences, [Difference { from: 5, to: 5, unlike: Unlike::Missing(None) }]);
}
