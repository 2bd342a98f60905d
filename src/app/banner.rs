//! What runs, where, and what is durable: printed once, when every instance is ready.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::parts::{Parts, address, store_options};
use crate::mistake;

/// Waits until everything is ready, then prints the banner; a stop ends the waiting.
pub(super) async fn announce(parts: &Parts, instances: &[String], shutdown: CancellationToken) {
    let mut ready = parts.readiness.watch();
    tokio::select! {
        biased;
        () = shutdown.cancelled() => return,
        waited = ready.wait_for(|ready| *ready) => if waited.is_err() { return },
    }
    let text = banner(parts, instances);
    // A closed standard output is no reason to stop.
    std::io::stdout().write_all(text.as_bytes()).ok();
    tracing::info!(instances = instances.join(" "), "ready");
}

fn banner(parts: &Parts, instances: &[String]) -> String {
    let config = &parts.config;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "  {name:<9} {value}");
    };
    line("yalo", &format!("{} ({})", env!("CARGO_PKG_VERSION"), instances.join(", ")));
    let url = |listener: &TcpListener| address(listener).map(|at| format!("http://{at}")).unwrap_or_default();
    if let Some(listener) = &parts.frontend {
        line("chat", &format!("{}/", url(listener)));
    }
    if let Some(listener) = &parts.admin {
        let token = if std::io::stdout().is_terminal() {
            format!("token {}", config.admin.token.reveal())
        } else {
            format!("token in {}", config.data.dir.join("admin-token").display())
        };
        line("admin", &format!("{}/  {token}", url(listener)));
    }
    line("ops", &format!("{}/readyz /metrics", url(&parts.ops)));
    match &parts.server {
        Some(server) => line(
            "nats",
            &format!("{} (managed, {}, pid {})", config.nats.url, server.version(), server.pid().unwrap_or(0)),
        ),
        None => line("nats", &format!("{} (streams of prefix {})", config.nats.url, config.nats.prefix)),
    }
    line("store", &store_options(config, false).place());
    if parts.standalone {
        line("data", &format!("{}", config.data.dir.display()));
    }
    if let Some(mistake) = mistake::chosen() {
        line("MISTAKE", &format!("{mistake:?}, made on purpose"));
    }
    line("durable", &durable(parts));
    if let Some(listener) = &parts.frontend {
        line("try", &format!("curl --json '{{\"text\":\"hello\"}}' {}/v1/chat", url(listener)));
    }
    text
}

/// The honest word on what a power cut may take.
fn durable(parts: &Parts) -> String {
    match (&parts.server, parts.config.nats.sync_interval.as_str()) {
        (Some(_), "always") => "accepted messages are synced to disk before they are acknowledged".to_owned(),
        (Some(_), interval) => format!(
            "accepted messages survive any crash of a process; a power cut may take the last {interval} \
             (nats.sync_interval)"
        ),
        (None, _) => {
            "accepted messages are as safe as the NATS they are in; see its sync_interval and replicas".to_owned()
        }
    }
}
