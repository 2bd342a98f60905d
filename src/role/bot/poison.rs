//! Finds the question that ends the whole process. Nothing is left of its bot to count attempts, so the next ones do.
//!
//! - A *note* for each group lies in the bucket of members: who has it, and where the floor of its consumer was. Who loses
//!   a group and lives gives it back. Whoever takes over one that was not given back, and finds the floor where it was,
//!   counts one take-over more.
//! - After three of those the group is *careful*: its questions are answered one at a time, each written into the note
//!   first. The question that was alone twice when its bot died is the culprit, and goes to the dead letters.
//! - It is careful until everything is answered that was with bots when it began, whoever takes it over meanwhile: that
//!   is slow, and what piles up behind it is not to make it last longer.
//!
//! A bot that was killed by something else three times in a row, and twice more over the same lone question, is mistaken
//! for the victim of that question: its asker is told so by an apology, and the dead letter can be replayed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::making::{Patience, Stopped};
use crate::bus::provision::Names;
use crate::bus::{Bus, BusError, ConsumerState};
use crate::mistake::{self, Mistake};

/// So many take-overs without progress make a group careful.
const CAREFUL_AFTER: u32 = 3;
/// Who lives gives a group back as soon as it hears of its next owner. That is not to be taken for a death.
const HANDOVER: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// One question of all careful groups, and of all bots of a process: with two of them running, either may end it.
static ALONE: Semaphore = Semaphore::const_new(1);

/// What bots leave for each other about one group.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    v: u8,
    /// The life of the bot that has the group.
    owner: String,
    /// Its owner gave it back and is not dead.
    released: bool,
    /// Up to here everything was acknowledged when the owner took the group.
    floor: u64,
    /// From bots that died, since the floor has moved last.
    takeovers: u32,
    /// Questions up to here are answered one at a time; 0 for none.
    careful_to: u64,
    /// The question that is being answered alone.
    alone: Option<u64>,
    /// Questions that were alone once when a bot died.
    suspects: BTreeSet<u64>,
    /// Questions that were alone twice.
    culprits: BTreeSet<u64>,
}

impl Note {
    /// Whether nobody has to give it back to `me`.
    fn is_free(&self, me: &str) -> bool {
        self.owner.is_empty() || self.owner == me || self.released
    }

    /// The note of the next owner, `me`.
    fn of_next(&self, me: &str, consumer: &ConsumerState) -> Self {
        let floor = consumer.ack_floor;
        let fresh = Self { v: 1, owner: me.to_owned(), floor, ..Self::default() };
        if consumer.ack_pending == 0 || mistake::made(Mistake::NoPoisonCount) {
            return fresh;
        }
        let died = !self.is_free(me);
        let before = if self.floor == floor { self.takeovers } else { 0 };
        let takeovers = before + u32::from(died);
        let careful_to = match (self.careful_to > floor, takeovers >= CAREFUL_AFTER) {
            (true, _) => self.careful_to,
            (false, true) => consumer.delivered,
            (false, false) => 0,
        };
        let (mut suspects, mut culprits) = (self.suspects.clone(), self.culprits.clone());
        if let Some(seq) = self.alone.filter(|_| died)
            && !suspects.insert(seq)
        {
            culprits.insert(seq);
        }
        suspects.retain(|seq| *seq > floor);
        culprits.retain(|seq| *seq > floor);
        Self { takeovers, careful_to, suspects, culprits, ..fresh }
    }
}

/// What one bot knows of the groups that it has.
pub(super) struct Poison {
    bus: Bus,
    /// The word for this life of this bot; the next process has another.
    life: String,
    groups: Mutex<HashMap<u8, Held>>,
}

/// A note as this bot has written it.
#[derive(Debug, Clone)]
struct Held {
    note: Note,
    revision: u64,
}

impl Poison {
    /// Of a bot that calls this life of it `life`.
    pub(super) fn new(bus: &Bus, life: &str) -> Self {
        Self { bus: bus.clone(), life: life.to_owned(), groups: Mutex::default() }
    }

