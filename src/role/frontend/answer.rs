//! Waiting for the answer to one question: by its live copy, and every two seconds by the stream itself.

use std::time::Duration;

use tokio::time::Instant;

use super::accept::Accepted;
use super::history::{self, HistoryError};
use super::hub::{Live, Watch, read_record};
use super::state::Front;
use crate::bus::{BusError, From};
use crate::domain::{ConversationId, Stored, Timestamp, Who};
use crate::telemetry::Hop;
use crate::wire::Draft;

/// Messages looked at in one go.
const PAGE: usize = 100;

/// What became of a question.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The question as it was stored, if its live copy came by.
    pub(super) question: Option<Stored>,
    /// Its record; `None` when the time ran out.
    pub(super) answer: Option<Stored>,
}

/// Waits for the record of question `seq` for at most `limit`. `watch` was begun before the question was stored. Each
/// draft is handed to `on_draft` meanwhile.
pub(super) async fn wait<F: Future<Output = ()>>(
    front: &Front,
    watch: &mut Watch,
    seq: u64,
    limit: Duration,
    mut on_draft: impl FnMut(Draft) -> F,
) -> Turn {
    let mut turn = Turn::default();
    let deadline = Instant::now() + limit;
    let mut check_at = Instant::now() + front.check_after(true);
    loop {
        tokio::select! {
            biased;
            () = front.stop.cancelled() => return turn,
            live = watch.events.recv() => match live {
                Some(Live::Message(message)) if answers(&message.stored, seq) => {
                    front.metrics.observe(Hop::Deliver, Timestamp::now().since(message.stored.at));
                    turn.answer = Some(message.stored.clone());
                    return turn;
                }
                Some(Live::Message(message)) if message.stored.seq == seq => {
                    turn.question = Some(message.stored.clone());
                }
                Some(Live::Message(_)) => {}
                Some(Live::Draft(draft)) => on_draft(draft).await,
                None => return turn,
            },
            () = tokio::time::sleep_until(check_at.min(deadline)) => {
                if let Ok(Some(answer)) = find(front, watch.conversation(), seq).await {
                    turn.answer = Some(answer);
                    return turn;
                }
                if Instant::now() >= deadline {
                    return turn;
                }
                check_at = Instant::now() + front.check_after(true);
            }
        }
    }
}

/// The record of a question that was asked before: in the stream, or in the store if the stream has forgotten it.
pub(super) async fn known(
    front: &Front,
    conversation: ConversationId,
    accepted: &Accepted,
) -> Result<Option<Stored>, HistoryError> {
    if !accepted.duplicate {
        return Ok(None);
    }
    let found = find(front, conversation, accepted.seq).await?;
    let forgotten = front.bus.first_seq().await? > accepted.seq;
    if found.is_some() || !forgotten {
        return Ok(found);
    }
    let mut after = accepted.seq;
    loop {
        let page = history::after(&front.bus, conversation, after, PAGE).await?;
        if let Some(answer) = page.messages.into_iter().find(|stored| answers(stored, accepted.seq)) {
            return Ok(Some(answer));
        }
        if !page.newer {
            return Ok(None);
        }
        after = page.read_to;
    }
}

/// Looks the record of a question up in the stream.
async fn find(front: &Front, conversation: ConversationId, seq: u64) -> Result<Option<Stored>, BusError> {
    let filter = front.bus.subjects().record(conversation, Who::Bot);
    let mut from = seq + 1;
    loop {
        let page = front.bus.read(&filter, From::Seq(from), 64).await?;
        let records = page.records.iter().filter_map(|record| read_record(&front.bus, record));
        if let Some(answer) = records.into_iter().find(|stored| answers(stored, seq)) {
            return Ok(Some(answer));
        }
        match page.records.last() {
            Some(last) if page.more => from = last.seq + 1,
            _ => return Ok(None),
        }
    }
}

fn answers(stored: &Stored, question: u64) -> bool {
    stored.message.reply_to.is_some_and(|reply| reply.seq == question)
}
