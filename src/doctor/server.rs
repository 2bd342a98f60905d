//! The nats-servers: version, how late they reach the disk, where they store, how soon they find a dead line, and the
//! clock.

use std::path::Path;
use std::time::Duration;

use super::machine::is_emptied;
use super::{Diagnosis, Finding};
use crate::bus::server::{OLDEST, sync_interval_of};
use crate::bus::{Bus, ServerPage, Skew};
use crate::config::{Config, sync_span};
use crate::domain::limits::{DUPLICATE_WINDOW_MS, ID_AHEAD_MS};

/// A cut of power may take this much of a single server without a word of ours.
const SHORT: Duration = Duration::from_secs(1);
/// Clocks that differ by more than this make people wonder.
const CLOCK_MS: i64 = 1000;
/// One monitoring page.
const PAGE_LIMIT: Duration = Duration::from_secs(5);
/// What it costs not to have the gap, measured on two cores with one server: 164,000 messages a second without.
const PRICE: &str = "\"always\" waits for the disk with each message and costs 20 to 50 times the speed of a single server \
                     (3,300 instead of 164,000 messages/s), 2.4 times on three; \"100ms\" costs a quarter";

/// Gives back what the servers say of themselves.
pub(super) async fn examine(
    all: &mut Diagnosis,
    bus: &Bus,
    config: &Config,
    replicas: u64,
    monitors: &[String],
) -> Vec<ServerPage> {
    let greeting = bus.greeting();
    let cluster = greeting.cluster.map(|name| format!(" of the cluster {name}")).unwrap_or_default();
    all.add(Finding::ok(
        "server",
        format!("{} is nats-server {}{cluster}; yalo needs {OLDEST} or newer", greeting.name, greeting.version),
    ));
    clock(all, bus).await;
    let mut pages = Vec::new();
    for monitor in monitors {
        match page(monitor).await {
            Ok(page) => pages.push(page),
            Err(error) => all.add(Finding::risk(
                "server",
                format!("no page of a server at {monitor}: {error:#}"),
                "how it is set could not be looked at",
                "give the address of its monitoring port, such as --monitor http://127.0.0.1:8222",
            )),
        }
    }
    if config.nats.url.is_empty() {
        let interval = sync_interval_of(&config.data.dir).unwrap_or_else(|| config.nats.sync_interval.clone());
        managed(all, &interval);
    } else if pages.is_empty() {
        all.add(Finding::note(
            "sync",
            "how late the servers reach their disks is on their monitoring pages only".to_owned(),
            "an acknowledgement comes before the disk: by default a power cut takes up to two minutes of a single server",
            "look at it with `yalo doctor --monitor http://HOST:8222`, the monitoring port of each server",
        ));
    }
    for page in &pages {
        all.add(sync(page, replicas));
        folder(all, page);
        lines(all, page);
    }
    pages
}

/// The managed server is set by us: seldom enough to matter only if somebody chose so.
fn managed(all: &mut Diagnosis, interval: &str) {
    all.add(match interval {
        "always" => Finding::ok("sync", "each message is on the disk before it is acknowledged (always)".to_owned()),
        interval if sync_span(interval).is_some_and(|span| span <= SHORT) => Finding::note(
            "sync",
            format!("nats.sync_interval is {interval}: an acknowledgement comes before the disk"),
            &format!("a power cut may take the last {interval}; a crash of any process takes nothing"),
            &format!("if that matters, set nats.sync_interval to \"always\": {PRICE}"),
        ),
        interval => Finding::risk(
            "sync",
            format!("nats.sync_interval is {interval}: an acknowledgement comes before the disk"),
            &format!("a power cut takes up to {interval} of accepted messages"),
            &format!("set nats.sync_interval to \"100ms\", or to \"always\": {PRICE}"),
        ),
    });
}

fn sync(page: &ServerPage, replicas: u64) -> Finding {
    let (name, interval) = (&page.name, page.sync_interval);
    if page.sync_always {
        return Finding::ok("sync", format!("{name}: each message is on the disk before it is acknowledged (always)"));
    }
    let found = format!("{name}: sync_interval is {interval:?}, an acknowledgement comes before the disk");
    let mend = format!("set sync_interval in the jetstream block of its configuration: {PRICE}");
    if replicas >= 3 {
        let risk = "only a power cut of most servers at once takes messages";
        Finding::note("sync", found, risk, &format!("if they share their power: {mend}"))
    } else if interval <= SHORT {
        Finding::note("sync", found, &format!("a power cut may take the last {interval:?}"), &mend)
    } else {
        Finding::risk("sync", found, &format!("a power cut takes up to {interval:?} of accepted messages"), &mend)
    }
}

fn folder(all: &mut Diagnosis, page: &ServerPage) {
    if is_emptied(Path::new(&page.store_dir)) {
        all.add(Finding::risk(
            "folder",
            format!("{} stores in {}, a folder for temporary files", page.name, page.store_dir),
            "systems empty it, at a restart or by age: messages that were accepted go with it",
            "stop the server, move the folder, and set store_dir in its jetstream block",
        ));
    }
}

