//! Failures in a row of something that is tried until it works: which of them an operator is told.

/// The first ones pass by themselves: a leader is elected, a connection made again.
const FIRST: u32 = 5;
/// What lasts is said again each so many.
const EACH: u32 = 16;

/// How often something has failed in a row.
#[derive(Debug, Default)]
pub struct Streak {
    failures: u32,
    said: bool,
}

impl Streak {
    /// Once more; whether it is to be said.
    pub fn fails(&mut self) -> bool {
        self.failures = self.failures.wrapping_add(1);
        let says = self.failures % EACH == FIRST;
        self.said |= says;
        says
    }

    /// How often so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It works; whether it was said that it did not.
    pub fn ends(&mut self) -> bool {
        std::mem::take(self).said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once_in_a_while_and_its_end_if_it_was_said() {
        let mut streak = Streak::default();
        let said: Vec<u32> = (1..=40).filter(|_| streak.fails()).collect();
        assert_eq!((said, streak.failures()), (vec![5, 21, 37], 40));
        assert!(streak.ends() && !streak.ends());
        (0..4).for_each(|_| assert!(!streak.fails()));
        assert!(!streak.ends(), "it passed by itself");
    }
}
