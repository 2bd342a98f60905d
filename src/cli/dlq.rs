//! `yalo dlq`: the dead letters, what became of whom and why, and what to do about it.

use anyhow::Context;
use clap::{Args, Subcommand};

use super::exit::{CliError, print};
use crate::app::Reached;
use crate::bus::{Bus, Letter, ReplayError, Replayed};
use crate::config::Config;

/// Letters of one read.
const PAGE: usize = 256;

#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// List the dead letters, oldest first
    List(ListArgs),
    /// Print one, with the message that it is about, as JSON
    Show(OneArgs),
    /// Ask the questions again, as new ones that name the old ones, and drop their letters
    Replay(SomeArgs),
    /// Drop letters for good; the messages stay in stream and store
    Drop(SomeArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Only those behind this one
    #[arg(long, value_name = "LETTER", default_value_t = 0)]
    after: u64,
    /// As JSON, a letter a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// Its number in the list
    letter: u64,
}

#[derive(Debug, Args)]
pub(super) struct SomeArgs {
    /// Their numbers in the list
    #[arg(required = true)]
    letters: Vec<u64>,
}

pub(super) async fn run(command: DlqCommand, config: Config) -> anyhow::Result<()> {
    let reached = Reached::open(config, "dlq").await?;
    let done = match command {
        DlqCommand::List(args) => list(&reached.bus, &args).await,
        DlqCommand::Show(args) => show(&reached.bus, args.letter).await,
        DlqCommand::Replay(args) => replay(&reached.bus, &args.letters).await,
        DlqCommand::Drop(args) => drop_all(&reached.bus, &args.letters).await,
    };
    reached.close().await;
    done
}

async fn list(bus: &Bus, args: &ListArgs) -> anyhow::Result<()> {
    let mut letters: Vec<Letter> = Vec::new();
    let mut after = args.after;
    while letters.len() < args.limit {
        let page = bus.dead_letters(after, PAGE.min(args.limit - letters.len())).await?;
        letters.extend(page.letters);
        match letters.last() {
            Some(last) if page.more => after = last.letter,
            _ => break,
        }
    }
    let lines: Vec<String> = if args.json {
        letters.iter().map(serde_json::to_string).collect::<Result<_, _>>()?
    } else {
        letters.iter().map(line).collect()
    };
    print(&lines.iter().map(String::as_str).flat_map(|line| [line, "\n"]).collect::<String>())?;
    Ok(())
}

fn line(letter: &Letter) -> String {
    let Letter { letter, at, role, conversation, seq, reason, .. } = letter;
    let conversation = conversation.map_or_else(|| "-".to_owned(), |conversation| conversation.to_string());
    let seq = seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
    format!("{letter}  {at}  {role}  message {seq}  conversation {conversation}  {reason}")
}

async fn find(bus: &Bus, letter: u64) -> anyhow::Result<Letter> {
    let found = bus.dead_letter(letter).await?;
    found.with_context(|| format!("there is no dead letter {letter}; `yalo dlq list` shows those that are there"))
}

async fn show(bus: &Bus, letter: u64) -> anyhow::Result<()> {
    let shown = find(bus, letter).await?.in_full();
    Ok(print(&format!("{}\n", serde_json::to_string_pretty(&shown)?))?)
}

async fn drop_all(bus: &Bus, letters: &[u64]) -> anyhow::Result<()> {
    for letter in letters {
        find(bus, *letter).await?;
        bus.drop_dead_letter(*letter).await.with_context(|| format!("drop the dead letter {letter}"))?;
        print(&format!("{letter} is dropped\n"))?;
    }
    Ok(())
}

async fn replay(bus: &Bus, letters: &[u64]) -> anyhow::Result<()> {
    for letter in letters {
        let found = find(bus, *letter).await?;
        let asked = bus.replay(&found).await;
        let Replayed { conversation, seq, .. } = asked.map_err(|error| not_replayed(*letter, error))?;
        print(&format!(
            "{letter} is asked again as message {seq} of conversation {conversation}, its letter is dropped\n"
        ))?;
    }
    Ok(())
}

fn not_replayed(letter: u64, error: ReplayError) -> anyhow::Error {
    match error {
        ReplayError::Bus(error) => {
            anyhow::Error::new(error).context(format!("ask the question of letter {letter} again"))
        }
        error => {
            CliError::Usage(format!("{error}; `yalo dlq show {letter}` prints it, `yalo dlq drop {letter}` removes it"))
                .into()
        }
    }
}
