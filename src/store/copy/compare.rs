//! What two stores have of the same sequences, held against each other.

use std::fmt;

use crate::domain::Row;
use crate::store::Refused;

/// Consecutive sequences at which two stores differ in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The first sequence.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// How.
    pub unlike: Unlike,
}

/// How two stores differ at a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlike {
    /// Only the first one has a row; the second did not take it, for this reason if it gave one.
    Missing(Option<String>),
    /// Only the second one has a row.
    Extra,
    /// The rows are not the same.
    Other,
}

impl Difference {
    /// How many sequences it is about.
    pub fn sequences(&self) -> u64 {
        self.to - self.from + 1
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequences() {
            1 => write!(out, "{}: ", self.from)?,
            sequences => write!(out, "{} to {} ({sequences} messages): ", self.from, self.to)?,
        }
        match &self.unlike {
            Unlike::Missing(None) => write!(out, "does not stay in the second store: somebody has deleted it there"),
            Unlike::Missing(Some(reason)) => write!(out, "can't be stored in the second store: {reason}"),
            Unlike::Extra => write!(out, "only in the second store"),
            Unlike::Other => write!(out, "another row in the second store than in the first"),
        }
    }
}

/// What a window came to.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// The first and last sequence of each span that neither has.
    pub(super) holes: Vec<(u64, u64)>,
    pub(super) differences: Vec<Difference>,
}

impl Compared {
    pub(super) fn is_clean(&self) -> bool {
        self.holes.is_empty() && self.differences.is_empty()
    }

    /// Drops differences and holes that lie below where rows were retired by now.
    pub(super) fn forget(&mut self, differences_below: u64, holes_below: u64) {
        self.differences.retain(|difference| difference.to >= differences_below);
        self.differences.iter_mut().for_each(|difference| difference.from = differences_below.max(difference.from));
        self.holes.retain(|(_, to)| *to >= holes_below);
        self.holes.iter_mut().for_each(|(from, _)| *from = holes_below.max(*from));
    }
}

/// Holds the rows of two stores from one sequence to another against each other, every column of them. Both ascend.
pub(super) fn compare((from, to): (u64, u64), one: &[Row], other: &[Row], refused: &[Refused]) -> Compared {
    let mut compared = Compared::default();
    let (mut one, mut other) = (one.chunk_by(same_seq).peekable(), other.chunk_by(same_seq).peekable());
    let mut expected = from;
    loop {
        let seq_of = |rows: Option<&&[Row]>| rows.and_then(|rows| rows.first()).map(|row| row.seq);
        let Some(seq) = [seq_of(one.peek()), seq_of(other.peek())].into_iter().flatten().min() else { break };
        if expected < seq {
            compared.holes.push((expected, seq - 1));
        }
        expected = seq + 1;
        let here = |rows: &&[Row]| rows.first().is_some_and(|row| row.seq == seq);
        let unlike = match (one.next_if(here), other.next_if(here)) {
            (Some(one), Some(other)) if one == other => continue,
            (Some(_), Some(_)) => Unlike::Other,
            (None, _) => Unlike::Extra,
            (Some(_), None) => {
                Unlike::Missing(refused.iter().find(|refused| refused.seq == seq).map(|refused| refused.reason.clone()))
            }
        };
        join(&mut compared.differences, Difference { from: seq, to: seq, unlike }, usize::MAX);
    }
    if expected <= to {
        compared.holes.push((expected, to));
    }
    compared
}

fn same_seq(one: &Row, next: &Row) -> bool {
    one.seq == next.seq
}

/// Adds one, joined to the last one if it goes on with it; above so many it is dropped.
pub(super) fn join(differences: &mut Vec<Difference>, next: Difference, most: usize) {
    let room = differences.len() < most;
    match differences.last_mut() {
        Some(last) if last.to + 1 == next.from && last.unlike == next.unlike => last.to = next.to,
        _ if room => differences.push(next),
        _ => {}
    }
}
