//! Where a value comes from: said in every finding, and by `yalo config show --sources`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One of the places that a value can come from, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `config/yalo.toml`, built into the executable.
    Default,
    /// The operator's file, and the line of the key (0 if the whole file is meant).
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// `--set section.key=value`.
    Set,
    /// A flag of its own, such as `--data`.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File(path, 0) => write!(out, "{}", path.display()),
            Self::File(path, line) => write!(out, "{}:{line}", path.display()),
            Self::Variable(name) => write!(out, "variable {name}"),
            Self::Set => out.write_str("--set"),
            Self::Flag(name) => out.write_str(name),
        }
    }
}

/// The source of every key that is not at its default.
#[derive(Debug, Clone, Default)]
pub struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// Where the value of `key` comes from.
    pub fn of(&self, key: &str) -> Source {
        self.0.get(key).cloned().unwrap_or(Source::Default)
    }

    pub(super) fn record(&mut self, key: &str, source: &Source) {
        self.0.insert(key.to_owned(), source.clone());
    }
}
