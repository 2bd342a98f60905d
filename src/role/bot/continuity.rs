//! Whether a puller got every delivery of its consumer. The server numbers them: a number that is not the last plus one
//! means that somebody else got some, or that the server was wound back. Then the puller recovers before it answers.

/// The numbers that one puller has seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Continuity {
    last: u64,
    /// Everything delivered to anybody up to this number was read by a recovery.
    covered: u64,
}

impl Continuity {
    /// A recovery has read what was delivered up to number `deliveries`.
    pub(super) fn recovered(&mut self, deliveries: u64) {
        self.covered = deliveries;
    }

    /// Takes in the next number; false if something before it may be with somebody else.
    pub(super) fn follows(&mut self, number: u64) -> bool {
        let next = number == self.last + 1;
        let known = number > self.last && number <= self.covered + 1;
        self.last = number;
        next || known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_recovery(deliveries: u64) -> Continuity {
        let mut continuity = Continuity::default();
        continuity.recovered(deliveries);
        continuity
    }

    #[test]
    fn deliveries_in_a_row_follow_each_other() {
        let mut continuity = after_recovery(10);
        assert!([11, 12, 13].into_iter().all(|number| continuity.follows(number)));
    }

    #[test]
    fn what_somebody_else_got_is_noticed() {
        assert!(!after_recovery(10).follows(12), "right after a recovery");
        let mut continuity = after_recovery(10);
        assert!(continuity.follows(11));
        assert!(!continuity.follows(13), "later");
    }

    #[test]
    fn what_a_recovery_has_read_needs_no_other() {
        let mut continuity = after_recovery(10);
        assert!(continuity.follows(8), "delivered while the recovery read");
        assert!(continuity.follows(10), "9 was somebody else's, and read");
        assert!(continuity.follows(11));
    }

    #[test]
    fn a_server_that_was_wound_back_is_noticed() {
        let mut continuity = after_recovery(10);
        assert!(continuity.follows(11));
        assert!(!continuity.follows(5));
        continuity.recovered(5);
        assert!(continuity.follows(6));
        assert!(!continuity.follows(8), "the numbers before the rewind do not count any more");
    }
}
