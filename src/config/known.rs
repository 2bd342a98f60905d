//! The keys that exist: read from the default layer, which names every one of them and shows its type.

use std::collections::BTreeMap;

use toml::Value;

use super::source::Source;

/// `config/yalo.toml`, built in: the lowest layer and the documentation of every key.
pub(super) const DEFAULTS: &str = include_str!("../../config/yalo.toml");

/// Keys whose values are never shown. (Their fields are `Secret`; a test compares both.)
pub(super) const SECRETS: [&str; 5] =
    ["nats.password", "store.password", "auth.guest_key", "auth.ingest_token", "admin.token"];

/// Below this likeness a suggestion confuses more than it helps.
const ALIKE: f64 = 0.6;

/// Every key with its default, by which the type of a value is known.
#[derive(Debug)]
pub(super) struct Known(BTreeMap<String, Value>);

impl Known {
    /// The keys of the default layer.
    #[expect(clippy::expect_used, reason = "the default layer is part of the executable, and a test reads it")]
    pub(super) fn read() -> Self {
        let table: toml::Table = DEFAULTS.parse().expect("config/yalo.toml is valid TOML");
        let keys = table.into_iter().flat_map(|(section, keys)| match keys {
            Value::Table(keys) => keys.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)).collect(),
            other => vec![(section, other)],
        });
        Self(keys.collect())
    }

    /// The default of `key`; `None` if there is no such key.
    pub(super) fn default_of(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub(super) fn is_section(&self, name: &str) -> bool {
        self.0.keys().any(|key| key.split('.').next() == Some(name))
    }

    /// Reads the text of a variable or a flag as the type of `key`.
    ///
    /// Where the key is a text, the text is taken as it stands: parsed first, the password `01234` would become `1234`.
    pub(super) fn value_of(&self, key: &str, text: &str) -> Value {
        match self.default_of(key) {
            Some(Value::String(_)) | None => Value::String(text.to_owned()),
            Some(Value::Array(_)) if !text.trim_start().starts_with('[') => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            Some(_) => text.trim().parse().unwrap_or_else(|_| Value::String(text.to_owned())),
        }
    }

    /// What to say about a key that does not exist.
    pub(super) fn unknown(&self, key: &str, source: &Source) -> String {
        let leaf = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let likeness = |known: &str| {
            let whole = strsim::normalized_damerau_levenshtein(key, known);
            // `listen` alone, or in a wrong section.
            if leaf(key) == leaf(known) { whole.max(ALIKE) } else { whole }
        };
        let best = self.0.keys().map(|known| likeness(known)).fold(ALIKE, f64::max);
        let nearest = self.0.keys().filter(|known| likeness(known) >= best);
        let nearest: Vec<String> = nearest.map(|known| spelling(known, source)).collect();
        if nearest.is_empty() {
            return "unknown key; `yalo config show` prints all that exist".to_owned();
        }
        format!("unknown key; did you mean {}?", nearest.join(" or "))
    }
}

/// A key as it is written in that kind of source.
fn spelling(key: &str, source: &Source) -> String {
    match source {
        Source::Variable(_) => format!("YALO_{}", key.replace('.', "__").to_ascii_uppercase()),
        _ => key.to_owned(),
    }
}

/// Whether values of `key` must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// The type of a value in words for people.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list of texts",
        Value::Table(_) => "a section",
    }
}
