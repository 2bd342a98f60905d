//! `yalo ingest`: a file or a pipe of lines into the record, in uploads of bounded size, each of which can be repeated.

mod client;
mod source;
mod state;

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;

use self::client::{Client, Report};
use self::source::{Chunk, Source};
use self::state::State;
use super::chat::url_of;
use super::exit::{CliError, note, print};
use crate::config::{Config, Layers, Secret};

const EXAMPLES: &str = "\
Examples:
  yalo ingest messages.ndjson.zst            plain, gzip or zstd
  yalo ingest --resume messages.ndjson       go on where it ended
  tail -n +1 -F app.ndjson | yalo ingest -   as they come

A line is {\"key\":\"ticket-4711\",\"who\":\"user\",\"author\":\"eve\",\"text\":\"Hello\"}; see /openapi.json.
Exit codes: 0 all lines are in the record, 3 some were refused, 4 the frontend cannot be reached";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct IngestArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// The frontend [default: frontend.listen of the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The token for services [default: auth.ingest_token of the configuration]
    #[arg(long, value_name = "TOKEN")]
    token: Option<Secret>,
    /// What the lines are: a log that nobody answers, or questions of users that bots answer
    #[arg(long = "as", value_name = "WHAT", default_value = "log")]
    as_: What,
    /// A name for where the lines come from: the same line of it is stored once [default: this machine and file]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Go on where an earlier run on this file ended
    #[arg(long, conflicts_with = "from_line")]
    resume: bool,
    /// Begin with this line, counted from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: Option<u64>,
    /// How long to wait for a frontend that is away or full
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// The outcome as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Log,
    User,
}

pub(super) async fn run(args: IngestArgs, layers: &Layers) -> anyhow::Result<()> {
    let (url, token) = match (args.url.clone(), args.token.clone()) {
        (Some(url), Some(token)) => (url, token),
        (url, token) => {
            let config = Config::load(layers)?.config;
            (url.unwrap_or_else(|| url_of(&config.frontend.listen)), token.unwrap_or(config.auth.ingest_token))
        }
    };
    if token.is_empty() {
        let hint = "there is no token: pass --token, or set auth.ingest_token as the frontend has it";
        return Err(CliError::Usage(hint.to_owned()).into());
    }
    let is_file = args.file.as_os_str() != "-";
    let state = is_file.then(|| State::beside(&args.file));
    let earlier = if args.resume {
        let Some(state) = &state else {
            return Err(CliError::Usage("standard input can't be resumed: use --from-line".to_owned()).into());
        };
        state.read()?
    } else {
        None
    };
    if args.resume && earlier.is_none() {
        note("no earlier run of this file has left off: it begins with line 1");
    }
    let from_line = args.from_line.or(earlier.as_ref().map(|earlier| earlier.next_line)).unwrap_or(1);
    let name = args.source.clone().or(earlier.map(|earlier| earlier.source));
    let name = name.unwrap_or_else(|| source::name(&args.file));
    let source = if is_file { Source::file(&args.file).await } else { Source::stdin().await };
    let source = source.with_context(|| format!("open {}", args.file.display()))?;
    let bar = progress_bar(source.bytes());
    let mut client = Client::new(client::Options {
        url,
        token,
        as_user: args.as_ == What::User,
        source: name.clone(),
        patience: Duration::from_secs(args.timeout),
    })?;
    let mut report = Report::begin_at(from_line);
    let begun = Instant::now();
    let (sent, reading) = {
        let read = source.read_bytes();
        let (chunks, mut queue) = mpsc::channel::<Chunk>(1);
        let mut sending = std::pin::pin!(async {
            while let Some(chunk) = queue.recv().await {
                let sent = client.send(chunk, &mut report).await;
                bar.set_position(read.load(Ordering::Relaxed));
                bar.set_message(format!("{} lines, {}/s", report.lines, report.rate(begun.elapsed())));
                // Also after a failure: everything before that line is dealt with.
                if let Some(state) = &state {
                    state.write(&name, report.next_line)?;
                }
                sent?;
            }
            anyhow::Ok(())
        });
        tokio::select! {
            biased;
            // Only a failure ends it first: a pipe that gives nothing more must not hold it up.
            sent = &mut sending => (sent, Ok(())),
            reading = source.read(from_line, chunks) => (sending.await, reading),
        }
    };
    bar.finish_and_clear();
    let text = if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.told(begun.elapsed()) };
    print(&text)?;
    if let Err(error) = sent {
        let again = if is_file { "--resume".to_owned() } else { format!("--from-line {}", report.next_line) };
        note(&format!("lines up to {} are dealt with; go on with {again}", report.next_line - 1));
        return Err(error);
    }
    reading.with_context(|| format!("read {}", args.file.display()))?;
    if let Some(state) = &state {
        state.remove();
    }
    match report.refused {
        0 => Ok(()),
        refused => Err(CliError::Findings(format!("{refused} lines were refused")).into()),
    }
}

/// Of a pipe nobody knows the end.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let target = if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = match bytes {
        Some(_) => "{bar:40} {bytes} of {total_bytes}, {msg}, {eta} to go",
        None => "{spinner} {bytes}, {msg}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(bytes, target).with_style(style)
}
