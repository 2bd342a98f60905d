//! `yalo audit verify`: proves that the store has every message of the stream, byte for byte, or names what is wrong.

use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::exit::{CliError, print};
use super::progress;
use crate::app;
use crate::audit::{Report, Scope, verify};
use crate::config::Config;
use crate::domain::{Bound, Timestamp};
use crate::store::{Contract, Store};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Hold the store against the stream; exit code 3 if something is wrong
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Begin here: a sequence, or an instant such as 2026-11-23T22:04:13Z [default: the beginning of the record]
    #[arg(long, value_name = "SEQ|TIME")]
    from: Option<Bound>,
    /// End here: a sequence, or an instant [default: the end of the stream]
    #[arg(long, value_name = "SEQ|TIME")]
    to: Option<Bound>,
    /// Store what is missing and the stream still holds
    #[arg(long)]
    repair: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: AuditCommand, config: Config) -> anyhow::Result<()> {
    let AuditCommand::Verify(args) = command;
    let reached = app::Reached::open(config, "verify").await?;
    let checked = check(&args, &reached).await;
    reached.close().await;
    let (report, elapsed) = checked?;
    let text = if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { told(&report, elapsed) };
    print(&text)?;
    if report.is_clean() {
        return Ok(());
    }
    let left = report.flawed - report.mended;
    Err(CliError::Findings(format!("the record is not as it must be: {left} messages, as listed")).into())
}

async fn check(args: &VerifyArgs, reached: &app::Reached) -> anyhow::Result<(Report, f64)> {
    let store = reached.open_store(!args.repair).await?;
    let from = seq_of(&store, args.from, true).await?;
    let to = seq_of(&store, args.to, false).await?;
    let scope = Scope { from, to, repair: args.repair };
    let bar = progress::messages();
    let begun = Instant::now();
    let report = verify(&store, &reached.bus, scope, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    store.close().await.context("close the store")?;
    Ok((report?, begun.elapsed().as_secs_f64()))
}

/// The first sequence at or after an instant, or the last one before it.
async fn seq_of(store: &Store, bound: Option<Bound>, first: bool) -> anyhow::Result<Option<u64>> {
    let at = match bound {
        None => return Ok(None),
        Some(Bound::Seq(seq)) => return Ok(Some(seq)),
        Some(Bound::At(at)) => at,
    };
    let next = store.between(at, Timestamp::from_ns(i64::MAX), 0, 1).await.context("find the instant")?;
    let next = next.first().map(|row| row.seq);
    // Behind everything: nothing to look at, or everything.
    Ok(if first { Some(next.unwrap_or(u64::MAX)) } else { next.map(|seq| seq.saturating_sub(1)) })
}

fn told(report: &Report, elapsed: f64) -> String {
    let Report { from, to, rows, compared, on_their_way, retired, flawed, mended, findings } = report;
    let mut lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let named: u64 = findings.iter().map(|finding| finding.to - finding.from + 1).sum();
    if named < *flawed {
        lines.push(format!("and {} more", flawed - named));
    }
    lines.push(format!(
        "{from} to {to}: {rows} rows were held against their digests, {compared} of them against the stream, in {elapsed:.1} s"
    ));
    if *retired > 0 {
        lines.push(format!("{retired} messages were retired by age (store.retention_days)"));
    }
    if *on_their_way > 0 {
        lines.push(format!("{on_their_way} messages are on their way into the store"));
    }
    lines.push(match (flawed, mended) {
        (0, _) => "complete: nothing is missing, nothing is altered".to_owned(),
        (flawed, mended) if flawed == mended => format!("{mended} messages were missing and are stored now"),
        (flawed, mended) => format!("{flawed} messages are not as they must be, {mended} of them mended"),
    });
    lines.push(String::new());
    lines.join("\n")
}
