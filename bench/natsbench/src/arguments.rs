//! Arguments of the form `key=value`, numbers with underscores where they help.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// What stands on the command line after the scenario.
#[derive(Debug, Clone)]
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    /// Takes the words of the command line; `known` are the keys that the program has.
    pub fn parse(words: impl IntoIterator<Item = String>, known: &[&str]) -> Result<Self> {
        let mut values = HashMap::new();
        for word in words {
            let (key, value) = word.split_once('=').with_context(|| format!("{word:?} is not key=value"))?;
            ensure!(known.contains(&key), "unknown key {key:?}; there are {known:?}");
            values.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self(values))
    }

    /// A word, or its default.
    pub fn word(&self, key: &str, default: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| default.to_owned())
    }

    /// A number, or its default.
    pub fn number(&self, key: &str, default: u64) -> Result<u64> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.replace('_', "").parse().with_context(|| format!("{key}={value} is not a number"))
    }

    /// A path that has to be given.
    pub fn path(&self, key: &str) -> Result<PathBuf> {
        self.0.get(key).map(PathBuf::from).with_context(|| format!("{key}=PATH is missing"))
    }

    /// The folder for what a bench writes: on a disk, since memory would know nothing of durability.
    pub fn folder(&self) -> Result<tempfile::TempDir> {
        let parent = PathBuf::from(self.word("dir", "."));
        tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(&parent)
            .with_context(|| format!("make a folder in {parent:?}"))
    }
}
