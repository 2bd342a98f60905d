//! Whether what the stream may still take fits where it has to go.

use super::{Diagnosis, Finding};
use crate::bus::server::free_bytes;
use crate::bus::{Bus, ServerPage, StreamState};
use crate::config::Config;

/// The part of its limit from which on auditors should long have trimmed the stream.
const NEARLY_FULL_PERCENT: u64 = 85;

pub(super) async fn examine(
    all: &mut Diagnosis,
    bus: &Bus,
    config: &Config,
    stream: &StreamState,
    pages: &[ServerPage],
) {
    let Ok(limit) = u64::try_from(stream.max_bytes) else {
        all.add(Finding::risk(
            "disk",
            "the stream has no limit in bytes".to_owned(),
            "it grows until the disk is full, and nats-server then stops taking anything",
            "set nats.max_bytes and run `yalo init`",
        ));
        return;
    };
    if stream.bytes > limit / 100 * NEARLY_FULL_PERCENT {
        all.add(Finding::risk(
            "disk",
            format!("the stream holds {} of {}", readable(stream.bytes), readable(limit)),
            "at nine tenths new messages are refused (503)",
            "see that auditors store and bots answer, then they trim it; or raise nats.max_bytes and run `yalo init`",
        ));
    }
    let to_come = limit.saturating_sub(stream.bytes);
    let managed = config.nats.url.is_empty().then(|| config.data.dir.join("nats"));
    if let Some(free) = managed.as_deref().and_then(free_bytes) {
        all.add(fit(to_come, free, "the disk of data.dir has", "free some space"));
    }
    if let Ok(Some((most, used))) = bus.account_storage().await {
        let left = most.saturating_sub(used.max(limit)).saturating_add(to_come);
        all.add(fit(to_come, left, "the account's limit leaves", "raise the account's limit"));
    }
    for page in pages.iter().filter(|_| managed.is_none()) {
        if let Some(most) = u64::try_from(page.max_storage).ok().filter(|most| *most > 0 && *most < limit) {
            all.add(fit(limit, most, &format!("max_file of {} is", page.name), "raise max_file"));
        }
    }
}

fn fit(to_come: u64, room: u64, what: &str, way: &str) -> Finding {
    let found = format!("the stream may still take {}, and {what} {}", readable(to_come), readable(room));
    if to_come <= room {
        return Finding::ok("disk", found);
    }
    Finding::risk(
        "disk",
        found,
        "the disk is full before the stream is: new messages are refused (503), and a nats-server of your own has to be \
         started anew then",
        &format!("{way}, or lower nats.max_bytes and run `yalo init`"),
    )
}

/// `1.5 GiB`
pub(super) fn readable(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn what_may_come_has_to_fit() {
        assert_eq!(fit(1 << 30, 1 << 30, "the disk has", "free").level, Level::Ok);
        let full = fit((1 << 30) + 1, 1 << 30, "the disk has", "free some");
        assert_eq!(full.level, Level::Risk);
        assert!(full.mend.contains("nats.max_bytes") && full.found.contains("1.00 GiB"), "{full}");
    }
}
