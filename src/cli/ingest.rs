//! `yalo ingest`: a file or a pipe of lines into the record, in uploads of bounded size, each of which can be repeated.

mod client;
mod report;
mod source;
mod state;

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::client::Client;
use self::report::Report;
use self::source::{Chunk, Source};
use self::state::{Place, State};
use super::chat::url_of;
use super::exit::{CliError, note, print};
use crate::config::{Config, Layers, Secret};
use crate::shutdown::Shutdown;

const EXAMPLES: &str = "\
Examples:
  yalo ingest messages.ndjson.zst            plain, gzip or zstd
  yalo ingest --resume messages.ndjson       go on where it ended
  yalo ingest --batch messages.ndjson        without ids: faster, for large files
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
    /// Look for the first lines in the record behind this sequence: an earlier run may have stored them
    #[arg(long, value_name = "SEQ", conflicts_with = "resume", requires = "source")]
    after: Option<u64>,
    /// Without ids, which the nats-server would have to remember: faster; the same lines of another run are stored again
    #[arg(long, conflicts_with = "after")]
    batch: bool,
    /// Lines a second at most, on average [default: as fast as they are taken]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
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
    if args.batch && (!is_file || args.as_ == What::User) {
        let hint = "--batch is for a log from a file: what is kept beside the file guards from doubles, not ids";
        return Err(CliError::Usage(hint.to_owned()).into());
    }
    if args.resume && !is_file {
        return Err(CliError::Usage("standard input can't be resumed: use --from-line".to_owned()).into());
    }
    let state = is_file.then(|| State::beside(&args.file));
    let source = if is_file { Source::file(&args.file).await } else { Source::stdin().await };
    let mut source = source.with_context(|| format!("open {}", args.file.display()))?;
    // To the end of the run: the file is read before it is sent. And before it is known how far an earlier one got.
    let _lock = source.lock();
    let earlier = earlier(&args, &url, state.as_ref())?;
    let name = args.source.clone().or(earlier.as_ref().map(|earlier| earlier.source.clone()));
    // A file that is sent again in batches is stored again, all of it: no id of one run is that of another.
    let name = name.unwrap_or_else(|| if args.batch { source::of_run("batch") } else { source::name(&args.file) });
    let mut client = Client::new(client::Options {
        url,
        token,
        as_user: args.as_ == What::User,
        source: name,
        after: args.after.or(earlier.as_ref().map(|earlier| earlier.after)),
        batch: args.batch,
        past: earlier.as_ref().map(|earlier| earlier.batches.clone()).unwrap_or_default(),
        patience: Duration::from_secs(args.timeout),
    })?;
    client.begin().await?;
    let from_line = args.from_line.or(earlier.as_ref().map(|earlier| earlier.next_line)).unwrap_or(1);
    let shutdown = Shutdown::listen().context("listen for signals")?;
    let mut upload = Upload {
        bar: progress_bar(source.bytes()),
        report: Report::begin_at(from_line),
        begun: Instant::now(),
        client,
        state,
        earlier,
        first: source.first(),
        rate: args.rate,
    };
    let sent = upload.all(source, &args, &shutdown.token()).await;
    let Upload { bar, report, begun, client, state, .. } = upload;
    bar.finish_and_clear();
    let text = if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.told(begun.elapsed()) };
    print(&text)?;
    if let Err(error) = sent {
        if matches!(error.downcast_ref(), Some(CliError::Usage(_))) {
            return Err(error);
        }
        let again = if args.batch {
            "--resume --batch, or without --batch if a line has an `id`".to_owned()
        } else if is_file {
            "--resume".to_owned()
        } else {
            let client::Options { source, .. } = client.options();
            let (line, after) = (report.next_line, client.after());
            format!("the same lines and --source {source:?} --from-line {line} --after {after}")
        };
        note(&format!("lines up to {} are dealt with; go on with {again}", report.next_line - 1));
        return Err(error);
    }
    if let Some(state) = &state {
        state.remove();
    }
    match report.refused {
        0 => Ok(()),
        refused => Err(CliError::Findings(format!("{refused} lines were refused")).into()),
    }
}

/// A run, and how far it is.
struct Upload {
    client: Client,
    report: Report,
    state: Option<State>,
    earlier: Option<Place>,
    /// Of the file that is being read, as soon as that is known: see [`Place::first`].
    first: Arc<OnceLock<String>>,
    bar: ProgressBar,
    begun: Instant,
    /// Lines a second.
    rate: Option<u32>,
}

