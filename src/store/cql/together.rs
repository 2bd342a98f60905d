//! Equal questions at the same time are asked once: the first one asks, the others wait for its answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::OnceCell;

type Cell<V> = OnceCell<V>;

/// Questions that are being asked now.
pub(super) struct Together<K, V>(Mutex<HashMap<K, Weak<Cell<V>>>>);

impl<K, V> Default for Together<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Together<K, V> {
    /// The answer to `key`. If whoever asks goes away, one of those who wait asks again.
    pub(super) async fn ask(&self, key: K, ask: impl AsyncFnOnce() -> V) -> V {
        let cell = {
            let mut asked = self.lock();
            match asked.get(&key).and_then(Weak::upgrade) {
                Some(cell) => cell,
                None => {
                    let cell = Arc::new(Cell::new());
                    asked.insert(key.clone(), Arc::downgrade(&cell));
                    cell
                }
            }
        };
        let answer = cell.get_or_init(|| ask()).await.clone();
        let mut asked = self.lock();
        // Whoever asks from now on wants to know what is there from now on.
        if asked.get(&key).is_some_and(|known| known.as_ptr() == Arc::as_ptr(&cell)) {
            asked.remove(&key);
        }
        answer
    }

    /// How many ask each of the questions that are being asked.
    #[cfg(test)]
    pub(super) fn asking(&self) -> Vec<usize> {
        self.lock().values().map(Weak::strong_count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Weak<Cell<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn equal_questions_share_one_answer_and_later_ones_get_a_new_one() {
        let (together, asked) = (Together::<u8, usize>::default(), AtomicUsize::new(0));
        let ask = |key| {
            together.ask(key, async || {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::Relaxed)
            })
        };
        let (first, second, other, third) = tokio::join!(ask(1), ask(1), ask(2), ask(1));
        assert_eq!((first, first), (second, third));
        assert_ne!(first, other);
        assert_eq!(ask(1).await, 2);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_question_to_the_next() {
        let together = Together::<u8, u8>::default();
        let mut gone = Box::pin(together.ask(1, async || std::future::pending().await));
        assert!(futures_util::poll!(&mut gone).is_pending());
        let mut next = Box::pin(together.ask(1, async || 7));
        assert!(futures_util::poll!(&mut next).is_pending(), "somebody asks already");
        drop(gone);
        assert_eq!(next.await, 7);
    }
}
