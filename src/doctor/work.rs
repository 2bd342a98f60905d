//! Whether somebody works: a consumer that holds messages and that nobody pulls from.

use std::time::Duration;

use super::{Diagnosis, Finding};
use crate::bus::provision::{AUDIT, Names};
use crate::bus::{Bus, ConsumerState};

/// Between two pulls a consumer has none for a moment: only one that has none three times is left alone.
const LOOKS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(400);

pub(super) async fn examine(all: &mut Diagnosis, bus: &Bus, groups: u16) {
    let mut idle: Vec<String> = Names::bots(groups).map(|(_, name)| name).chain([AUDIT.to_owned()]).collect();
    let mut last = Vec::new();
    for look in 0..LOOKS {
        if look > 0 && !idle.is_empty() {
            tokio::time::sleep(BETWEEN).await;
        }
        last.clear();
        for name in std::mem::take(&mut idle) {
            // One that is missing is told with the streams.
            if let Ok(state) = bus.consumer_state(&name).await
                && state.waiting == 0
            {
                idle.push(name);
                last.push(state);
            }
        }
    }
    judge(all, &last);
    if let Ok(letters) = bus.dead_letters(0, 1).await
        && !letters.letters.is_empty()
    {
        let mend = "read them with `yalo dlq list`, then `replay` or `drop` them; or on the operator's page";
        all.add(Finding::note("work", "dead letters are waiting".to_owned(), "questions that got an apology", mend));
    }
}

/// The consumers that nobody pulls from.
fn judge(all: &mut Diagnosis, idle: &[ConsumerState]) {
    let (audit, bots): (Vec<_>, Vec<_>) = idle.iter().partition(|state| state.name == AUDIT);
    let waiting = |states: &[&ConsumerState]| states.iter().map(|state| state.pending + state.ack_pending).sum::<u64>();
    for (who, what, key, states) in [
        ("auditor", "is stored", "the stream forgets them after nats.max_age_hours", audit),
        ("bot", "is answered", "people wait", bots),
    ] {
        if states.is_empty() {
            all.add(Finding::ok("work", format!("{who}s are at work")));
            continue;
        }
        let (held, some) = (waiting(&states), states.len());
        let found =
            format!("no {who} pulls from {some} of its consumers, and {held} messages lie there: nothing of it {what}");
        let mend = format!("start `yalo {who}`; if one runs, see its /readyz and its log");
        all.add(match held {
            0 => Finding::note("work", found, key, &mend),
            _ => Finding::risk("work", found, key, &mend),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn state(name: &str, pending: u64) -> ConsumerState {
        ConsumerState {
            name: name.to_owned(),
            pending,
            ack_pending: 0,
            redelivered: 0,
            waiting: 0,
            ack_floor: 0,
            delivered: 0,
            deliveries: 0,
        }
    }

    #[test]
    fn messages_that_nobody_pulls_are_a_risk() {
        let levels = |idle: &[ConsumerState]| {
            let mut all = Diagnosis::default();
            judge(&mut all, idle);
            all.findings.iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(&[]), [Level::Ok, Level::Ok]);
        assert_eq!(levels(&[state(AUDIT, 0), state("bot-1", 0)]), [Level::Note, Level::Note]);
        assert_eq!(levels(&[state(AUDIT, 5)]), [Level::Risk, Level::Ok]);
        assert_eq!(levels(&[state("bot-1", 0), state("bot-2", 1)]), [Level::Ok, Level::Risk]);
    }
}
