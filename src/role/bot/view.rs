//! Who lives, as one bot sees it: by its own clock, from what it has read, never going back.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::Member;

/// A bot whose heartbeat has not moved for this long is dead...
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// ...if it was looked at that often meanwhile: a reader that was away itself knows nothing.
const DEAD_READS: u32 = 4;

/// What one bot knows of all.
#[derive(Debug, Default)]
pub(super) struct View {
    seen: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    revision: u64,
    moved_at: Instant,
    reads: u32,
    /// It was there before us and has not moved since it was first seen.
    stale: bool,
    gone: bool,
}

impl View {
    /// Takes in one successful read. `own` is the reader's own heartbeat as the server has it: one that is older by
    /// [`DEAD_AFTER`] when it is first seen belongs to somebody who died before we came.
    pub(super) fn observe(&mut self, now: Instant, members: &[Member], own: Option<&Member>) {
        for seen in self.seen.values_mut() {
            seen.reads = seen.reads.saturating_add(1);
        }
        for member in members {
            let gone = member.value.is_empty();
            let fresh = Seen { revision: member.revision, moved_at: now, reads: 0, stale: false, gone };
            match self.seen.get_mut(&member.key) {
                // A replica that lags shows an earlier heartbeat: that is no news.
                Some(seen) if seen.revision >= member.revision => {}
                Some(seen) => *seen = fresh,
                None => {
                    let stale = own.is_some_and(|own| own.at.since(member.at) >= DEAD_AFTER);
                    self.seen.insert(member.key.clone(), Seen { stale, ..fresh });
                }
            }
        }
        // A dead one is not looked at for ever: the bucket forgets it too.
        let shown: BTreeSet<&str> = members.iter().map(|member| member.key.as_str()).collect();
        self.seen.retain(|key, seen| shown.contains(key.as_str()) || seen.is_alive(now));
    }

    /// Whether the key is that of somebody who lives, or was seen to be silent.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.seen.get(key).is_some_and(|seen| !seen.gone)
    }

    /// The keys of those who live.
    pub(super) fn alive(&self, now: Instant) -> BTreeSet<String> {
        self.seen.iter().filter(|(_, seen)| seen.is_alive(now)).map(|(key, _)| key.clone()).collect()
    }
}

impl Seen {
    fn is_alive(&self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.moved_at) >= DEAD_AFTER && self.reads >= DEAD_READS;
        !self.gone && !self.stale && !silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn beat(key: &str, revision: u64, second: i64) -> Member {
        let value = bytes::Bytes::from_static(b"{}");
        Member { key: key.to_owned(), revision, at: Timestamp::from_ns(second * 1_000_000_000), value }
    }

    fn names(view: &View, now: Instant) -> Vec<String> {
        view.alive(now).into_iter().collect()
    }

    #[test]
    fn a_bot_is_dead_after_five_silent_seconds_and_four_reads() {
        let (mut view, start) = (View::default(), Instant::now());
        let both = [beat("a", 1, 0), beat("b", 2, 0)];
        view.observe(start, &both, None);
        for second in 1..=4 {
            let now = start + Duration::from_secs(second);
            view.observe(now, &[beat("a", 2 + second, 0), both[1].clone()], None);
            assert_eq!(names(&view, now), ["a", "b"], "{second}");
        }
        assert_eq!(names(&view, start + DEAD_AFTER), ["a"]);
        // It comes back as soon as it moves.
        let now = start + DEAD_AFTER;
        view.observe(now, &[beat("a", 8, 0), beat("b", 9, 0)], None);
        assert_eq!(names(&view, now), ["a", "b"]);
    }

    #[test]
    fn who_did_not_look_declares_nobody_dead() {
        let (mut view, start) = (View::default(), Instant::now());
        view.observe(start, &[beat("b", 2, 0)], None);
        let woken = start + Duration::from_mins(1);
        assert_eq!(names(&view, woken), ["b"]);
        for read in 1..=DEAD_READS {
            assert_eq!(names(&view, woken), ["b"], "after {read} reads");
            view.observe(woken, &[beat("b", 2, 0)], None);
        }
        assert_eq!(names(&view, woken), [""; 0]);
    }

    #[test]
    fn a_lagging_replica_neither_revives_nor_kills() {
        let (mut view, start) = (View::default(), Instant::now());
        view.observe(start, &[beat("b", 7, 0)], None);
        let mut gone = beat("b", 9, 0);
        gone.value = bytes::Bytes::new();
        view.observe(start, &[gone], None);
        assert_eq!(names(&view, start), [""; 0], "who has left is gone at once");
        view.observe(start, &[beat("b", 8, 0)], None);
        assert_eq!(names(&view, start), [""; 0], "an older heartbeat is no news");
        // A replica that does not know a new bot yet does not kill it.
        view.observe(start, &[beat("c", 12, 0)], None);
        view.observe(start, &[], None);
        assert_eq!(names(&view, start), ["c"]);
    }

    #[test]
    fn who_died_before_we_came_is_dead_until_it_moves() {
        let (mut view, start) = (View::default(), Instant::now());
        let own = beat("me", 20, 105);
        view.observe(start, &[beat("old", 3, 99), beat("young", 4, 101), own.clone()], Some(&own));
        assert_eq!(names(&view, start), ["me", "young"]);
        view.observe(start, &[beat("old", 21, 106)], Some(&own));
        assert_eq!(names(&view, start), ["me", "old", "young"]);
    }
}