    /// To be called by whoever takes a group over, before it answers anything. Whether the last one has given it back, and
    /// so has ended.
    pub(super) async fn take_over(&self, group: u8) -> Result<bool, BusError> {
        let (old, revision) = self.left_by_the_last(group).await?;
        let consumer = self.bus.consumer_state(&Names::bot(group)).await?;
        let note = old.of_next(&self.life, &consumer);
        if note.careful_to > 0 {
            tracing::warn!(
                group,
                takeovers = note.takeovers,
                floor = note.floor,
                "{} bots died over group {group} and none got past message {}: its questions are answered one at a time",
                note.takeovers,
                note.floor
            );
        }
        self.write(group, note, revision).await?;
        Ok(old.is_free(&self.life))
    }

    /// The newest note, once its owner has given the group back or had the time to.
    async fn left_by_the_last(&self, group: u8) -> Result<(Note, u64), BusError> {
        let end = Instant::now() + HANDOVER;
        loop {
            let (note, revision) = self.read(group).await?;
            if note.is_free(&self.life) || Instant::now() >= end {
                return Ok((note, revision));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Gives a group back, so that nobody takes this bot for dead. What can't be written costs a count too many.
    pub(super) async fn give_back(&self, group: u8) {
        let Some(Held { note, revision }) = self.lock().remove(&group) else { return };
        if let Err(error) = self.write(group, Note { released: true, ..note }, revision).await {
            tracing::debug!(group, %error, "group {group} could not be given back");
        }
    }

    /// Gives all groups back.
    pub(super) async fn give_all_back(&self) {
        let held: Vec<u8> = self.lock().keys().copied().collect();
        join_all(held.into_iter().map(|group| self.give_back(group))).await;
    }

    /// Waits until question `seq` may run: at once, unless its group is careful. Then everybody knows that it runs alone
    /// for as long as what is returned lives. Fails only if it is cut off.
    pub(super) async fn enter(
        &self,
        group: u8,
        seq: u64,
        cut: &CancellationToken,
    ) -> Result<Option<SemaphorePermit<'static>>, Stopped> {
        if !self.is_careful(group) {
            return Ok(None);
        }
        let alone = cut.run_until_cancelled(ALONE.acquire()).await.and_then(Result::ok).ok_or(Stopped)?;
        let mut patience = Patience::new(cut);
        loop {
            match self.write_down(group, seq).await {
                Ok(()) => return Ok(Some(alone)),
                // An earlier write of ours was not confirmed; or somebody else has the group. Then this question goes on all
                // the same, as all do that run when a group moves: to leave it out would put the next one before it.
                Err(BusError::Fenced) => match self.still_owns(group).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(Some(alone)),
                    Err(error) => patience.wait(&error).await?,
                },
                Err(error) => patience.wait(&error).await?,
            }
        }
    }

    /// Whether question `seq` has ended a process before.
    pub(super) fn is_culprit(&self, group: u8, seq: u64) -> bool {
        self.lock().get(&group).is_some_and(|held| held.note.culprits.contains(&seq))
    }

    fn is_careful(&self, group: u8) -> bool {
        self.lock().get(&group).is_some_and(|held| held.note.careful_to > 0)
    }

    /// Notes that a question runs alone, or that the group need not be careful any more.
    async fn write_down(&self, group: u8, seq: u64) -> Result<(), BusError> {
        let Some(Held { note, revision }) = self.lock().get(&group).cloned() else { return Ok(()) };
        if note.careful_to == 0 {
            return Ok(());
        }
        // This very question is not answered yet: as long as it is one of those, the floor is below them.
        let mut floor = note.floor;
        if seq > note.careful_to {
            floor = self.bus.consumer_state(&Names::bot(group)).await?.ack_floor;
        }
        if floor < note.careful_to {
            return self.write(group, Note { alone: Some(seq), ..note }, revision).await;
        }
        tracing::info!(group, "group {group} is past message {}: questions run side by side again", note.careful_to);
        let note = Note { v: 1, owner: note.owner, floor, ..Note::default() };
        self.write(group, note, revision).await
    }

    /// Whether the newest note is one of ours; then it is the one to write over.
    async fn still_owns(&self, group: u8) -> Result<bool, BusError> {
        let (note, revision) = self.read(group).await?;
        let ours = note.owner == self.life && !note.released;
        if ours {
            self.lock().insert(group, Held { note, revision });
        }
        Ok(ours)
    }

    /// The newest note and its revision; one that can't be read is as good as none.
    async fn read(&self, group: u8) -> Result<(Note, u64), BusError> {
        let found = self.bus.members(&key(group)).await?.into_iter().next();
        let note = found.as_ref().and_then(|found| serde_json::from_slice(&found.value).ok());
        Ok((note.unwrap_or_default(), found.map_or(0, |found| found.revision)))
    }

    /// Writes a note over the one that this bot knows of; [`BusError::Fenced`] if there is a newer one.
    async fn write(&self, group: u8, note: Note, revision: u64) -> Result<(), BusError> {
        let value = serde_json::to_vec(&note).unwrap_or_default();
        let revision = self.bus.replace_member(&key(group), value.into(), revision).await?;
        if !note.released {
            self.lock().insert(group, Held { note, revision });
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u8, Held>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(group: u8) -> String {
    format!("group.{group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(ack_floor: u64, delivered: u64) -> ConsumerState {
        ConsumerState {
            name: "bot-3".to_owned(),
            pending: 0,
            ack_pending: delivered - ack_floor,
            redelivered: 0,
            waiting: 0,
            ack_floor,
            delivered,
            deliveries: delivered,
        }
    }

    /// Takes a group over from the dead, again and again.
    fn next(note: &Note, owner: &str, floor: u64) -> Note {
        note.of_next(owner, &consumer(floor, 90))
    }

    fn after_three(floor: u64) -> Note {
        let first = next(&Note::default(), "a", floor);
        ["b", "c", "d"].iter().fold(first, |note, owner| next(&note, owner, floor))
    }

    #[test]
    fn three_takeovers_without_progress_make_a_group_careful() {
        let note = next(&next(&next(&Note::default(), "a", 40), "b", 40), "c", 40);
        assert_eq!((note.takeovers, note.careful_to), (2, 0));
        let note = next(&note, "d", 40);
        assert_eq!((note.takeovers, note.careful_to), (3, 90));
        assert_eq!(note, after_three(40));
    }

    #[test]
    fn a_careful_group_is_careful_to_where_it_began_whoever_takes_it_over() {
        let piled_up = |note: &Note, owner: &str, floor| note.of_next(owner, &consumer(floor, 2000));
        let given_back = Note { released: true, ..after_three(40) };
        assert_eq!(piled_up(&given_back, "e", 50).careful_to, 90);
        assert_eq!(piled_up(&after_three(40), "e", 89).careful_to, 90);
        assert_eq!(piled_up(&given_back, "e", 90).careful_to, 0, "past it");
        let again = ["e", "f", "g", "h"].iter().fold(given_back, |note, owner| piled_up(&note, owner, 90));
        assert_eq!((again.takeovers, again.careful_to), (3, 2000), "died over it anew");
    }

    #[test]
    fn progress_and_a_group_that_was_given_back_do_not_count() {
        let note = next(&next(&next(&Note::default(), "a", 40), "b", 40), "c", 40);
        assert_eq!(next(&note, "d", 41).takeovers, 1, "the floor has moved");
        assert_eq!(next(&Note { released: true, ..note.clone() }, "d", 40).takeovers, 2, "given back");
        assert_eq!(next(&note, "c", 40).takeovers, 2, "back with the same");
        assert_eq!(next(&note, "d", 90).takeovers, 0, "nothing is open");
    }

    #[test]
    fn a_question_that_was_alone_twice_when_its_bot_died_is_the_culprit() {
        let suspected = next(&Note { alone: Some(41), ..after_three(40) }, "e", 40);
        assert_eq!((suspected.culprits.len(), &suspected.suspects), (0, &BTreeSet::from([41])));
        let accused = next(&Note { alone: Some(41), ..suspected }, "f", 40);
        assert_eq!(accused.culprits, BTreeSet::from([41]));
        assert_eq!(accused.alone, None);
        // The accuser dies before the dead letter is written.
        assert_eq!(next(&accused, "g", 40).culprits, BTreeSet::from([41]));
        // Once it has its record the group goes on, still careful, for the others that were open.
        let further = next(&accused, "g", 41);
        assert_eq!((further.culprits.len(), further.careful_to), (0, 90));
        assert_eq!(next(&Note { alone: Some(42), ..further }, "h", 41).suspects, BTreeSet::from([42]));
    }

    #[test]
    fn a_question_that_was_alone_when_its_bot_left_is_none() {
        let left = Note { alone: Some(41), released: true, ..after_three(40) };
        assert_eq!(next(&left, "e", 40).suspects, BTreeSet::new());
    }
}
