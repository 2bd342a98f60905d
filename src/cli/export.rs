//! `yalo export`: the record or a part of it as NDJSON or CSV, to a file that an interrupted export goes on with, or to a
//! pipe. It needs the store and nothing else: neither NATS nor a role has to run.

mod file;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use self::file::{Opened, PartFile, Progress};
use super::exit::{CliError, note};
use super::progress;
use crate::app;
use crate::config::Config;
use crate::domain::{Bound, ConversationId, Cursor};
use crate::export::{Export, Format, Holes, Order, Packing, Piece, Selection, Whose};
use crate::store::{Contract, Store};

const AFTER_HELP: &str = "\
A line of NDJSON is one of `yalo ingest`, unless it has `raw`: a message that could not be decoded is refused there. The \
others come back with their `id`, as `who: log` with their `side`, under a new `seq` and `at`. In CSV a text that a \
spreadsheet would take for a formula gets an apostrophe in front. What is stored after the start is not in the export: the \
next one begins with the --from that is named at the end, on standard error.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ExportArgs {
    /// Only this conversation
    #[arg(long, value_name = "ID", conflicts_with = "user", value_parser = conversation)]
    conversation: Option<ConversationId>,
    /// Only the conversations that this user opened, one after the other
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Begin here: a sequence, or an instant such as 2026-11-23T22:04:13Z
    #[arg(long, value_name = "SEQ|TIME")]
    from: Option<Bound>,
    /// End here: with this sequence, or before this instant
    #[arg(long, value_name = "SEQ|TIME")]
    to: Option<Bound>,
    /// A JSON object a line, or a table for spreadsheets [default: by the name of the file, else ndjson]
    #[arg(long, value_parser = format())]
    format: Option<Format>,
    /// Pack it [default: by the name of the file, else none]
    #[arg(long, value_parser = packing())]
    compress: Option<Packing>,
    /// Where to write to: a file, or - for standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Go on with an export of the same to this file that was interrupted; begin one if there is none
    #[arg(long)]
    resume: bool,
    /// Go on behind the message with this cursor, with which an interrupted export ended; not with --user
    #[arg(long, value_name = "CURSOR", conflicts_with = "resume", value_parser = Cursor::parse)]
    after: Option<Cursor>,
}

fn conversation(text: &str) -> Result<ConversationId, String> {
    ConversationId::parse(text).map_err(|error| error.to_string())
}

fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["ndjson", "csv"]).try_map(|text| Format::parse(&text).ok_or("not a format"))
}

fn packing() -> impl TypedValueParser<Value = Packing> {
    PossibleValuesParser::new(["none", "gzip", "zstd"]).try_map(|text| Packing::parse(&text).ok_or("not a packing"))
}

pub(super) async fn run(args: ExportArgs, config: &Config) -> anyhow::Result<()> {
    if args.user.is_some() && args.after.is_some() {
        return Err(CliError::Usage(
            "the conversations of a user are exported one after the other, so that --after is no place to go on from: \
             --from SEQ, which an export names at its end, gives what is new in all of them, and --output FILE --resume goes \
             on with an interrupted one"
                .to_owned(),
        )
        .into());
    }
    let mut order = args.order();
    let output = if args.output == Path::new("-") {
        if args.resume {
            return Err(CliError::Usage("--resume needs --output FILE; a pipe goes on with --after".to_owned()).into());
        }
        Output::Pipe { progress: Progress::default(), is_by_cursor: args.user.is_none() }
    } else {
        match PartFile::open(&args.output, args.resume, &order)? {
            Opened::Complete => {
                note(&format!("{} is complete already", args.output.display()));
                return Ok(());
            }
            Opened::Part(file) => Output::File(*file),
        }
    };
    if let Output::File(file) = &output {
        file.go_on(&mut order);
    }
    let store = app::open_store(config, true).await?;
    let written = write(store.clone(), order, output).await;
    store.close().await.context("close the store")?;
    let holes = written?;
    match holes {
        None => Ok(()),
        Some(holes) => Err(CliError::Findings(format!(
            "the export is written, but {} messages between are not in the store, the first is {}: `yalo audit verify` says \
             more",
            holes.count, holes.first
        ))
        .into()),
    }
}

impl ExportArgs {
    fn order(&self) -> Order {
        let whose = match (self.conversation, &self.user) {
            (Some(id), _) => Whose::Conversation(id),
            (None, Some(user)) => Whose::User(user.clone()),
            (None, None) => Whose::Everyone,
        };
        let name = self.output.to_string_lossy();
        let packings = [Packing::Gzip, Packing::Zstd];
        let by_name = packings.into_iter().find(|packing| name.ends_with(packing.ending())).unwrap_or_default();
        let bare = name.strip_suffix(by_name.ending()).unwrap_or(&name);
        let format = if bare.ends_with(Format::Csv.ending()) { Format::Csv } else { Format::Ndjson };
        Order {
            selection: Selection { whose, from: self.from, to: self.to },
            format: self.format.unwrap_or(format),
            packing: self.compress.unwrap_or(by_name),
            after: self.after,
            after_in: None,
            end: None,
            is_begun: false,
        }
    }
}

/// Where the pieces go.
enum Output {
    Pipe {
        progress: Progress,
        /// The last cursor is enough to go on.
        is_by_cursor: bool,
    },
    File(PartFile),
}

impl Output {
    fn progress(&self) -> Progress {
        match self {
            Self::Pipe { progress, .. } => *progress,
            Self::File(file) => file.progress(),
        }
    }

    fn write(&mut self, piece: &Piece) -> anyhow::Result<()> {
        match self {
            Self::Pipe { progress, .. } => {
                let mut out = io::stdout().lock();
                out.write_all(&piece.bytes).and_then(|()| out.flush()).map_err(CliError::Output)?;
                progress.add(piece);
                Ok(())
            }
            Self::File(file) => file.write(piece),
        }
    }

    /// What to do after an interruption.
    fn way_on(&self) -> String {
        match self {
            Self::File(file) => format!("the export is not complete; --resume goes on with {}", file.part()),
            Self::Pipe { progress: Progress { cursor: Some(cursor), .. }, is_by_cursor: true } => {
                format!("the export was cut off behind the cursor {cursor}; `--after {cursor}` goes on")
            }
            Self::Pipe { progress: Progress { cursor: Some(cursor), .. }, .. } => format!(
                "the export was cut off behind the cursor {cursor}; begin anew, or with --output FILE, which --resume goes on \
                 with"
            ),
            Self::Pipe { .. } => "nothing was exported".to_owned(),
        }
    }
}

/// Writes all of it.
async fn write(store: Store, order: Order, mut output: Output) -> anyhow::Result<Option<Holes>> {
    let mut export = Export::begin(store, order).await?;
    if let Output::File(file) = &mut output {
        file.begin(export.end())?;
    }
    let bar = progress::messages();
    bar.set_length(export.expected().await?);
    bar.set_position(output.progress().rows);
    bar.reset_eta();
    let written = pieces(&mut export, &mut output, &bar).await;
    bar.finish_and_clear();
    written.with_context(|| output.way_on())?;
    let Progress { rows, holes, .. } = output.progress();
    if let Output::File(file) = output {
        file.finish()?;
    }
    note(&format!("{rows} messages were exported; what is stored later begins with --from {}", export.end().next));
    Ok(holes)
}

async fn pieces(export: &mut Export, output: &mut Output, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
    while let Some(piece) = export.next().await? {
        output.write(&piece)?;
        bar.set_position(output.progress().rows);
    }
    Ok(())
}
