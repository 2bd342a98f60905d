//! Equal questions at the same time are asked once: while one is being asked, all others wait for the next time, and share it.
//!
//! They don't share the one that is being asked: who asks later wants to know what is there by then, and the other one may
//! have passed that place already.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turn, OnceCell};

/// The newest time that each question is asked.
pub(super) struct Together<K: Hash + Eq, V>(Mutex<HashMap<K, Arc<Time<V>>>>);

/// One time that a question is asked.
struct Time<V> {
    has_begun: AtomicBool,
    /// Changed only while the questions are locked.
    askers: AtomicUsize,
    answer: OnceCell<V>,
    /// Of all times of this question.
    turn: Arc<Turn<()>>,
}

impl<V> Time<V> {
    fn new(turn: Arc<Turn<()>>) -> Arc<Self> {
        let (has_begun, askers) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { has_begun, askers, answer: OnceCell::new(), turn })
    }
}

impl<K: Hash + Eq, V> Default for Together<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Together<K, V> {
    /// The answer to `key`, of a time that begins now or later. If whoever asks goes away, one of those who wait asks again.
    pub(super) async fn ask(&self, key: K, ask: impl AsyncFnOnce() -> V) -> V {
        let asker = self.join(key);
        let answer = async {
            let _turn = asker.time.turn.lock().await;
            asker.time.has_begun.store(true, Ordering::Release);
            ask().await
        };
        asker.time.answer.get_or_init(|| answer).await.clone()
    }

    fn join(&self, key: K) -> Asker<'_, K, V> {
        let mut asked = self.lock();
        let time = match asked.get(&key) {
            Some(time) if !time.has_begun.load(Ordering::Acquire) => Arc::clone(time),
            before => {
                let time = Time::new(before.map(|before| Arc::clone(&before.turn)).unwrap_or_default());
                asked.insert(key.clone(), Arc::clone(&time));
                time
            }
        };
        time.askers.fetch_add(1, Ordering::Relaxed);
        Asker { together: self, key, time }
    }

    /// How many wait for the newest time of each question.
    #[cfg(test)]
    pub(super) fn asking(&self) -> Vec<usize> {
        self.lock().values().map(|time| time.askers.load(Ordering::Relaxed)).collect()
    }
}

impl<K: Hash + Eq, V> Together<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Time<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits; the last one to go takes the question along.
struct Asker<'a, K: Hash + Eq, V> {
    together: &'a Together<K, V>,
    key: K,
    time: Arc<Time<V>>,
}

impl<K: Hash + Eq, V> Drop for Asker<'_, K, V> {
    fn drop(&mut self) {
        let mut asked = self.together.lock();
        let is_last = self.time.askers.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_last && asked.get(&self.key).is_some_and(|newest| Arc::ptr_eq(newest, &self.time)) {
            asked.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn all_that_wait_while_one_asks_share_the_next_answer() {
        let (together, asked) = (Together::<u8, usize>::default(), AtomicUsize::new(0));
        let ask = |key| {
            together.ask(key, async || {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::Relaxed)
            })
        };
        let (first, second, other, third) = tokio::join!(ask(1), ask(1), ask(2), ask(1));
        assert_eq!(second, third);
        assert!(first < second && first != other && second != other);
        assert_eq!(ask(1).await, 3);
        assert_eq!(together.asking(), [0; 0]);
    }

    #[tokio::test]
    async fn who_asks_later_hears_what_is_there_by_then() {
        let (together, there, go_on) = (Together::<u8, usize>::default(), AtomicUsize::new(1), Notify::new());
        let ask = || {
            together.ask(1, async || {
                let seen = there.load(Ordering::Relaxed);
                go_on.notified().await;
                seen
            })
        };
        let mut early = Box::pin(ask());
        assert!(futures_util::poll!(&mut early).is_pending());
        there.store(2, Ordering::Relaxed);
        let mut late = Box::pin(ask());
        assert!(futures_util::poll!(&mut late).is_pending());
        go_on.notify_one();
        assert_eq!(early.await, 1);
        go_on.notify_one();
        assert_eq!(late.await, 2);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_question_to_the_next_and_the_last_one_leaves_nothing() {
        let together = Together::<u8, u8>::default();
        let mut gone = Box::pin(together.ask(1, async || std::future::pending().await));
        assert!(futures_util::poll!(&mut gone).is_pending());
        let mut waits = Box::pin(together.ask(1, async || std::future::pending().await));
        let mut next = Box::pin(together.ask(1, async || 7));
        assert!(futures_util::poll!(&mut waits).is_pending());
        assert!(futures_util::poll!(&mut next).is_pending(), "somebody asks already");
        drop(gone);
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(waits);
        assert_eq!(next.await, 7);
        let mut last = Box::pin(together.ask(1, async || std::future::pending().await));
        assert!(futures_util::poll!(&mut last).is_pending());
        drop(last);
        assert_eq!(together.asking(), [0; 0]);
    }
}
