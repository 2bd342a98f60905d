//! `yalo config`: shows what would run, or says what is wrong with it.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::exit::print;
use crate::config::{Config, Layers, Loaded};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every key with its value; secrets as ***
    Show(ShowArgs),
    /// Say "ok", or everything that is wrong; then the exit code is 2
    Check,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Also say where each value comes from: default, file and line, variable, or flag
    #[arg(long)]
    sources: bool,
    /// As JSON instead of TOML
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &ConfigCommand, layers: &Layers) -> anyhow::Result<()> {
    let loaded = Config::load(layers)?;
    let text = match command {
        ConfigCommand::Check => "ok\n".to_owned(),
        ConfigCommand::Show(args) if args.json => json_of(&loaded, args.sources),
        ConfigCommand::Show(args) => toml_of(&loaded, args.sources),
    };
    Ok(print(&text)?)
}

/// One `section.key = value` a line, which is TOML and can be grepped. (A JSON text, number or list is a TOML one.)
fn toml_of(loaded: &Loaded, sources: bool) -> String {
    let lines: Vec<_> =
        loaded.shown().into_iter().map(|it| (format!("{} = {}", it.key, it.value), it.source)).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or_default().min(60);
    lines.iter().fold(String::new(), |mut out, (line, source)| {
        let written = if sources { writeln!(out, "{line:width$}  # {source}") } else { writeln!(out, "{line}") };
        // Writing to a String can't fail.
        written.ok();
        out
    })
}

/// `{"section.key": value}`, or with sources `{"section.key": {"value": .., "source": ".."}}`.
fn json_of(loaded: &Loaded, sources: bool) -> String {
    let tree: Map<String, Value> = loaded
        .shown()
        .into_iter()
        .map(|it| {
            let value = if sources { json!({"value": it.value, "source": it.source.to_string()}) } else { it.value };
            (it.key, value)
        })
        .collect();
    format!("{:#}\n", Value::Object(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded() -> Loaded {
        let set = ["nats.user=\"it's \\u0007\"", "nats.password=hunter2", "frontend.allow_origins=https://a.example"];
        let flags = vec![("--data", "data.dir", "d".to_owned())];
        Config::load(&Layers { set: set.map(str::to_owned).to_vec(), flags, ..Layers::default() }).unwrap()
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let table: toml::Table = toml_of(&loaded(), true).parse().unwrap();
        assert_eq!(table["nats"]["user"].as_str(), Some("it's \u{7}"));
        assert_eq!(table["nats"]["password"].as_str(), Some("***"));
        assert_eq!(table["data"]["dir"].as_str(), Some("d"));
        assert_eq!(table["frontend"]["allow_origins"][0].as_str(), Some("https://a.example"));
    }

    #[test]
    fn every_line_has_its_source() {
        let text = toml_of(&loaded(), true);
        let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        assert!(line("data.dir").ends_with("  # --data"), "{text}");
        assert!(line("nats.password").ends_with("  # --set"), "{text}");
        assert!(line("store.kind").ends_with("  # default"), "{text}");
    }

    #[test]
    fn json_has_the_same_keys_and_no_secrets() {
        for sources in [false, true] {
            let text = json_of(&loaded(), sources);
            let tree: Map<String, Value> = serde_json::from_str(&text).unwrap();
            assert_eq!(tree.len(), loaded().shown().len());
            assert!(!text.contains("hunter2"));
        }
    }
}
