//! The two ways into the stream: as a log, many in flight, never answered; or as a user, one after the other in each
//! conversation, so that bots answer.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;

use super::line::Line;
use super::tally::Tally;
use crate::bus::{Bulk, BusError, Publish, Settled};
use crate::domain::Who;
use crate::role::frontend::accept::{Accepted, accept};
use crate::role::frontend::state::Front;
use crate::role::frontend::{conversations, problems};
use crate::web::{ApiError, Code};
use crate::wire;

/// Questions in flight; those of one conversation wait for each other.
const QUESTIONS: usize = 64;

/// Where the lines go.
pub(super) enum Way<'a> {
    Log(Box<Bulk>),
    User(Questions<'a>),
}

/// Questions under way.
#[derive(Default)]
pub(super) struct Questions<'a> {
    asked: FuturesOrdered<BoxFuture<'a, Result<Accepted, ApiError>>>,
    /// Answers that came while there was no room.
    done: VecDeque<Result<Accepted, ApiError>>,
}

/// Why an upload ends early: the problem, and nothing more is taken.
pub(super) struct Stop(pub(super) ApiError);

impl<'a> Way<'a> {
    /// Takes one line; what is wrong with it is the line's own affair.
    pub(super) async fn take(&mut self, front: &'a Front, line: Line<'_>, tally: &mut Tally) -> Result<(), Stop> {
        let taken = match self {
            Self::Log(bulk) => match line.log() {
                Ok(message) => {
                    let publish = Publish {
                        subject: front.bus.subjects().record(message.conversation, Who::Log),
                        payload: Bytes::from(wire::encode(&message)),
                        message_id: Some(format!("{}/{}", message.conversation, message.id)),
                        ..Publish::default()
                    };
                    if !front.room.takes_log(publish.payload.len()) {
                        // It was read, and is the first one that is to be sent again.
                        tally.sent(line.number);
                        return Err(stop(&BusError::Full));
                    }
                    tally.sent(line.number);
                    bulk.send(publish).await.map_err(|error| stop(&error))
                }
                Err(problem) => {
                    tally.refuse(line.number, &problem);
                    Ok(())
                }
            },
            Self::User(questions) => match line.question() {
                Ok(question) => {
                    tally.sent(line.number);
                    while questions.asked.len() >= QUESTIONS {
                        questions.done.extend(questions.asked.next().await);
                    }
                    let (conversation, user) = (question.conversation, question.user);
                    // Before the next line is read: in the order of the lines they wait for the conversation's turn.
                    let owned = conversations::open_once(front, conversation, &user).await;
                    questions.asked.push_back(Box::pin(async move {
                        owned?;
                        accept(front, conversation, &user, question.said).await
                    }));
                    Ok(())
                }
                Err(problem) => {
                    tally.refuse(line.number, &problem);
                    Ok(())
                }
            },
        };
        // What is settled counts, whatever became of this line.
        let counted = self.count(tally);
        taken.and(counted)
    }

    /// Waits until the fate of every line is known.
    pub(super) async fn settle(&mut self, tally: &mut Tally) -> Result<(), Stop> {
        let settled = match self {
            Self::Log(bulk) => bulk.settle().await.map_err(|error| stop(&error)),
            Self::User(questions) => {
                while let Some(done) = questions.asked.next().await {
                    questions.done.push_back(done);
                }
                Ok(())
            }
        };
        // What is settled counts, whatever the rest comes to.
        self.count(tally)?;
        settled
    }

    /// Whether no line is under way.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Log(bulk) => bulk.is_idle(),
            Self::User(questions) => questions.asked.is_empty() && questions.done.is_empty(),
        }
    }

    /// Takes in what is known.
    fn count(&mut self, tally: &mut Tally) -> Result<(), Stop> {
        match self {
            Self::Log(bulk) => {
                while let Some(settled) = bulk.settled() {
                    match settled {
                        Settled::Stored(published) => tally.stored(published.seq, published.duplicate),
                        Settled::Refused(reason) => {
                            tally.turned_down(&ApiError::new(Code::Internal, format!("not stored: {reason}")));
                        }
                    }
                }
            }
            Self::User(questions) => {
                while let Some(done) = questions.done.pop_front() {
                    match done {
                        Ok(accepted) => tally.stored(accepted.seq, accepted.duplicate),
                        Err(problem) if is_for_now(&problem) => return Err(Stop(problem)),
                        Err(problem) => tally.turned_down(&problem),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether the same line may be taken later.
fn is_for_now(problem: &ApiError) -> bool {
    problem.code().status().is_server_error()
}

fn stop(error: &BusError) -> Stop {
    Stop(problems::from_bus(error).next("send the rest from line `next_line` on, after a while"))
}
