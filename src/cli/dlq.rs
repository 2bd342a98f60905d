//! `yalo dlq`: the dead letters, what became of whom and why, and what to do about it.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::exit::{CliError, print};
use crate::app::Reached;
use crate::bus::{Bus, Publish, Record};
use crate::config::Config;
use crate::domain::{ConversationId, Kind, Message, MessageId, Timestamp, Who, limits};
use crate::wire;

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

/// What yalo writes into a letter. Those of the server itself have nothing of it but the subject.
#[derive(Debug, Default, Deserialize)]
struct Written {
    #[serde(default)]
    role: String,
    #[serde(default)]
    reason: String,
    seq: Option<u64>,
    message: Option<Message>,
}

/// A letter in a list.
#[derive(Debug, Serialize)]
struct Listed {
    letter: u64,
    at: Timestamp,
    role: String,
    conversation: Option<ConversationId>,
    seq: Option<u64>,
    reason: String,
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
    let mut letters = Vec::new();
    let mut next = args.after + 1;
    while letters.len() < args.limit {
        let page = bus.dead_letters(next, PAGE.min(args.limit - letters.len())).await?;
        letters.extend(page.records.iter().map(letter));
        match page.records.last() {
            Some(last) if page.more => next = last.seq + 1,
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

fn letter(record: &Record) -> Listed {
    let Written { role, reason, seq, message } = serde_json::from_slice(&record.payload).unwrap_or_default();
    let by_server = role.is_empty();
    Listed {
        letter: record.seq,
        at: record.at,
        role: if by_server { "nats".to_owned() } else { role },
        conversation: message.map(|message| message.conversation),
        seq,
        reason: if by_server { record.subject.clone() } else { reason },
    }
}

fn line(letter: &Listed) -> String {
    let Listed { letter, at, role, conversation, seq, reason } = letter;
    let conversation = conversation.map_or_else(|| "-".to_owned(), |conversation| conversation.to_string());
    let seq = seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
    format!("{letter}  {at}  {role}  message {seq}  conversation {conversation}  {reason}")
}

async fn find(bus: &Bus, letter: u64) -> anyhow::Result<Record> {
    let found = bus.dead_letter(letter).await?;
    found.with_context(|| format!("there is no dead letter {letter}; `yalo dlq list` shows those that are there"))
}

async fn show(bus: &Bus, letter: u64) -> anyhow::Result<()> {
    let record = find(bus, letter).await?;
    let inside: Value = serde_json::from_slice(&record.payload)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&record.payload).into_owned()));
    let shown = json!({ "letter": record.seq, "at": record.at, "subject": record.subject, "inside": inside });
    Ok(print(&format!("{shown:#}\n"))?)
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
        let record = find(bus, *letter).await?;
        let question = again(&record)?;
        let publish = Publish {
            subject: bus.subjects().record(question.conversation, Who::User),
            payload: wire::encode(&question).into(),
            // Asked twice in a row, it is one question.
            message_id: Some(format!("replay/{letter}")),
            ..Publish::default()
        };
        let stored =
            bus.publish(publish).await.with_context(|| format!("ask the question of letter {letter} again"))?;
        bus.drop_dead_letter(*letter).await.with_context(|| format!("drop the dead letter {letter}"))?;
        let (conversation, seq) = (question.conversation, stored.seq);
        print(&format!(
            "{letter} is asked again as message {seq} of conversation {conversation}, its letter is dropped\n"
        ))?;
    }
    Ok(())
}

/// The question of a letter as a new one: a replay is never the old question, which has its record.
fn again(record: &Record) -> anyhow::Result<Message> {
    let Written { role, seq, message, .. } = serde_json::from_slice(&record.payload).unwrap_or_default();
    let letter = record.seq;
    let (Some(seq), Some(message), "bot") = (seq, message, role.as_str()) else {
        return Err(CliError::Usage(format!(
            "the dead letter {letter} is not about a question, so it cannot be asked again; `yalo dlq show {letter}` \
             prints it, `yalo dlq drop {letter}` removes it"
        ))
        .into());
    };
    let mut data = match message.data.as_deref().map(|data| serde_json::from_str(data.get())).transpose()? {
        None => json!({}),
        Some(data @ Value::Object(_)) => data,
        Some(other) => json!({ "data": other }),
    };
    data["replay_of"] = json!({ "id": message.id, "seq": seq });
    let data = RawValue::from_string(data.to_string())?;
    if data.get().len() > limits::DATA_BYTES {
        bail!("the `data` of letter {letter} has no room for the name of the old question");
    }
    Ok(Message {
        id: MessageId::new(),
        kind: Kind::Text,
        sent_at: Timestamp::now(),
        reply_to: None,
        data: Some(data),
        ..message
    })
}
