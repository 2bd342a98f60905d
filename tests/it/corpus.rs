//! Real input: the dialogues of chatterbot-corpus 1.3.3, all languages, as people wrote them.
//!
//! A file is YAML with `conversations`, a list of dialogues; a dialogue is a list of turns. Eight entries are a line of
//! text instead (a dash is missing), and in two the turns have run together into one: each is taken as YAML reads it, a
//! dialogue of one turn. Nothing is skipped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// One dialogue: what was said, turn by turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dialogue {
    /// The name of its folder, such as `english`.
    pub(crate) language: String,
    /// The file within the corpus, such as `english/ai.yml`.
    pub(crate) file: String,
    /// Never empty; each turn is as the file has it, without a change.
    pub(crate) turns: Vec<String>,
}

#[derive(Deserialize)]
struct CorpusFile {
    conversations: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Turns(Vec<String>),
    Line(String),
}

/// The folder that holds one folder for each language: where `make test` says, else where it puts the corpus.
pub(crate) fn folder() -> PathBuf {
    let named = std::env::var_os("YALO_TEST_CORPUS").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/corpus-1.3.3"))
}

/// Every dialogue of every `<language>/<topic>.yml`, in the order of languages, files and lines.
pub(crate) fn dialogues(folder: &Path) -> anyhow::Result<Vec<Dialogue>> {
    let mut all = Vec::new();
    let missing = || format!("list {}: `make test` fetches the corpus", folder.display());
    for language in sorted(folder).with_context(missing)? {
        if !language.is_dir() {
            continue;
        }
        for path in sorted(&language)? {
            if path.extension().is_some_and(|extension| extension == "yml") {
                all.extend(read(folder, &path).with_context(|| format!("read {}", path.display()))?);
            }
        }
    }
    ensure!(!all.is_empty(), "there is no dialogue in {}", folder.display());
    Ok(all)
}

fn sorted(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn read(folder: &Path, path: &Path) -> anyhow::Result<Vec<Dialogue>> {
    let within = path.strip_prefix(folder)?;
    let language = within.iter().next().unwrap_or_default().to_string_lossy().into_owned();
    let file = within.to_string_lossy().into_owned();
    let text = fs::read_to_string(path)?;
    let content: CorpusFile = serde_saphyr::from_str(text.trim_start_matches('\u{feff}'))?;
    let dialogue = |entry| {
        let turns = match entry {
            Entry::Turns(turns) => turns,
            Entry::Line(line) => vec![line],
        };
        ensure!(!turns.is_empty(), "a dialogue without a turn");
        Ok(Dialogue { language: language.clone(), file: file.clone(), turns })
    };
    content.conversations.into_iter().map(dialogue).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use sha2::{Digest, Sha256};
    use yalo::domain::limits;

    use super::*;

    #[test]
    fn every_file_of_the_corpus_is_read_to_the_last_turn() {
        let all = dialogues(&folder()).unwrap();
        let languages: BTreeSet<_> = all.iter().map(|dialogue| &dialogue.language).collect();
        let files: BTreeSet<_> = all.iter().map(|dialogue| &dialogue.file).collect();
        let turns: usize = all.iter().map(|dialogue| dialogue.turns.len()).sum();
        let mut of_one_turn = BTreeMap::new();
        for dialogue in all.iter().filter(|dialogue| dialogue.turns.len() == 1) {
            *of_one_turn.entry(dialogue.file.as_str()).or_insert(0) += 1;
        }
        println!("{} languages, {} files, {} dialogues, {turns} turns", languages.len(), files.len(), all.len());
        // As another reader of YAML, PyYAML 6, has them, to the byte.
        assert_eq!((languages.len(), files.len(), all.len(), turns), (28, 237, 7644, 19597));
        assert_eq!(digest(&all), "83f52a60d4f74877bd6d46d8209de144d190a96258922de3fa21bddd0f7c43cc");
        let expected = [
            ("english/trivia.yml", 1),
            ("ukrainian/ai.yml", 1),
            ("ukrainian/emotion.yml", 2),
            ("ukrainian/gossip.yml", 4),
            ("ukrainian/history.yml", 1),
            ("ukrainian/psychology.yml", 1),
        ];
        assert_eq!(of_one_turn, BTreeMap::from(expected));
    }

    /// SHA-256 of each turn and a zero byte, with a one byte after each dialogue.
    fn digest(dialogues: &[Dialogue]) -> String {
        let mut hash = Sha256::new();
        for dialogue in dialogues {
            for turn in &dialogue.turns {
                hash.update(turn.as_bytes());
                hash.update([0]);
            }
            hash.update([1]);
        }
        hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    #[test]
    fn every_turn_is_a_text_that_a_user_may_send() {
        for dialogue in dialogues(&folder()).unwrap() {
            for turn in &dialogue.turns {
                assert!(!turn.trim().is_empty(), "{}: a blank turn", dialogue.file);
                assert!(turn.len() <= limits::TEXT_BYTES && !turn.contains('\0'), "{}: {turn:?}", dialogue.file);
            }
        }
    }

    #[test]
    fn a_missing_corpus_says_how_to_get_it() {
        let error = format!("{:#}", dialogues(Path::new("/nowhere")).unwrap_err());
        assert!(error.contains("make test"), "{error}");
    }
}
