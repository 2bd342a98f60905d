//! What a value must be beyond its type: a list of small checks, each of which names its key.

use std::ops::RangeInclusive;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::{Config, EngineKind, Secret};
use crate::domain::limits;
use crate::wire::Subjects;

const MINUTE_MS: u64 = 60_000;
/// A publish that is still under way must be dead before the stream forgets its id.
const DEADLINE_MS: u64 = limits::DUPLICATE_WINDOW_MS - 10_000;
const GIB: u64 = 1 << 30;

/// All that is wrong, by key. Empty means that the configuration can be run.
pub(super) fn validate(config: &Config) -> Vec<(&'static str, String)> {
    let mut checks = Checks::default();
    numbers(config, &mut checks);
    order(config, &mut checks);
    nats(config, &mut checks);
    store(config, &mut checks);
    edges(config, &mut checks);
    texts(config, &mut checks);
    checks.found
}

#[derive(Default)]
struct Checks {
    found: Vec<(&'static str, String)>,
}

impl Checks {
    fn require(&mut self, key: &'static str, holds: bool, problem: impl Into<String>) {
        if !holds {
            self.found.push((key, problem.into()));
        }
    }

    /// A negative number is below every range.
    fn range<T: TryInto<u64> + std::fmt::Display + Copy>(
        &mut self,
        key: &'static str,
        value: T,
        range: RangeInclusive<u64>,
    ) {
        let inside = value.try_into().is_ok_and(|value| range.contains(&value));
        self.require(key, inside, format!("must be between {} and {}, got {value}", range.start(), range.end()));
    }
}

fn numbers(config: &Config, checks: &mut Checks) {
    let Config { nats, store, frontend, bot, auditor, admin, auth, limits, .. } = config;
    checks.range("nats.replicas", nats.replicas, 1..=5);
    checks.range("nats.groups", nats.groups, u64::from(limits::GROUPS)..=u64::from(limits::MOST_GROUPS));
    checks.require("nats.groups", nats.groups.is_power_of_two(), "must be a power of two: 16, 32, 64, 128 or 256");
    checks.range("nats.max_bytes", nats.max_bytes, 1 << 20..=GIB << 20);
    checks.range("nats.max_age_hours", nats.max_age_hours, 1..=87_600);
    checks.range("nats.connect_timeout_ms", nats.connect_timeout_ms, 10..=10 * MINUTE_MS);
    checks.range("nats.request_timeout_ms", nats.request_timeout_ms, 10..=10 * MINUTE_MS);
    checks.range("nats.publish_timeout_ms", nats.publish_timeout_ms, 10..=DEADLINE_MS);
    checks.range("nats.publish_deadline_ms", nats.publish_deadline_ms, 10..=DEADLINE_MS);
    checks.range("nats.publish_in_flight", nats.publish_in_flight, 1..=10_000);
    checks.range("store.readers", store.readers, 1..=64);
    checks.range("store.connections", store.connections, 1..=64);
    checks.range("store.in_flight", store.in_flight, 8..=4096);
    checks.range("store.timeout_ms", store.timeout_ms, 100..=10 * MINUTE_MS);
    let days = store.retention_days;
    let keeps = days == 0 || (7..=36_500).contains(&days);
    checks.require("store.retention_days", keeps, format!("must be 0 (for ever) or between 7 and 36500, got {days}"));
    checks.range("frontend.answer_timeout_ms", frontend.answer_timeout_ms, 1..=60 * MINUTE_MS);
    checks.range("frontend.max_connections", frontend.max_connections, 1..=1_000_000);
    checks.range("frontend.header_timeout_ms", frontend.header_timeout_ms, 10..=10 * MINUTE_MS);
    checks.range("frontend.body_timeout_ms", frontend.body_timeout_ms, 10..=60 * MINUTE_MS);
    checks.range("frontend.watcher_queue", frontend.watcher_queue, 1..=100_000);
    checks.range("frontend.check_open_ms", frontend.check_open_ms, 10..=60 * MINUTE_MS);
    checks.range("frontend.check_quiet_ms", frontend.check_quiet_ms, 10..=60 * MINUTE_MS);
    checks.range("frontend.max_wait_ms", frontend.max_wait_ms, 1..=60 * MINUTE_MS);
    checks.range("frontend.ingest_uploads", frontend.ingest_uploads, 1..=256);
    checks.range("frontend.drain_ms", frontend.drain_ms, 1..=limits.grace_ms / 3);
    checks.range("bot.concurrency", bot.concurrency, 1..=100_000);
    checks.range("bot.attempt_timeout_ms", bot.attempt_timeout_ms, 1..=60 * MINUTE_MS);
    checks.range("bot.attempts", bot.attempts, 1..=100);
    checks.range("auditor.batch", auditor.batch, 1..=10_000);
    checks.range("auditor.flush_rows", auditor.flush_rows, 1..=10_000);
    checks.range("auditor.flush_ms", auditor.flush_ms, 1..=10_000);
    checks.range("auditor.flushes", auditor.flushes, 1..=64);
    checks.range("auditor.retry_min_ms", auditor.retry_min_ms, 1..=10 * MINUTE_MS);
    checks.range("auditor.retry_max_ms", auditor.retry_max_ms, 1..=10 * MINUTE_MS);
    checks.range("admin.check_per_second", admin.check_per_second, 1..=1_000_000);
    checks.range("admin.recheck_per_second", admin.recheck_per_second, 1..=1_000_000);
    checks.range("auth.guest_days", auth.guest_days, 1..=3650);
    checks.range("limits.body_bytes", limits.body_bytes, 1024..=16 << 20);
    checks.range("limits.grace_ms", limits.grace_ms, 1..=60 * MINUTE_MS);
}

/// Pairs that only make sense in one order.
fn order(config: &Config, checks: &mut Checks) {
    let Config { nats, frontend, auditor, .. } = config;
    let ordered = nats.publish_timeout_ms <= nats.publish_deadline_ms;
    checks.require("nats.publish_timeout_ms", ordered, "must not be above nats.publish_deadline_ms");
    let ordered = frontend.check_open_ms <= frontend.check_quiet_ms;
    checks.require("frontend.check_open_ms", ordered, "must not be above frontend.check_quiet_ms");
    checks.require("auditor.flush_rows", auditor.flush_rows <= auditor.batch, "must not be above auditor.batch");
    let ordered = auditor.retry_min_ms <= auditor.retry_max_ms;
    checks.require("auditor.retry_min_ms", ordered, "must not be above auditor.retry_max_ms");
}

fn nats(config: &Config, checks: &mut Checks) {
    let nats = &config.nats;
    checks.require("nats.url", nats.url.is_empty() || nats.url.split(',').all(is_server), NATS_URL);
    // The address is shown in logs and errors, so it can't carry the sign-in.
    checks.require("nats.url", !nats.url.contains('@'), "put user and password into nats.user and nats.password");
    checks.require("nats.prefix", Subjects::new(&nats.prefix).is_some(), "must be 1 to 32 letters, digits, - or _");
    let one_way = nats.credentials.is_empty() || nats.user.is_empty();
    checks.require("nats.credentials", one_way, "give either this file or nats.user, not both");
    let has_user = nats.password.is_empty() || !nats.user.is_empty();
    checks.require("nats.password", has_user, "needs nats.user too");
    let is_sync_interval = nats.sync_interval == "always" || sync_span(&nats.sync_interval).is_some();
    checks.require("nats.sync_interval", is_sync_interval, SYNC_INTERVAL);
}

fn store(config: &Config, checks: &mut Checks) {
    let store = &config.store;
    let is_node = |node: &str| is_address(node.trim());
    checks.require("store.nodes", store.nodes.split(',').all(is_node), STORE_NODES);
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts = store.keyspace.starts_with(|first: char| first.is_ascii_lowercase());
    let is_name = starts && store.keyspace.len() <= 48 && store.keyspace.bytes().all(word);
    checks.require("store.keyspace", is_name, "must be 1 to 48 lower-case letters, digits or _, a letter first");
    checks.require("store.replication", store.replication.split(',').all(is_replication), REPLICATION);
    let has_user = store.password.is_empty() || !store.user.is_empty();
    checks.require("store.password", has_user, "needs store.user too");
}

/// `3`, or `dc1:3`.
fn is_replication(part: &str) -> bool {
    let (centre, copies) = part.trim().split_once(':').unwrap_or(("all", part.trim()));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !centre.is_empty()
        && centre.bytes().all(plain)
        && copies.parse::<u8>().is_ok_and(|copies| (1..=9).contains(&copies))
}

const STORE_NODES: &str = "must be a comma-separated list such as c1:9042,c2:9042";
const REPLICATION: &str = "must be a number of copies such as 3, or one for each data centre such as east:3,west:3";
const NATS_URL: &str = "must be a comma-separated list such as nats://n1:4222,nats://n2:4222";
const SYNC_INTERVAL: &str = "must be \"always\" or a span from 1ms to 10m, such as 100ms or 2s";
const ADDRESS: &str = "must be an address and a port, such as 127.0.0.1:8080";
const ORIGIN: &str = "must be a list of origins such as https://example.org, or \"*\"";

fn is_server(server: &str) -> bool {
    let server = server.trim();
    !server.is_empty() && server.parse::<async_nats::ServerAddr>().is_ok()
}

/// The span of a `sync_interval`; `None` for "always", and for what is none.
pub(crate) fn sync_span(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|unit: char| unit.is_ascii_lowercase());
    let unit_ms = match text.strip_prefix(number)? {
        "ms" => 1,
        "s" => 1000,
        "m" => MINUTE_MS,
        _ => return None,
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let span_ms = number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(unit_ms)?;
    (1..=10 * MINUTE_MS).contains(&span_ms).then(|| Duration::from_millis(span_ms))
}

fn edges(config: &Config, checks: &mut Checks) {
    checks.require("frontend.listen", is_address(&config.frontend.listen), ADDRESS);
    checks.require("admin.listen", is_address(&config.admin.listen), ADDRESS);
    checks.require("ops.listen", is_address(&config.ops.listen), ADDRESS);
    checks.require("frontend.allow_origins", config.frontend.allow_origins.iter().all(|it| is_origin(it)), ORIGIN);
    let key = config.auth.guest_key.reveal();
    checks.require("auth.guest_key", key.is_empty() || key.len() >= 32, "must be at least 32 characters long");
    let token = config.auth.ingest_token.reveal();
    checks.require("auth.ingest_token", token.is_empty() || token.len() >= 32, "must be at least 32 characters long");
    // They travel in a header.
    let visible = |token: &Secret| token.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    let rule = "must be made of visible ASCII characters without spaces";
    checks.require("auth.ingest_token", visible(&config.auth.ingest_token), rule);
    checks.require("admin.token", visible(&config.admin.token), rule);
}

fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && !host.contains([':', '/', '@', '[']) && !host.contains(char::is_whitespace);
    let port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    port && (plain || (bracketed && address.parse::<std::net::SocketAddr>().is_ok()))
}

