//! The ways into the stream: as a log, many in flight, never answered; or as a user, one after the other in each
//! conversation, so that bots answer. A log goes with an id for each message, or as a batch without any.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all, ready};
use futures_util::stream::FuturesOrdered;

use super::known::{self, Known};
use super::line::{Line, Logged, Question};
use super::tally::Tally;
use crate::bus::{Batch, Bulk, BusError, Publish, Settled};
use crate::domain::{Message, Who};
use crate::role::frontend::accept::{Accepted, accept_unless};
use crate::role::frontend::state::Front;
use crate::role::frontend::{conversations, problems};
use crate::web::{ApiError, Code};
use crate::wire;

/// Duplicates that are compared with what is stored at a time.
const COMPARED: usize = 64;
/// Questions in flight; those of one conversation wait for each other.
const QUESTIONS: usize = 64;

/// Where the lines go.
pub(super) enum Way<'a> {
    Log(Log),
    Batch(InBatch),
    User(Questions<'a>),
}

/// Messages under way.
pub(super) struct Log {
    bulk: Box<Bulk>,
    /// What the record has from an earlier try.
    known: Known,
    /// For each message under way: itself, if its id may have come with other content.
    sent: VecDeque<Option<Message>>,
    /// Fates that are being looked at. Kept here, since whoever counts may leave off.
    fates: Vec<(Settled, Option<Message>)>,
}

/// A batch under way.
pub(super) struct InBatch {
    batch: Box<Batch>,
    /// What the record has from an earlier try.
    known: Known,
}

/// Questions under way.
#[derive(Default)]
pub(super) struct Questions<'a> {
    asked: FuturesOrdered<BoxFuture<'a, Result<Accepted, ApiError>>>,
    /// Answers that came while there was no room.
    done: VecDeque<Result<Accepted, ApiError>>,
    /// A line could not be taken for now: the upload goes on with it, so none behind it is asked.
    stopped: Arc<AtomicBool>,
}

/// Why an upload ends early: the problem, and nothing more is taken.
pub(super) struct Stop(pub(super) ApiError);

impl<'a> Way<'a> {
    /// Takes one line; what is wrong with it is the line's own affair.
    pub(super) async fn take(&mut self, front: &'a Front, line: Line<'_>, tally: &mut Tally) -> Result<(), Stop> {
        let taken = match self {
            Self::Log(log) => match line.log() {
                Ok(logged) => log.take(front, logged, line.number, tally).await,
                Err(problem) => {
                    tally.refuse(line.number, &problem);
                    Ok(())
                }
            },
            Self::Batch(batch) => match line.log() {
                Ok(logged) => batch.take(front, logged, line.number, tally).await,
                Err(problem) => {
                    tally.refuse(line.number, &problem);
                    Ok(())
                }
            },
            Self::User(questions) => match line.question() {
                Ok(question) => {
                    tally.sent(line.number);
                    questions.ask(front, question).await;
                    Ok(())
                }
                Err(problem) => {
                    tally.refuse(line.number, &problem);
                    Ok(())
                }
            },
        };
        // What is settled counts, whatever became of this line.
        let counted = self.count(front, tally).await;
        taken.and(counted)
    }

    /// Waits until the fate of every line is known.
    pub(super) async fn settle(&mut self, front: &Front, tally: &mut Tally) -> Result<(), Stop> {
        let settled = match self {
            Self::Log(log) => log.bulk.settle().await.map_err(|error| stop(&error)),
            Self::Batch(batch) => batch.end(tally).await,
            Self::User(questions) => {
                while let Some(done) = questions.asked.next().await {
                    questions.done.push_back(done);
                }
                Ok(())
            }
        };
        // What is settled counts, whatever the rest comes to.
        self.count(front, tally).await?;
        settled
    }

    /// Looks after what is under way while the next line is waited for; ends when all of it is settled, if that can be known.
    pub(super) async fn attend(&mut self, front: &Front, tally: &mut Tally) -> Result<(), Stop> {
        match self {
            // Its last messages are acknowledged when it ends.
            Self::Batch(batch) => Err(broken(&batch.batch.wait().await)),
            Self::Log(_) | Self::User(_) => self.settle(front, tally).await,
        }
    }

