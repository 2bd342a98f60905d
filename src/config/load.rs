//! From layers to a checked [`Config`]: every entry is tried by itself, so that one run reports all that is wrong.

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use toml::Value;

use super::Config;
use super::check::validate;
use super::error::{ConfigError, Finding};
use super::known::{DEFAULTS, Known, is_secret, kind};
use super::layers::{Entry, Layers};
use super::source::{Source, Sources};

/// A configuration that passed every check, and where each of its values comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Their sources.
    pub sources: Sources,
}

impl Config {
    /// Reads and merges all layers and checks the result.
    pub fn load(layers: &Layers) -> Result<Loaded, ConfigError> {
        let known = Known::read();
        let (entries, mut findings) = layers.entries(&known);
        let defaults = Figment::from(Toml::string(DEFAULTS));
        let (mut merged, mut sources) = (defaults.clone(), Sources::default());
        for entry in &entries {
            if let Some(problem) = problem_of(entry, &known, &defaults) {
                findings.push(Finding::new(&entry.key, &entry.source, problem));
                continue;
            }
            merged = merged.merge(Serialized::default(&entry.key, &entry.value));
            sources.record(&entry.key, &entry.source);
        }
        let config: Config = merged
            .extract()
            .map_err(|error| ConfigError { findings: vec![Finding::new("", &Source::Default, error.to_string())] })?;
        for (key, problem) in validate(&config) {
            // A key whose value was refused above is at its default here: say nothing about that.
            if !findings.iter().any(|finding| finding.key == key) {
                findings.push(Finding::new(key, &sources.of(key), problem));
            }
        }
        if findings.is_empty() { Ok(Loaded { config, sources }) } else { Err(ConfigError { findings }) }
    }
}

/// What is wrong with one entry by itself: an unknown key or a value of the wrong type.
fn problem_of(entry: &Entry, known: &Known, defaults: &Figment) -> Option<String> {
    let Some(default) = known.default_of(&entry.key) else {
        let section = known.is_section(&entry.key);
        let empty = matches!(&entry.value, Value::Table(keys) if keys.is_empty());
        return match (section, empty) {
            (true, true) => None,
            (true, false) => Some("is a section, set the keys in it".to_owned()),
            (false, _) => Some(known.unknown(&entry.key, &entry.source)),
        };
    };
    let alone = defaults.clone().merge(Serialized::default(&entry.key, &entry.value));
    let error = alone.extract::<Config>().err()?;
    let got = if is_secret(&entry.key) { kind(&entry.value).to_owned() } else { shown(&entry.value) };
    Some(match error.kind {
        Kind::UnknownVariant(_, choices) => format!("expected {}, got {got}", choices.join(" or ")),
        Kind::InvalidType(..) if default.is_str() && !entry.value.is_table() => {
            format!("expected a text, got {got}; put it in quotation marks")
        }
        Kind::InvalidType(..) => format!("expected {}, got {got}", kind(default)),
        Kind::InvalidValue(..) => format!("{got} is out of range"),
        other => format!("{got}: {other}"),
    })
}

/// A value as a person reads it, cut short.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "an empty text".to_owned(),
        Value::String(text) => format!("the text {:?}", text.chars().take(60).collect::<String>()),
        Value::Table(_) => kind(value).to_owned(),
        other => other.to_string(),
    }
}
