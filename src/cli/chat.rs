//! `yalo chat`: a conversation in the terminal, over the same HTTP API that every client uses.

mod client;
mod input;

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use self::client::{ChatError, Client, Options, Reply};
use super::exit::{CliError, note, print};
use crate::config::{Config, Layers, Secret};
use crate::domain::ConversationId;
use crate::shutdown::Shutdown;

const EXAMPLES: &str = "\
Examples:
  yalo chat                                  a conversation; Ctrl-D ends it
  yalo chat What time is it                  one question, one answer
  yalo chat < questions.txt > answers.txt    one question a line";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ChatArgs {
    /// The frontend [default: frontend.listen of the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Speak as the owner of this token [default: a new guest]
    #[arg(long, value_name = "TOKEN")]
    token: Option<Secret>,
    /// The bot that is to answer [default: the frontend's]
    #[arg(long, value_name = "NAME")]
    bot: Option<String>,
    /// Go on with this conversation; takes its owner's token [default: a new one]
    #[arg(long, value_name = "ID", value_parser = ConversationId::parse, requires = "token")]
    conversation: Option<ConversationId>,
    /// How long to wait for one answer, reconnecting included
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// What to say; without it, each line of standard input is said
    text: Vec<String>,
}

pub(super) async fn run(args: ChatArgs, layers: &Layers) -> anyhow::Result<()> {
    let shutdown = Shutdown::listen().context("listen for signals")?;
    let url = match args.url {
        Some(url) => url,
        None => url_of(&Config::load(layers)?.config.frontend.listen),
    };
    let mut client = Client::new(Options {
        url,
        token: args.token,
        bot: args.bot,
        conversation: args.conversation,
        patience: Duration::from_secs(args.timeout),
    })
    .map_err(with_exit)?;
    let stop = shutdown.token();
    let session = async {
        if args.text.is_empty() { talk(&mut client).await } else { say(&mut client, &args.text.join(" ")).await }
    };
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = session => ended,
    };
    if args.text.is_empty() && io::stdin().is_terminal() {
        say_how_to_go_on(&client);
    }
    ended
}

/// The address under which this machine reaches its own frontend.
pub(super) fn url_of(listen: &str) -> String {
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, "8080"));
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("http://{host}:{port}")
}

/// Says each line of standard input and prints each answer.
async fn talk(client: &mut Client) -> anyhow::Result<()> {
    let at_terminal = io::stdin().is_terminal();
    let mut lines = input::lines().context("read standard input")?;
    loop {
        if at_terminal {
            print("> ")?;
        }
        let Some(line) = lines.recv().await else { break };
        let line = line.context("read standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        match say(client, &line).await {
            Err(error) if at_terminal && is_about_this_message(&error) => note(&format!("error: {error:#}")),
            said => said?,
        }
    }
    if at_terminal {
        print("\n")?;
    }
    Ok(())
}

/// Whether the next line may fare better.
fn is_about_this_message(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ChatError::Refused { .. } | ChatError::Late { .. }))
}

async fn say(client: &mut Client, text: &str) -> anyhow::Result<()> {
    match client.ask(text).await {
        Ok(Reply::Text(answer)) => print(&format!("{}\n", shown(&answer, io::stdout().is_terminal())))?,
        Ok(Reply::Silence) => note("(no answer to that)"),
        Err(error) => return Err(with_exit(error)),
    }
    Ok(())
}

/// Gives those errors their kind that end the process with a code of their own.
fn with_exit(error: ChatError) -> anyhow::Error {
    match error {
        ChatError::Unreachable { .. } => CliError::Unreachable(error.to_string()).into(),
        ChatError::Address { .. } => CliError::Usage(error.to_string()).into(),
        other => other.into(),
    }
}

/// On a terminal, control characters in an answer are shown as what they are: they could rewrite the screen.
fn shown(answer: &str, at_terminal: bool) -> String {
    let shown = |letter: char| if letter.is_control() && !"\n\t".contains(letter) { '\u{fffd}' } else { letter };
    if at_terminal { answer.chars().map(shown).collect() } else { answer.to_owned() }
}

fn say_how_to_go_on(client: &Client) {
    let (Some(conversation), Some(token)) = (client.conversation(), client.token()) else { return };
    // Only to the person at the terminal: whoever has the token is that guest.
    if io::stderr().is_terminal() {
        let token = token.reveal();
        note(&format!("go on with: yalo chat --conversation {conversation} --token {token}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_this_machine() {
        assert_eq!(url_of("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url_of("[::]:80"), "http://[::1]:80");
        assert_eq!(url_of("chat.local:8080"), "http://chat.local:8080");
    }

    #[test]
    fn an_answer_cannot_rewrite_the_screen() {
        assert_eq!(shown("a\u{1b}[2Jb\r\n\tc", true), "a\u{fffd}[2Jb\u{fffd}\n\tc");
        assert_eq!(shown("a\u{1b}[2Jb", false), "a\u{1b}[2Jb");
    }
}
