//! Streams and consumers beside the plan of `yalo init`, and the duplicate window beside the time of retries.

use std::time::Duration;

use super::{Diagnosis, Finding};
use crate::app::Reached;
use crate::bus::ServerPage;
use crate::bus::provision::{Action, Change};
use crate::config::Config;
use crate::domain::limits::DUPLICATE_WINDOW_MS;

pub(super) async fn examine(all: &mut Diagnosis, reached: &Reached, config: &Config, pages: &[ServerPage]) {
    let report = match reached.survey().await {
        Ok(report) => report,
        Err(error) => {
            all.add(Finding::fault(
                "streams",
                format!("streams and consumers could not be looked at: {error:#}"),
                "no message is accepted, or none is answered",
                "see that JetStream is on for this user, and that the servers have a leader",
            ));
            return;
        }
    };
    let (mut fit, mut window_fits) = (0, true);
    for change in &report.changes {
        window_fits &= change.field != "duplicate_window";
        match judge(change) {
            Some(finding) => all.add(finding),
            None => fit += usize::from(change.action == Action::Unchanged),
        }
    }
    all.add(Finding::ok("streams", format!("{fit} streams and consumers are as planned")));
    if window_fits {
        let (window, deadline) = (DUPLICATE_WINDOW_MS / 1000, config.nats.publish_deadline_ms / 1000);
        let dead = pages.iter().map(|page| page.dead_after).max();
        let dead = dead.map(|dead: Duration| format!(", dead lines are found after {dead:?}")).unwrap_or_default();
        all.add(Finding::ok(
            "window",
            format!("the duplicate window is {window} s; publishes are given up after {deadline} s{dead}"),
        ));
    }
}

fn judge(change: &Change) -> Option<Finding> {
    let object = &change.object;
    let check = match (change.field.as_str(), object.starts_with("consumer")) {
        ("duplicate_window", _) => "window",
        ("num_replicas", _) => "copies",
        (_, true) => "consumers",
        (_, false) => "streams",
    };
    match &change.action {
        Action::Unchanged => None,
        Action::LeftAlone => {
            let risk = "what it acknowledges or holds back is none of yalo's";
            Some(Finding::note(check, format!("{object} is not yalo's"), risk, "leave it, if you know whose it is"))
        }
        Action::Created => {
            let found = format!("{object} is missing");
            Some(Finding::fault(check, found, missing(object), "run `yalo init`"))
        }
        Action::Updated => {
            let Change { field, from, to, .. } = change;
            let found =
                format!("{object}: {field} is {}, and should be {to}", if from.is_empty() { "not set" } else { from });
            Some(Finding::fault(check, found, altered(field), "run `yalo init`, which changes it in place"))
        }
        Action::Refused { reason, way_out } => {
            let Change { field, from, to, .. } = change;
            Some(Finding::fault(check, format!("{object}: {field} is {from}, and should be {to}"), reason, way_out))
        }
    }
}

fn missing(object: &str) -> &'static str {
    match object {
        object if object.starts_with("consumer audit") => "nothing is stored",
        object if object.starts_with("consumer") => "the questions of its conversations are not answered",
        object if object.contains("_CHAT") => "no message is accepted",
        object if object.contains("_DEAD") => "what nobody can handle is not laid down, and waits",
        _ => "bots do not know of each other, and none answers",
    }
}

fn altered(field: &str) -> &'static str {
    match field {
        "duplicate_window" => "a message that is sent again with its id is stored a second time",
        "max_deliver" | "ack_wait" | "max_ack_pending" | "backoff" => {
            "a message is given up, or delivered to two at once"
        }
        "discard" | "max_msgs" | "max_msgs_per_subject" | "discard_new_per_subject" => {
            "messages that no auditor has stored are dropped"
        }
        "max_bytes" => "users are refused too soon, or the disk fills",
        "max_age" => "messages go before an auditor that was away has stored them",
        "num_replicas" => "a lost disk takes what was accepted",
        "republish" => "readers hear of answers only at their next comparison, 2 to 30 s later",
        "filter_subject" | "filter_subjects" => "a question goes to nobody, or to two",
        "allow_batched" => "uploads in batches are refused",
        "allow_direct" => "nothing can be read from the stream",
        "deny_delete" => "a foreign hand can take single messages out of the record",
        _ => "yalo relies on it",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn change(object: &str, field: &str, action: Action) -> Change {
        let text = str::to_owned;
        Change { object: text(object), field: text(field), from: text("1"), to: text("2"), action }
    }

    #[test]
    fn each_difference_has_its_check_its_risk_and_its_mend() {
        assert_eq!(judge(&change("stream YALO_CHAT", "", Action::Unchanged)), None);
        let window = judge(&change("stream YALO_CHAT", "duplicate_window", Action::Updated)).unwrap();
        assert_eq!((window.check, window.level), ("window", Level::Fault));
        assert!(window.risk.contains("second time") && window.mend.contains("yalo init"), "{window}");
        let missing = judge(&change("consumer audit of YALO_CHAT", "", Action::Created)).unwrap();
        assert_eq!((missing.check, missing.risk.as_str()), ("consumers", "nothing is stored"));
        let refused = Action::Refused { reason: "why".to_owned(), way_out: "how".to_owned() };
        let refused = judge(&change("stream YALO_CHAT", "storage", refused)).unwrap();
        assert_eq!((refused.risk.as_str(), refused.mend.as_str()), ("why", "how"));
        assert_eq!(judge(&change("consumer x of YALO_CHAT", "", Action::LeftAlone)).unwrap().level, Level::Note);
    }
}