    /// Whether no line is under way.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Log(log) => log.bulk.is_idle() && log.fates.is_empty(),
            Self::Batch(batch) => batch.batch.is_empty(),
            Self::User(questions) => questions.asked.is_empty() && questions.done.is_empty(),
        }
    }

    /// Takes in what is known.
    async fn count(&mut self, front: &Front, tally: &mut Tally) -> Result<(), Stop> {
        match self {
            Self::Log(log) => log.count(front, tally).await.inspect_err(|_| tally.hold()),
            Self::Batch(batch) => {
                tally.stored_in_batch(batch.batch.stored());
                Ok(())
            }
            Self::User(questions) => questions.count(tally).inspect_err(|_| tally.hold()),
        }
    }
}

impl Log {
    pub(super) fn new(bulk: Bulk, known: Known) -> Self {
        Self { bulk: Box::new(bulk), known, sent: VecDeque::new(), fates: Vec::new() }
    }

    /// For another upload, if nothing is under way.
    pub(super) fn idle(self) -> Option<Bulk> {
        self.bulk.is_idle().then_some(*self.bulk)
    }

    async fn take(&mut self, front: &Front, logged: Logged, number: u64, tally: &mut Tally) -> Result<(), Stop> {
        let Logged { message, own_id } = logged;
        let (conversation, id) = (message.conversation, message.id);
        if let Some(found) = self.known.get(&(conversation, id)) {
            if own_id && found.is_another(&message) {
                tally.refuse(number, &problems::id_reused(id));
            } else {
                tally.known(found.seq);
            }
            return Ok(());
        }
        let publish = Publish {
            subject: front.bus.subjects().record(conversation, Who::Log),
            payload: Bytes::from(wire::encode(&message)),
            message_id: Some(format!("{conversation}/{id}")),
            ..Publish::default()
        };
        tally.sent(number);
        if !front.room.takes_log(publish.payload.len()) {
            // It was read, and is the first one that is to be sent again.
            return Err(stop(&BusError::Full));
        }
        self.sent.push_back(own_id.then_some(message));
        self.bulk.send(publish).await.map_err(|error| stop(&error))
    }

    async fn count(&mut self, front: &Front, tally: &mut Tally) -> Result<(), Stop> {
        loop {
            while self.fates.len() < COMPARED
                && let Some(settled) = self.bulk.settled()
            {
                self.fates.push((settled, self.sent.pop_front().flatten()));
            }
            if self.fates.is_empty() {
                return Ok(());
            }
            // Only a duplicate whose id is its own has to be compared with the first one.
            let others = join_all(self.fates.iter().map(async |fate| match fate {
                (Settled::Stored(published), Some(message)) if published.duplicate => {
                    Ok(known::at(front, published.seq).await?.is_another(message).then_some(message.id))
                }
                _ => Ok(None),
            }))
            .await;
            for ((settled, _), other) in self.fates.drain(..).zip(others) {
                match (settled, other?) {
                    (_, Some(id)) => tally.turned_down(&problems::id_reused(id)),
                    (Settled::Stored(published), None) => tally.stored(published.seq, published.duplicate),
                    (Settled::Refused(reason), None) => {
                        tally.turned_down(&ApiError::new(Code::Internal, format!("not stored: {reason}")));
                    }
                }
            }
        }
    }
}

impl InBatch {
    pub(super) fn new(batch: Batch, known: Known) -> Self {
        Self { batch: Box::new(batch), known }
    }

