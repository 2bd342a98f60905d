//! Prints a rules file made of one language of the corpus: `cargo run --example corpus_rules -- [LANGUAGE] [FOLDER]`.
//!
//! `yalo all --set bot.engine=rules --set bot.rules=FILE` then talks like the corpus.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::ensure;

#[path = "../tests/it/corpus.rs"]
mod corpus;
#[path = "../tests/it/corpus_rules.rs"]
mod corpus_rules;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let language = arguments.next().unwrap_or_else(|| "english".into());
    let folder = arguments.next().map_or_else(corpus::folder, PathBuf::from);
    let mut dialogues = corpus::dialogues(&folder)?;
    dialogues.retain(|dialogue| language.to_str() == Some(dialogue.language.as_str()));
    ensure!(!dialogues.is_empty(), "there is no language {} in {}", language.display(), folder.display());
    let pairs = corpus_rules::pairs(&dialogues);
    std::io::stdout().write_all(corpus_rules::rules_file(&pairs).as_bytes())?;
    Ok(())
}
