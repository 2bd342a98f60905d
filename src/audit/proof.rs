//! The running proof: what became settled since the last look is checked at once, and all of it over again, slowly.
//!
//! Settled is what the audit consumer's ack floor has passed: the auditors have said that it is stored. So what is not
//! stored yet is never a finding. It begins anew with each start, at the beginning of the record.

use std::time::Duration;

use super::finding::Finding;
use super::window::{WINDOW, check};
use super::{Ends, Known, VerifyError};
use crate::bus::Bus;
use crate::store::Store;

/// How many messages are checked in a second; at least 1.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Of what is new.
    pub new: u64,
    /// Of what has been checked before.
    pub again: u64,
}

/// How far it is, and what was found.
#[derive(Debug)]
pub struct Proof {
    pace: Pace,
    /// The next sequence that was never checked.
    next: u64,
    /// The next one to be checked again.
    round: u64,
    known: Known,
}

impl Proof {
    /// Nothing is checked yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, next: 1, round: 1, known: Known::default() }
    }

    /// Everything up to here was checked; 0 before the first.
    pub fn checked_to(&self) -> u64 {
        self.next - 1
    }

    /// Everything that is known to be wrong.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Whether everything that is settled has been checked.
    pub fn is_level(&self, ends: Ends) -> bool {
        self.next > settled(ends)
    }

    /// Checks what is new, or else a stretch of the old. Gives what was not known before, and how long to rest for it.
    pub async fn step(
        &mut self,
        store: &Store,
        bus: &Bus,
        ends: Ends,
        first_row: Option<u64>,
    ) -> Result<(Vec<Finding>, Duration), VerifyError> {
        let is_new = !self.is_level(ends);
        let (from, rate) = if is_new { (self.next, self.pace.new) } else { (self.round, self.pace.again) };
        let rate = rate.max(1);
        let end = settled(ends).min(if is_new { u64::MAX } else { self.next - 1 });
        if from > end {
            self.round = 1;
            self.known.begin_round();
            return Ok((Vec::new(), Duration::ZERO));
        }
        let report;
        // What is missing before the beginning is one finding, and no work.
        let begins = ends.beginning(first_row).min(end + 1);
        let to = if from < begins {
            report = ends.before(from, begins);
            begins - 1
        } else {
            let to = end.min(from + WINDOW.min(rate) - 1);
            report = check(store, bus, ends, false, (from, to)).await?.report;
            to
        };
        let fresh = self.known.replace(from, to, report);
        if is_new {
            self.next = to + 1;
        } else {
            self.round = to + 1;
        }
        let checked = (to - from + 1).min(WINDOW);
        Ok((fresh, Duration::from_nanos(checked * 1_000_000_000 / rate)))
    }
}

fn settled(ends: Ends) -> u64 {
    ends.audited.min(ends.last)
}