fn lines(all: &mut Diagnosis, page: &ServerPage) {
    let window = Duration::from_millis(DUPLICATE_WINDOW_MS);
    if page.dead_after >= window {
        all.add(Finding::risk(
            "window",
            format!("{} ends a dead connection after {:?}, the duplicate window is {window:?}", page.name, page.dead_after),
            "a publish that lies in a dead line for longer than the window is stored a second time (bots answer it once \
             all the same)",
            "set ping_interval to \"20s\" and ping_max to 2 in its configuration",
        ));
    }
}

async fn page(monitor: &str) -> anyhow::Result<ServerPage> {
    let client = reqwest::Client::builder().timeout(PAGE_LIMIT).build()?;
    let url = format!("{}/varz", monitor.trim_end_matches('/'));
    let page = client.get(url).send().await?.error_for_status()?.json().await?;
    ServerPage::read(&page).ok_or_else(|| anyhow::anyhow!("it is not that of a nats-server with JetStream"))
}

async fn clock(all: &mut Diagnosis, bus: &Bus) {
    match bus.skew().await {
        Ok(Skew { ahead_ms, give_ms }) => {
            all.add(skewed("this machine's clock", ahead_ms, give_ms));
        }
        Err(error) => all.add(Finding::note(
            "clock",
            format!("the server's clock could not be read: {error}"),
            "",
            "let the user publish to $SYS.REQ.USER.INFO",
        )),
    }
    for (bot, ahead_ms, give_ms) in bus.members("bot.*").await.map(|bots| clocks(&bots)).unwrap_or_default() {
        let finding = skewed(&format!("the clock of bot {bot}"), ahead_ms, give_ms);
        if finding.level > super::Level::Ok {
            all.add(finding);
        }
    }
}

/// Each bot writes its time into its heartbeat, and the server its own beside it.
fn clocks(bots: &[crate::bus::Member]) -> Vec<(String, i64, i64)> {
    let clock = |bot: &crate::bus::Member| {
        let beat: serde_json::Value = serde_json::from_slice(&bot.value).ok()?;
        let own = crate::domain::Timestamp::parse(beat["at"].as_str()?)?;
        let name = bot.key.strip_prefix("bot.")?.to_owned();
        // A write is given up after a second.
        Some((name, (own.ns() - bot.at.ns()) / 1_000_000, CLOCK_MS))
    };
    bots.iter().filter_map(clock).collect()
}

fn skewed(whose: &str, ahead_ms: i64, give_ms: i64) -> Finding {
    let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let by = Duration::from_millis(ahead_ms.unsigned_abs());
    let found = format!("{whose} is {by:?} {side} the server's, give or take {} ms", give_ms.max(1));
    let certain = ahead_ms.abs().saturating_sub(give_ms);
    let mend = "let all machines keep the time of the network (chrony, systemd-timesyncd): `timedatectl`";
    if certain >= i64::try_from(ID_AHEAD_MS).unwrap_or(i64::MAX) {
        Finding::fault("clock", found, "message ids made here are refused as of another time", mend)
    } else if certain > CLOCK_MS {
        let risk =
            "ids and times do not agree: a late retry is looked for too late, and people see answers before questions";
        Finding::risk("clock", found, risk, mend)
    } else {
        Finding::ok("clock", found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn server(sync_always: bool, seconds: u64) -> ServerPage {
        ServerPage {
            name: "n1".to_owned(),
            sync_always,
            sync_interval: Duration::from_secs(seconds),
            store_dir: "/srv/nats".to_owned(),
            max_storage: 0,
            dead_after: Duration::from_secs(40),
        }
    }

    #[test]
    fn two_minutes_are_a_risk_of_a_single_server_only() {
        assert_eq!(sync(&server(true, 120), 1).level, Level::Ok);
        assert_eq!(sync(&server(false, 120), 3).level, Level::Note);
        assert_eq!(sync(&server(false, 1), 1).level, Level::Note);
        let lazy = sync(&server(false, 120), 1);
        assert_eq!(lazy.level, Level::Risk);
        assert!(lazy.risk.contains("120s") && lazy.mend.contains("sync_interval"), "{lazy}");
        let level = |interval| {
            let mut all = Diagnosis::default();
            managed(&mut all, interval);
            all.findings[0].level
        };
        assert_eq!((level("always"), level("100ms"), level("1s")), (Level::Ok, Level::Note, Level::Note));
        assert_eq!((level("2m"), level("90000ms"), level("2s")), (Level::Risk, Level::Risk, Level::Risk));
    }

    #[test]
    fn a_dead_line_has_to_be_found_within_the_window() {
        let mut all = Diagnosis::default();
        lines(&mut all, &server(false, 1));
        assert!(all.findings.is_empty(), "{all}");
        // As nats-server has it by default.
        lines(&mut all, &ServerPage { dead_after: Duration::from_secs(240), ..server(false, 1) });
        assert_eq!(all.findings[0].level, Level::Risk);
    }

    #[test]
    fn a_clock_is_wrong_only_if_the_way_does_not_explain_it() {
        let level = |ahead, give| skewed("this machine's clock", ahead, give).level;
        assert_eq!((level(5, 1), level(1900, 1000), level(-1500, 1)), (Level::Ok, Level::Ok, Level::Risk));
        assert_eq!((level(40_000, 10), level(-40_000, 10)), (Level::Fault, Level::Fault));
    }
}
