//! The contract as tests, over any store: each case gets a store of its own, empty.
//!
//! A variant runs them all with `suite::cases!(fresh)`, where `fresh()` gives something to keep alive and the store.

pub(super) mod lists;
pub(super) mod model;
pub(super) mod pages;
pub(super) mod record;
pub(super) mod retention;
pub(super) mod streams;
pub(super) mod times;

pub(super) use self::cases::{cases, run};
use crate::domain::{ConversationId, Kind, MessageId, Row, Timestamp, Who};
use crate::store::Contract;

mod cases {
    /// One test for each case of the suite.
    macro_rules! cases {
        ($fresh:path) => {
            $crate::store::suite::run! { $fresh:
                record::a_recorded_row_reads_back_whole,
                record::what_could_not_be_decoded_is_kept_raw,
                record::a_redelivery_changes_nothing,
                record::rows_that_are_said_to_be_new_are_there_once_even_if_they_were_not,
                record::another_row_at_a_known_sequence_is_kept_out_and_named,
                record::a_row_that_cannot_be_stored_does_not_spoil_the_others,
                record::several_writers_at_once_count_each_row_once,
                record::a_call_without_rows_is_fine,
                record::an_empty_store_answers_everything,
                record::a_closed_store_says_so,
                pages::pages_go_both_ways_without_gap_or_double,
                pages::both_bounds_and_odd_limits_are_honoured,
                pages::a_scan_meets_every_row_once,
                pages::a_message_is_found_by_its_id,
                times::spans_hold_exactly_their_rows,
                times::clocks_that_step_back_lose_no_row,
                lists::conversations_add_up_in_any_order_of_arrival,
                lists::the_first_opened_row_names_the_owner,
                lists::the_newest_conversations_come_first,
                lists::a_user_finds_only_what_is_theirs,
                streams::a_stream_is_bound_once_and_another_one_is_named,
                streams::what_another_store_knows_is_taken_over,
                model::the_store_agrees_with_a_map,
                retention::what_is_retired_leaves_everything_else_whole,
                retention::what_was_retired_does_not_come_back,
                retention::what_was_retired_may_be_opened_again,
                retention::nothing_goes_behind_a_row_that_stays,
                retention::several_that_retire_at_once_leave_it_whole,
            }
        };
    }
    macro_rules! run {
        ($fresh:path: $($module:ident::$case:ident,)*) => {$(
            #[tokio::test]
            async fn $case() {
                let (keep, store) = $fresh().await;
                $crate::store::suite::$module::$case(&store).await;
                $crate::store::Contract::close(&store).await.unwrap();
                drop(keep);
            }
        )*};
    }
    pub(in crate::store) use {cases, run};
}

/// The instant that tests start from.
pub(super) const START_MS: u64 = 1_764_000_000_000;

/// The `number`-th conversation of a test.
pub(super) fn conversation(number: u8) -> ConversationId {
    let mut bytes = *b"\x01\x98\xc0\xde\0\0\x70\0\x80\0\0\0\0\0\0\0";
    bytes[15] = number;
    ConversationId::from_bytes(bytes)
}

/// A message id with the time `ms` in it.
pub(super) fn id(ms: u64, number: u16) -> MessageId {
    let [_, _, time @ ..] = ms.to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&time);
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    bytes[14..].copy_from_slice(&number.to_be_bytes());
    MessageId::from_bytes(bytes)
}

/// A user's message, stored `seq` milliseconds after the start.
pub(super) fn row(seq: u64, conversation_number: u8) -> Row {
    let at_ms = START_MS + seq;
    with_payload(
        Row {
            seq,
            at: Timestamp::from_ms(at_ms),
            conversation: Some(conversation(conversation_number)),
            id: Some(id(at_ms, 0)),
            who: Some(Who::User),
            kind: Some(Kind::Text),
            author: Some("guest-1".to_owned()),
            subject: None,
            payload: bytes::Bytes::new(),
            digest: [0; 32],
        },
        &format!(r#"{{"v":1,"text":"message {seq}"}}"#),
    )
}

/// The row with another payload, and a digest that tells it from any other of its sequence.
pub(super) fn with_payload(row: Row, payload: &str) -> Row {
    let mut digest = [0; 32];
    for (place, byte) in payload.bytes().chain(row.seq.to_be_bytes()).enumerate() {
        digest[place % 32] = byte.wrapping_add(u8::wrapping_mul(digest[place % 32], 31));
    }
    Row { payload: payload.to_owned().into(), digest, ..row }
}

/// The row that opens a conversation.
pub(super) fn opened(seq: u64, conversation_number: u8, owner: &str) -> Row {
    Row {
        who: Some(Who::Meta),
        kind: Some(Kind::Opened),
        author: Some(owner.to_owned()),
        ..row(seq, conversation_number)
    }
}

/// Whether a count is right, where the store counts at all.
pub(super) fn counted(found: Option<u64>, expected: usize) -> bool {
    found.is_none_or(|found| usize::try_from(found).ok() == Some(expected))
}

/// Whether the store counts rows: one that does not takes sequences for them, which differ where some are missing.
pub(super) async fn counts(store: &impl Contract) -> bool {
    store.totals().await.unwrap().conversations.is_some()
}

/// Whether this is when a conversation of these rows began.
pub(super) fn began(found: Timestamp, rows: &[&Row]) -> bool {
    rows.first().is_some_and(|first| first.at == found) || rows.iter().map(|row| row.at).min() == Some(found)
}

/// The sequences of rows.
pub(super) fn seqs(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|row| row.seq).collect()
}
