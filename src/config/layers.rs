//! The layers over the defaults, taken apart into single entries: a file, the environment, `--set`, and flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::error::Finding;
use super::known::{Known, is_secret};
use super::source::Source;

/// What the process was given. `Layers::default()` is nothing at all: the defaults, whatever the environment says.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// `--config FILE`; if absent, `YALO_CONFIG` of `environment`.
    pub file: Option<PathBuf>,
    /// The variables; only `YALO_*` and `NATS_URL` are looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// Each `section.key=value` of `--set`, in order.
    pub set: Vec<String>,
    /// Each `section.key=value` of another flag, which stands over those of `--set`: the flag, then the text.
    pub over: Vec<(&'static str, String)>,
    /// Flags that stand for a key: the flag, the key, its value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// One value for one key, and where it stands.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) source: Source,
}

impl Layers {
    /// With the environment of this process.
    pub fn from_process() -> Self {
        Self { environment: std::env::vars_os().collect(), ..Self::default() }
    }

    /// All entries, lowest layer first, and what could not even be read.
    pub(super) fn entries(&self, known: &Known) -> (Vec<Entry>, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut entries = match self.file_path() {
            Some(path) => file_entries(&path, &mut findings),
            None => Vec::new(),
        };
        entries.extend(self.variables(known, &mut findings));
        let set = self.set.iter().map(|text| (Source::Set, text));
        for (source, text) in set.chain(self.over.iter().map(|(flag, text)| (Source::Flag(flag), text))) {
            match set_entry(text, known, &source) {
                Some(entry) => entries.push(entry),
                None => {
                    let problem = format!("write it as {source} section.key=value");
                    findings.push(Finding::new(word(text), &source, problem));
                }
            }
        }
        entries.extend(self.flags.iter().map(|(flag, key, value)| Entry {
            key: (*key).to_owned(),
            value: Value::String(value.clone()),
            source: Source::Flag(flag),
        }));
        (entries, findings)
    }

    fn file_path(&self) -> Option<PathBuf> {
        let variable = || self.environment.iter().find(|(name, _)| name == "YALO_CONFIG");
        let named = || variable().map(|(_, path)| PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
        self.file.clone().or_else(named)
    }

    /// `NATS_URL` first, as the lowest of the variables; then `YALO_SECTION__KEY`, in order of their names.
    fn variables(&self, known: &Known, findings: &mut Vec<Finding>) -> Vec<Entry> {
        let mut variables = Vec::new();
        for (name, value) in &self.environment {
            let Some(name) = name.to_str() else { continue };
            let Some(key) = variable_key(name) else { continue };
            let source = Source::Variable(name.to_owned());
            let Some(text) = value.to_str() else {
                findings.push(Finding::new(key, &source, "is not UTF-8"));
                continue;
            };
            let empty_url = name == "NATS_URL" && text.is_empty();
            if !empty_url && !is_service_link(name, text) {
                variables.push(Entry { value: known.value_of(&key, text), key, source });
            }
        }
        variables.sort_by_key(|entry| entry.source.to_string());
        variables
    }
}

/// `YALO_NATS__URL` is `nats.url`; `None` for variables that are none of ours.
fn variable_key(name: &str) -> Option<String> {
    match name {
        "NATS_URL" => Some("nats.url".to_owned()),
        "YALO_CONFIG" => None,
        // What the tests are told, such as where the real nats-server is.
        _ if name.starts_with("YALO_TEST_") => None,
        _ => Some(name.strip_prefix("YALO_")?.to_ascii_lowercase().replace("__", ".")),
    }
}

/// Kubernetes puts variables such as `YALO_PORT` into every container beside a service named `yalo`.
fn is_service_link(name: &str, text: &str) -> bool {
    let address = name.contains("_PORT") && (text.starts_with("tcp://") || text.parse::<u16>().is_ok());
    let part = name.ends_with("_PROTO") || name.ends_with("_ADDR") || name.ends_with("_SERVICE_HOST");
    !name.contains("__") && (address || part || name.contains("_SERVICE_PORT"))
}

/// `section.key=value`; a text in quotation marks may be TOML, but a secret is always taken as it stands.
fn set_entry(text: &str, known: &Known, source: &Source) -> Option<Entry> {
    let (key, text) = text.split_once('=')?;
    let key = key.trim();
    let quoted = match text.parse() {
        Ok(Value::String(inner)) if !is_secret(key) => Some(Value::String(inner)),
        _ => None,
    };
    let value = quoted.unwrap_or_else(|| known.value_of(key, text));
    (!key.is_empty()).then(|| Entry { key: key.to_owned(), value, source: source.clone() })
}

/// The start of a text that looks like a key; what follows may be a secret.
fn word(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && !"._-".contains(letter)).next().unwrap_or_default()
}

fn file_entries(path: &Path, findings: &mut Vec<Finding>) -> Vec<Entry> {
    let at = |line| Source::File(path.to_owned(), line);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            findings.push(Finding::new("", &at(0), format!("cannot read the configuration file: {error}")));
            return Vec::new();
        }
    };
    // Twice: once for the values, once for the places.
    let parsed = text.parse::<toml::Table>().and_then(|table| Ok((table, DeTable::parse(&text)?)));
    match parsed {
        Ok((table, places)) => flatten(table, &Places { text: &text, table: places.get_ref() }, at),
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(&text, span.start));
            // The parser's own report quotes the line, which may hold a secret.
            findings.push(Finding::new("", &at(line), format!("is not valid TOML: {}", error.message())));
            Vec::new()
        }
    }
}

fn flatten(table: toml::Table, places: &Places<'_>, at: impl Fn(usize) -> Source) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (section, value) in table {
        match value {
            Value::Table(keys) if !keys.is_empty() => entries.extend(keys.into_iter().map(|(key, value)| Entry {
                source: at(places.line(&section, Some(&key))),
                key: format!("{section}.{key}"),
                value,
            })),
            value => entries.push(Entry { source: at(places.line(&section, None)), key: section, value }),
        }
    }
    entries.sort_by_key(|entry| match entry.source {
        Source::File(_, line) => line,
        _ => 0,
    });
    entries
}

/// Finds the line of a key.
struct Places<'text> {
    text: &'text str,
    table: &'text DeTable<'text>,
}

impl Places<'_> {
    fn line(&self, section: &str, key: Option<&str>) -> usize {
        let found = self.table.iter().find(|(name, _)| name.get_ref() == section);
        let start = found.and_then(|(name, value)| match (key, value.get_ref()) {
            (None, _) => Some(name.span().start),
            (Some(key), DeValue::Table(keys)) => {
                keys.iter().find(|(name, _)| name.get_ref() == key).map(|(name, _)| name.span().start)
            }
            _ => None,
        });
        start.map_or(0, |start| line_of(self.text, start))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
