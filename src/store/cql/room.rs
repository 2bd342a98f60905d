//! How many requests one node may have under way: one more with each round of answers, half as many when it has too much to
//! do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Never fewer requests under way.
const LEAST: usize = 8;
/// One halving for all requests that failed together.
const CALM: Duration = Duration::from_secs(1);
/// Who has failed is asked after the others for so long, or until an answer comes.
const AVOIDED: Duration = Duration::from_secs(10);

/// Places for requests at one node.
pub(super) struct Room {
    places: Semaphore,
    most: usize,
    state: Mutex<State>,
}

struct State {
    limit: usize,
    taken: usize,
    /// Places that are to go as soon as those who have them leave.
    owed: usize,
    answers: usize,
    halved: Option<Instant>,
    failed: Option<Instant>,
}

/// How much a node has to do; the smallest is asked.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Load {
    /// It failed a moment ago.
    avoided: bool,
    /// Per mille of its places that are taken.
    taken: usize,
}

/// The place of one request; dropping it gives it back.
pub(super) struct Place {
    room: Arc<Room>,
}

impl Room {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let most = most.max(LEAST);
        let state = State { limit: most, taken: 0, owed: 0, answers: 0, halved: None, failed: None };
        Arc::new(Self { places: Semaphore::new(most), most, state: Mutex::new(state) })
    }

    /// Takes a place, if one is free.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Place> {
        self.places.try_acquire().ok()?.forget();
        Some(self.place())
    }

    /// Waits for a place; `None` if the room is closed.
    pub(super) async fn enter(self: &Arc<Self>) -> Option<Place> {
        self.places.acquire().await.ok()?.forget();
        Some(self.place())
    }

    fn place(self: &Arc<Self>) -> Place {
        self.state().taken += 1;
        Place { room: Arc::clone(self) }
    }

    pub(super) fn load(&self) -> Load {
        let state = self.state();
        let avoided = state.failed.is_some_and(|at| at.elapsed() < AVOIDED);
        Load { avoided, taken: state.taken * 1000 / state.limit }
    }

    /// A request was answered: after a round of them there is one place more.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.failed = None;
        state.answers += 1;
        if state.answers < state.limit {
            return;
        }
        state.answers = 0;
        if state.limit < self.most {
            state.limit += 1;
            match state.owed.checked_sub(1) {
                Some(owed) => state.owed = owed,
                None => self.places.add_permits(1),
            }
        }
    }

    /// A request was not answered: others are asked first.
    pub(super) fn failed(&self) {
        self.state().failed = Some(Instant::now());
    }

    /// Halves the places; how many are left, unless that was done just now. Those that are taken go when they are left.
    pub(super) fn halve(&self) -> Option<usize> {
        let mut state = self.state();
        if state.halved.is_some_and(|at| at.elapsed() < CALM) {
            return None;
        }
        state.halved = Some(Instant::now());
        let left = (state.limit / 2).max(LEAST);
        let fewer = state.limit - left;
        state.owed += fewer - self.places.forget_permits(fewer);
        state.limit = left;
        Some(left)
    }

    /// Nobody enters from now on.
    pub(super) fn close(&self) {
        self.places.close();
    }

    // Nothing that runs under it can panic half-way through a change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.state();
        state.taken -= 1;
        match state.owed.checked_sub(1) {
            Some(owed) => state.owed = owed,
            None => self.room.places.add_permits(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn all(room: &Arc<Room>) -> Vec<Place> {
        std::iter::from_fn(|| room.try_enter()).collect()
    }

    #[test]
    fn a_room_that_is_full_is_halved_as_its_places_are_left() {
        let room = Room::new(64);
        let inside = all(&room);
        assert_eq!((inside.len(), room.halve(), room.halve()), (64, Some(32), None));
        assert!(room.enter().now_or_never().is_none());
        drop(inside);
        assert_eq!(all(&room).len(), 32);
    }

    #[test]
    fn it_grows_with_each_round_of_answers_and_never_closes_altogether() {
        let room = Room::new(10);
        assert_eq!((room.halve(), all(&room).len()), (Some(8), 8));
        for _ in 0..8 + 9 {
            room.answered();
        }
        assert_eq!(all(&room).len(), 10);
        (0..100).for_each(|_| room.answered());
        assert_eq!(all(&room).len(), 10);
        room.close();
        assert!(room.enter().now_or_never().is_some_and(|place| place.is_none()));
    }

    #[test]
    fn who_has_failed_has_the_larger_load_until_it_answers() {
        let (idle, busy) = (Room::new(16), Room::new(16));
        let _inside = all(&busy);
        assert!(idle.load() < busy.load());
        idle.failed();
        assert!(idle.load() > busy.load());
        idle.answered();
        assert!(idle.load() < busy.load());
    }
}
