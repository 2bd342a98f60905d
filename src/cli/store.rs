//! `yalo store copy`: the whole record from one store into another, compared row by row. It needs the two stores and nothing
//! else, and may run while the deployment writes.

use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::exit::{CliError, note, print};
use super::progress;
use crate::app;
use crate::config::{Config, Layers};
use crate::store::{Contract, Copied, CopyError, Difference, Store, copy};

const AFTER_HELP: &str = "\
What the other store has already is compared and left alone, so a copy that was cut off goes on when it is run again, and a \
second run brings what was stored since. Nothing is ever removed. Exit code 3 if the stores differ.

To move a deployment to another store while people talk:
  yalo init --set store.kind=cql ...        makes the tables, where the new store needs them
  yalo store copy --to store.kind=cql ...   takes as long as it takes; auditors write on into the old store
  stop all auditors and admins; the stream keeps what comes
  yalo store copy --to store.kind=cql ... --begin SEQ   brings the rest; the first run has named SEQ
  change the configuration, start the auditors and admins again";

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Copy the record into another store, or from one, and compare the two row by row
    Copy(CopyArgs),
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct CopyArgs {
    /// Copy from the configured store to another one: a key in which that one differs, such as store.kind=cql; may be
    /// repeated
    #[arg(long, value_name = "KEY=VALUE", required_unless_present = "from", conflicts_with = "from")]
    to: Vec<String>,
    /// Copy from another store to the configured one: a key in which that one differs; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    from: Vec<String>,
    /// Begin at this sequence, which an earlier run has named: what lies before is known to be equal
    #[arg(long, value_name = "SEQ", default_value_t = 0, hide_default_value = true)]
    begin: u64,
}

pub(super) async fn run(command: StoreCommand, layers: &Layers) -> anyhow::Result<()> {
    let StoreCommand::Copy(args) = command;
    let config = super::start(layers)?;
    let (flag, keys) = if args.to.is_empty() { ("--from", &args.from) } else { ("--to", &args.to) };
    let other = other(layers, flag, keys)?;
    let (source, target) = if flag == "--to" { (&config, &other) } else { (&other, &config) };
    let (copied, elapsed) = between(source, target, args.begin).await?;
    print(&told(&copied, elapsed, &app::store_place(source), &app::store_place(target)))?;
    if copied.is_equal() {
        note(&format!("a later run brings what is stored from now on, and may begin with --begin {}", copied.next));
        return Ok(());
    }
    Err(CliError::Findings(format!("the stores differ at {} sequences, as listed", copied.differing)).into())
}

/// The configuration with some keys of its store changed.
fn other(layers: &Layers, flag: &'static str, keys: &[String]) -> anyhow::Result<Config> {
    if let Some(key) = keys.iter().find(|key| !key.starts_with("store.")) {
        let key = key.split('=').next().unwrap_or_default();
        return Err(
            CliError::Usage(format!("{flag} takes keys of [store], such as store.kind=cql, not {key:?}")).into()
        );
    }
    let over = keys.iter().map(|key| (flag, key.clone())).collect();
    Ok(Config::load(&Layers { over, ..layers.clone() })?.config)
}

async fn between(source: &Config, target: &Config, begin: u64) -> anyhow::Result<(Copied, f64)> {
    let from = app::open_store(source, true).await.context("the store to copy from")?;
    let to = app::open_store(target, false).await.context("the store to copy to")?;
    let copied = if from.is(&to) {
        let place = app::store_place(source);
        Err(CliError::Usage(format!("both sides are the store {place}: name another one with --to or --from")).into())
    } else {
        copy_all(&from, &to, begin).await
    };
    from.close().await.context("close the store")?;
    to.close().await.context("close the store")?;
    copied
}

async fn copy_all(from: &Store, to: &Store, begin: u64) -> anyhow::Result<(Copied, f64)> {
    let bar = progress::messages();
    let begun = Instant::now();
    let copied = copy(from, to, begin, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let copied = copied.map_err(|error| match error {
        CopyError::Store(_) => anyhow::Error::new(error).context("the copy was cut off; run it again to go on"),
        CopyError::Empty | CopyError::OtherStream { .. } => error.into(),
    })?;
    Ok((copied, begun.elapsed().as_secs_f64()))
}

fn told(copied: &Copied, elapsed: f64, source: &str, target: &str) -> String {
    let Copied { from, upto, rows, stored, holes, differing, differences, .. } = copied;
    let mut lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let named: u64 = differences.iter().map(Difference::sequences).sum();
    if named < *differing {
        lines.push(format!("and {} more", differing - named));
    }
    lines.push(format!("{from} to {upto}: {stored} rows were copied, all {rows} compared, in {elapsed:.1} s"));
    if *holes > 0 {
        lines.push(format!("{holes} sequences have no row in either: `yalo audit verify` says whether they should"));
    }
    let verdict = if copied.is_equal() { "equal" } else { "not equal" };
    lines.push(format!("{verdict}: {source} and {target}"));
    lines.push(String::new());
    lines.join("\n")
}
