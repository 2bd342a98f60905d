//! How many servers hold the stream, and whether all of them are well.

use super::{Diagnosis, Finding};
use crate::bus::{BusError, Copies};

pub(super) fn examine(all: &mut Diagnosis, copies: Result<Copies, BusError>, clustered: bool) {
    match copies {
        Ok(copies) => judge(all, &copies, clustered),
        // Told with the streams.
        Err(BusError::Missing(_)) => {}
        Err(error) => all.add(Finding::fault(
            "copies",
            format!("the stream does not answer: {error}"),
            "no message is accepted while it has no leader",
            "see which servers of the cluster are away (`nats server list`, or their logs) and start them again",
        )),
    }
}

fn judge(all: &mut Diagnosis, copies: &Copies, clustered: bool) {
    let wanted = copies.wanted;
    let lost_disk = "a lost disk takes what no auditor had stored";
    all.add(match (wanted, clustered) {
        (3.., _) => Finding::ok("copies", format!("the stream is kept {wanted} times")),
        (1, false) => Finding::note(
            "copies",
            "the stream is kept once, on one server".to_owned(),
            lost_disk,
            "for more than that: three nats-servers with disks and power of their own, and nats.replicas at 3",
        ),
        (2, _) => Finding::risk(
            "copies",
            "the stream is kept twice".to_owned(),
            "with either server away nothing is accepted: two are less safe than one",
            "set nats.replicas to 3 and run `yalo init`",
        ),
        _ => Finding::risk(
            "copies",
            "the stream is kept once, and there is a cluster".to_owned(),
            lost_disk,
            "set nats.replicas to 3 and run `yalo init`",
        ),
    });
    if copies.wanted > 1 && copies.leader.is_none() {
        all.add(Finding::fault(
            "copies",
            "the stream has no leader".to_owned(),
            "no message is accepted until most of its servers see each other",
            "start the servers that are away",
        ));
    }
    for copy in copies.others.iter().filter(|copy| copy.offline || !copy.current) {
        let what = if copy.offline { "is away" } else { "lags behind" };
        all.add(Finding::risk(
            "copies",
            format!("{} {what} by {} entries", copy.name, copy.lag),
            "one more server that fails, and no message is accepted",
            "start it again; or, if it does not catch up, see its log and its disk",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::bus::Copy;

    fn levels(wanted: u64, clustered: bool, others: Vec<Copy>) -> Vec<Level> {
        let mut all = Diagnosis::default();
        let leader = clustered.then(|| "n1".to_owned());
        judge(&mut all, &Copies { wanted, leader, others }, clustered);
        all.findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn one_copy_is_a_risk_where_there_could_be_three() {
        assert_eq!(levels(1, false, vec![]), [Level::Note]);
        assert_eq!(levels(1, true, vec![]), [Level::Risk]);
        assert_eq!(levels(2, true, vec![]), [Level::Risk]);
        assert_eq!(levels(3, true, vec![]), [Level::Ok]);
        assert_eq!(levels(3, false, vec![]), [Level::Ok, Level::Fault], "no leader");
    }

    #[test]
    fn a_copy_that_is_away_or_behind_is_named() {
        let copy = |current, offline| Copy { name: "n2".to_owned(), current, offline, lag: 7 };
        assert_eq!(levels(3, true, vec![copy(true, false), copy(false, true)]), [Level::Ok, Level::Risk]);
        assert_eq!(levels(3, true, vec![copy(false, false)]), [Level::Ok, Level::Risk]);
    }
}