fn is_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let plain = |host: &str| !host.is_empty() && !host.contains(['/', '@', '?', '#', '*', ' ']);
    origin == "*" || host.is_some_and(plain)
}

fn texts(config: &Config, checks: &mut Checks) {
    let Config { data, frontend, bot, log, .. } = config;
    checks.require("data.dir", !data.dir.as_os_str().is_empty(), "must name a folder");
    let name = (1..=limits::NAME_BYTES).contains(&frontend.bot.len());
    checks.require("frontend.bot", name, format!("must be 1 to {} bytes long", limits::NAME_BYTES));
    let has_rules = bot.engine != EngineKind::Rules || !bot.rules.as_os_str().is_empty();
    checks.require("bot.rules", has_rules, "must name the rules file that bot.engine = \"rules\" needs");
    let apology = !bot.apology.trim().is_empty() && bot.apology.len() <= limits::TEXT_BYTES;
    checks.require("bot.apology", apology, format!("must be a text of at most {} bytes", limits::TEXT_BYTES));
    if let Err(problem) = log_level(&log.level) {
        checks.require("log.level", false, problem);
    }
}

/// A lone word must be a level: taken for the name of a module, a typing error would silence the log.
fn log_level(filter: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let words = filter.split(',').map(str::trim);
    let bare = |word: &&str| !word.contains(['=', '[', ':']);
    match words.filter(bare).find(|word| !LEVELS.contains(&word.to_ascii_lowercase().as_str())) {
        Some(word) => Err(format!("{word:?} is not one of {}", LEVELS.join(", "))),
        None => EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string()),
    }
}
