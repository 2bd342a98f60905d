//! What is known to be wrong with a record that is checked again and again: the findings of each stretch replace what was
//! known of it, so that what was mended goes away and what is new can be told once.

use std::collections::BTreeMap;

use super::finding::{Finding, Report};

/// Findings that are kept by themselves; more are only counted.
const KEPT: usize = 1000;

/// The findings, by their first sequence; they never overlap.
#[derive(Debug, Default)]
pub struct Known {
    ranges: BTreeMap<u64, Finding>,
    /// Messages that were found and had no room, since the last beginning of a round.
    unlisted: u64,
}

impl Known {
    /// Takes what was found between two sequences for all that is wrong there, and gives back what was not known before.
    pub fn replace(&mut self, from: u64, to: u64, report: Report) -> Vec<Finding> {
        let before = self.cut(from, to);
        let known =
            |new: &Finding| before.iter().any(|old| old.flaw == new.flaw && old.from <= new.from && new.to <= old.to);
        let fresh = report.findings.iter().filter(|finding| !known(finding)).cloned().collect();
        let named: u64 = report.findings.iter().map(Finding::messages).sum();
        self.unlisted += report.flawed - named;
        for finding in report.findings {
            self.add(finding);
        }
        fresh
    }

    /// A round begins: what had no room is met again, if it is still there.
    pub fn begin_round(&mut self) {
        self.unlisted = 0;
    }

    /// Messages that are not as they must be.
    pub fn flawed(&self) -> u64 {
        self.ranges.values().map(Finding::messages).sum::<u64>() + self.unlisted
    }

    /// The first so many findings.
    pub fn first(&self, limit: usize) -> Vec<Finding> {
        self.ranges.values().take(limit).cloned().collect()
    }

    /// Takes out what is known between two sequences; what sticks out on either side stays.
    fn cut(&mut self, from: u64, to: u64) -> Vec<Finding> {
        let reaches = |(first, finding): (&u64, &Finding)| (finding.to >= from).then_some(*first);
        let touched: Vec<u64> = self.ranges.range(..=to).rev().map_while(reaches).collect();
        let cut: Vec<Finding> = touched.into_iter().filter_map(|first| self.ranges.remove(&first)).collect();
        for finding in &cut {
            if finding.from < from {
                self.ranges.insert(finding.from, Finding { to: from - 1, ..finding.clone() });
            }
            if finding.to > to {
                self.ranges.insert(to + 1, Finding { from: to + 1, ..finding.clone() });
            }
        }
        cut
    }

    /// Adds one, joined to its neighbours if they are of its kind.
    fn add(&mut self, mut finding: Finding) {
        if let Some(right) = self.ranges.get(&(finding.to + 1)).filter(|right| right.flaw == finding.flaw) {
            let (first, last) = (right.from, right.to);
            self.ranges.remove(&first);
            finding.to = last;
        }
        if let Some((_, left)) = self.ranges.range_mut(..finding.from).next_back()
            && left.to + 1 == finding.from
            && left.flaw == finding.flaw
        {
            left.to = finding.to;
        } else if self.ranges.len() < KEPT {
            self.ranges.insert(finding.from, finding);
        } else {
            self.unlisted += finding.messages();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Flaw;

    fn report(sequences: impl IntoIterator<Item = u64>) -> Report {
        let mut report = Report::default();
        for seq in sequences {
            report.add(seq, Flaw::Altered, false);
        }
        report
    }

    fn ranges(known: &Known) -> Vec<(u64, u64)> {
        known.first(100).iter().map(|finding| (finding.from, finding.to)).collect()
    }

    #[test]
    fn a_gap_across_stretches_is_one_finding_that_is_told_in_its_parts() {
        let mut known = Known::default();
        assert_eq!(known.replace(1, 10, report(8..=10)).len(), 1);
        assert_eq!(known.replace(11, 20, report(11..=20)).len(), 1);
        assert_eq!(known.replace(21, 30, report([21, 25])).len(), 2);
        assert_eq!((ranges(&known), known.flawed()), (vec![(8, 21), (25, 25)], 15));
    }

    #[test]
    fn what_is_known_is_not_told_again_and_what_was_mended_goes() {
        let mut known = Known::default();
        known.replace(1, 30, report(5..=25));
        assert_eq!(known.replace(11, 20, report(11..=20)), vec![]);
        assert_eq!(ranges(&known), [(5, 25)]);
        assert_eq!(known.replace(11, 20, report([15])), vec![]);
        assert_eq!((ranges(&known), known.flawed()), (vec![(5, 10), (15, 15), (21, 25)], 12));
        known.replace(1, 30, report([]));
        assert_eq!(known.flawed(), 0);
        assert_eq!(known.replace(1, 30, report([7])).len(), 1, "it is new again");
    }

    #[test]
    fn what_has_no_room_is_counted_until_the_next_round() {
        let mut known = Known::default();
        known.replace(1, 2000, report((1..=900).map(|number| number * 2)));
        known.replace(2001, 4000, report((1001..=1900).map(|number| number * 2)));
        assert_eq!((known.first(5000).len(), known.flawed()), (1000, 1800));
        known.begin_round();
        known.replace(1, 2000, report([]));
        known.replace(2001, 4000, report((1001..=1900).map(|number| number * 2)));
        assert_eq!(known.flawed(), 900);
    }
}