    async fn take(&mut self, front: &Front, logged: Logged, number: u64, tally: &mut Tally) -> Result<(), Stop> {
        let Logged { message, own_id } = logged;
        if own_id {
            // Nobody would see that it is there already. It is the first one that is to be sent again.
            tally.sent(number);
            let detail = format!("line {number} has an `id` of its own, which is compared with nothing in a batch");
            let next = "send the rest without `batch` (`yalo ingest --resume` without --batch), or without ids";
            return Err(Stop(ApiError::invalid_field("batch", detail).next(next)));
        }
        if let Some(found) = self.known.get(&(message.conversation, message.id)) {
            tally.known(found.seq);
            return Ok(());
        }
        let Message { conversation, id, .. } = message;
        let subject = front.bus.subjects().record(conversation, Who::Log);
        let payload = Bytes::from(wire::encode(&message));
        tally.sent(number);
        if !front.room.takes_log(payload.len()) {
            return Err(stop(&BusError::Full));
        }
        if self.batch.is_empty() {
            let begun = self.batch.begin(subject, format!("{conversation}/{id}"), payload).await;
            let published = begun.map_err(|error| broken(&error))?;
            tally.stored(published.seq, published.duplicate);
            return Ok(());
        }
        self.batch.send(subject, payload).await.map_err(|error| broken(&error))
    }

    async fn end(&mut self, tally: &mut Tally) -> Result<(), Stop> {
        let last = self.batch.end().await.map_err(|error| broken(&error))?;
        tally.reached(last);
        Ok(())
    }
}

impl<'a> Questions<'a> {
    async fn ask(&mut self, front: &'a Front, question: Question) {
        while self.asked.len() >= QUESTIONS {
            self.done.extend(self.asked.next().await);
        }
        let Question { conversation, user, said } = question;
        if self.stopped.load(Ordering::Relaxed) {
            self.asked.push_back(Box::pin(ready(Err(behind_another()))));
            return;
        }
        // Before the next line is read: in the order of the lines they wait for the conversation's turn.
        let owned = conversations::open_once(front, conversation, &user).await;
        if owned.as_ref().is_err_and(is_for_now) {
            self.stopped.store(true, Ordering::Relaxed);
        }
        let stopped = Arc::clone(&self.stopped);
        self.asked.push_back(Box::pin(async move {
            owned?;
            let reason = || stopped.load(Ordering::Relaxed).then(behind_another);
            let accepted = accept_unless(front, conversation, &user, said, reason).await;
            // In the same poll: whoever waits for the turn is polled after it.
            if accepted.as_ref().is_err_and(is_for_now) {
                stopped.store(true, Ordering::Relaxed);
            }
            accepted
        }));
    }

    fn count(&mut self, tally: &mut Tally) -> Result<(), Stop> {
        while let Some(done) = self.done.pop_front() {
            match done {
                Ok(accepted) => tally.stored(accepted.seq, accepted.duplicate),
                Err(problem) if is_for_now(&problem) => return Err(Stop(problem)),
                Err(problem) => tally.turned_down(&problem),
            }
        }
        Ok(())
    }
}

fn behind_another() -> ApiError {
    ApiError::new(Code::Unavailable, "an earlier line could not be taken")
}

/// Whether the same line may be taken later.
fn is_for_now(problem: &ApiError) -> bool {
    problem.code().status().is_server_error()
}

pub(super) fn stop(error: &BusError) -> Stop {
    Stop(problems::from_bus(error).next("send the rest from line `next_line` on, after a while"))
}

fn broken(error: &BusError) -> Stop {
    let Stop(problem) = stop(error);
    Stop(problem.next("send the rest from line `next_line` on in another batch, with `past` and `after`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn nothing_behind_a_question_that_could_not_be_taken_counts() {
        let away = || ApiError::new(Code::Unavailable, "away");
        let never = || ApiError::invalid_field("text", "no");
        let taken = |seq| Ok(Accepted::new(seq, false));
        let done = VecDeque::from([taken(1), Err(never()), Err(away()), taken(4), Err(never()), taken(6)]);
        let mut questions = Questions { done, ..Questions::default() };
        let mut tally = Tally::begin_at(1);
        for _ in 0..6 {
            let line = tally.read_line();
            tally.sent(line);
        }
        assert!(questions.count(&mut tally).inspect_err(|_| tally.hold()).is_err());
        // Whoever ends the upload takes in what is left.
        assert!(questions.count(&mut tally).is_ok());
        tally.close(&Metrics::new());
        assert_eq!((tally.accepted, tally.refused, tally.next_line()), (1, 1, 3));
    }
}