impl Upload {
    /// Reads and sends side by side, to the end. What was read before an error is sent.
    async fn all(&mut self, source: Source, args: &IngestArgs, stop: &CancellationToken) -> anyhow::Result<()> {
        let (file, from_line) = (args.file.display(), self.report.next_line);
        let (read, first) = (source.read_bytes(), Arc::clone(&self.first));
        let (chunks, queue) = mpsc::channel(1);
        let reading = async { Ok(source.read(from_line, args.as_ == What::User, chunks).await) };
        let lines = tokio::select! {
            biased;
            // A failure to send ends it at once: a pipe that gives nothing more must not hold it up.
            both = async { tokio::try_join!(reading, self.send(queue, &read)) } => both?.0,
            () = stop.cancelled() => bail!("interrupted"),
        };
        let lines = lines.with_context(|| format!("read {file}"))?;
        is_the_file(self.earlier.as_ref(), first.get())?;
        if from_line > lines + 1 {
            let problem = format!("{file} has only {lines} lines, and line {from_line} was to be next");
            return Err(CliError::Usage(problem).into());
        }
        Ok(())
    }

    async fn send(&mut self, mut queue: mpsc::Receiver<Chunk>, read: &AtomicU64) -> anyhow::Result<()> {
        let mut is_new = true;
        while let Some(mut chunk) = queue.recv().await {
            if std::mem::take(&mut is_new) {
                is_the_file(self.earlier.as_ref(), self.first.get())?;
                // Better now than after the first chunk.
                self.write_state()?;
            }
            if let Some(rate) = self.rate {
                let due = Duration::from_millis(self.report.lines.saturating_mul(1000) / u64::from(rate));
                tokio::time::sleep_until((self.begun + due).into()).await;
            }
            for line in &chunk.too_long {
                self.report.refuse(*line);
            }
            let mut patience = self.client.patience();
            while chunk.lines > 0 {
                let sent = self.client.send(&mut chunk, &mut patience, &mut self.report).await;
                // Also after a failure: everything before that line is dealt with. And before the next try: its batch has to
                // be known to whoever goes on.
                self.write_state()?;
                sent?;
            }
            self.bar.set_message(format!("{} lines, {}/s", self.report.lines, self.report.rate(self.begun.elapsed())));
            self.bar.set_position(read.load(Ordering::Relaxed));
        }
        Ok(())
    }

    fn write_state(&self) -> anyhow::Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let client::Options { url, as_user, source, batch, .. } = self.client.options();
        state.write(&Place {
            url: url.clone(),
            as_user: *as_user,
            source: source.clone(),
            first: self.first.get().cloned(),
            next_line: self.report.next_line,
            after: self.client.after(),
            batch: *batch,
            batches: self.client.batches(),
        })
    }
}

/// Where an earlier run on this file has left off, if this one is to go on there.
fn earlier(args: &IngestArgs, url: &str, state: Option<&State>) -> anyhow::Result<Option<Place>> {
    let usage = |text: String| Err(CliError::Usage(text).into());
    let Some(state) = state.filter(|_| args.from_line.is_none()) else { return Ok(None) };
    let earlier = state.read()?;
    let path = state.path().display();
    match &earlier {
        Some(earlier) if !args.resume => usage(format!(
            "an earlier run has dealt with the lines up to {}: go on with --resume, or remove {path} to begin anew",
            earlier.next_line - 1
        )),
        Some(earlier) if earlier.url != url || earlier.as_user != (args.as_ == What::User) => usage(format!(
            "the earlier run sent to {} as {}: repeat its flags, or remove {path} to begin anew",
            earlier.url,
            if earlier.as_user { "user" } else { "log" }
        )),
        Some(earlier) if args.batch && !earlier.batch => {
            usage("the earlier run went with ids, which a batch does not compare: go on without --batch".to_owned())
        }
        None if args.resume => {
            note("no earlier run of this file has left off: it begins with line 1");
            Ok(None)
        }
        _ => Ok(earlier),
    }
}

/// Refuses a file that is not the one that was begun with: its lines are not those that were dealt with.
fn is_the_file(earlier: Option<&Place>, first: Option<&String>) -> anyhow::Result<()> {
    let Some(earlier) = earlier.filter(|earlier| earlier.first.as_ref() != first) else { return Ok(()) };
    Err(CliError::Usage(format!(
        "its first line is not that of the file whose lines up to {} are dealt with: name that file, or remove what stands \
         beside it as .yalo-ingest to begin anew",
        earlier.next_line - 1
    ))
    .into())
}

/// Of a pipe nobody knows the end.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let target = if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = match bytes {
        Some(_) => "{wide_bar} {bytes} of {total_bytes}, {msg}, {eta} to go",
        None => "{spinner} {bytes}, {msg}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(bytes, target).with_style(style)
}
