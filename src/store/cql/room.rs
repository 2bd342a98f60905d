//! How many requests may be under way: one more with each round of answers, half as many when the cluster has too much to do.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Never fewer requests under way.
const LEAST: usize = 8;
/// One halving for all requests that failed together.
const CALM: Duration = Duration::from_secs(1);

/// Places for requests.
pub(super) struct Room {
    places: Semaphore,
    state: Mutex<State>,
}

struct State {
    limit: usize,
    /// Places that are to go as soon as those who have them leave.
    owed: usize,
    answers: usize,
    halved: Option<Instant>,
}

/// The place of one request; dropping it gives it back.
pub(super) struct Place<'a> {
    room: &'a Room,
    permit: Option<SemaphorePermit<'a>>,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(LEAST);
        let state = State { limit, owed: 0, answers: 0, halved: None };
        Self { places: Semaphore::new(limit), state: Mutex::new(state) }
    }

    /// Waits for a place; `None` if the room is closed.
    pub(super) async fn enter(&self) -> Option<Place<'_>> {
        let permit = self.places.acquire().await.ok()?;
        Some(Place { room: self, permit: Some(permit) })
    }

    /// A request was answered: after a round of them there is one place more, up to `most`.
    pub(super) fn answered(&self, most: impl FnOnce() -> usize) {
        let mut state = self.state();
        state.answers += 1;
        if state.answers < state.limit {
            return;
        }
        state.answers = 0;
        if state.limit < most() {
            state.limit += 1;
            match state.owed.checked_sub(1) {
                Some(owed) => state.owed = owed,
                None => self.places.add_permits(1),
            }
        }
    }

    /// Halves the places; how many are left, unless that was done just now. Those that are taken go when they are left.
    pub(super) fn halve(&self) -> Option<usize> {
        let mut state = self.state();
        if state.halved.is_some_and(|at| at.elapsed() < CALM) {
            return None;
        }
        state.halved = Some(Instant::now());
        let left = (state.limit / 2).max(LEAST).min(state.limit);
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

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut state = self.room.state();
        match state.owed.checked_sub(1) {
            Some(owed) => {
                state.owed = owed;
                permit.forget();
            }
            None => drop(permit),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// How many get in at once.
    fn fits(room: &Room) -> usize {
        let mut inside = Vec::new();
        while let Some(Some(place)) = room.enter().now_or_never() {
            inside.push(place);
        }
        inside.len()
    }

    #[test]
    fn a_room_that_is_full_is_halved_as_its_places_are_left() {
        let room = Room::new(64);
        let inside: Vec<_> = std::iter::from_fn(|| room.enter().now_or_never().flatten()).collect();
        assert_eq!((inside.len(), room.halve(), room.halve()), (64, Some(32), None));
        assert!(room.enter().now_or_never().is_none());
        drop(inside);
        assert_eq!(fits(&room), 32);
    }

    #[test]
    fn it_grows_with_each_round_of_answers_and_never_closes_altogether() {
        let room = Room::new(9);
        assert_eq!((room.halve(), fits(&room)), (Some(8), 8));
        for _ in 0..8 + 9 {
            room.answered(|| 10);
        }
        assert_eq!(fits(&room), 10);
        (0..100).for_each(|_| room.answered(|| 10));
        assert_eq!(fits(&room), 10);
        room.close();
        assert!(room.enter().now_or_never().is_some_and(|place| place.is_none()));
    }
}
