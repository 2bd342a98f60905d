//! `yalo config show`: every key with its value, secrets as `***`.

use serde_json::Value;

use super::load::Loaded;
use super::source::Source;

/// One key as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The dotted key.
    pub key: String,
    /// Its value, with secrets replaced.
    pub value: Value,
    /// Where the value comes from.
    pub source: Source,
}

impl Loaded {
    /// Every key, section by section.
    pub fn shown(&self) -> Vec<Shown> {
        // `Secret` serializes as `***`, so nothing secret gets into this tree.
        let tree = serde_json::to_value(&self.config).unwrap_or_default();
        let mut shown = Vec::new();
        for (section, keys) in tree.as_object().into_iter().flatten() {
            for (key, value) in keys.as_object().into_iter().flatten() {
                let key = format!("{section}.{key}");
                let source = self.sources.of(&key);
                shown.push(Shown { key, value: value.clone(), source });
            }
        }
        shown
    }
}
