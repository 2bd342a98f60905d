//! README.md says what is true: every path, key, command and target of make that it names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What follows tells what does not exist yet.
const LIMITS: &str = "## Limits";

#[test]
fn every_path_of_the_readme_exists() {
    let readme = readme();
    let folders = ["src/", "tests/", "config/", "scripts/", ".ci/", "bench/"];
    let paths: Vec<&str> =
        spans(&readme).into_iter().filter(|span| folders.iter().any(|folder| span.starts_with(folder))).collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "README.md names {path}, which is not there");
    }
}

#[test]
fn every_key_of_the_readme_is_in_the_configuration() {
    let text = fs::read_to_string(root().join("config/yalo.toml")).unwrap();
    let sections: toml::Table = text.parse().unwrap();
    let readme = readme();
    let mut known = 0;
    for (span, (section, key)) in spans(&readme).into_iter().filter_map(|span| Some((span, span.split_once('.')?))) {
        let Some(keys) = sections.get(section).and_then(toml::Value::as_table) else { continue };
        assert!(keys.contains_key(key), "README.md names {span}, which config/yalo.toml does not have");
        known += 1;
    }
    assert!(known > 5, "only {known} keys");
}

#[test]
fn every_command_of_the_readme_can_be_typed() {
    let readme = readme();
    let (present, _) = readme.split_once(LIMITS).expect("a section on limits");
    let commands: BTreeSet<Vec<&str>> = spans(present)
        .into_iter()
        .filter_map(|span| span.strip_prefix("yalo ").or_else(|| span.strip_prefix("target/release/yalo ")))
        .map(|command| command.split(' ').take_while(|word| word.bytes().all(|b| b.is_ascii_lowercase())).collect())
        .collect();
    assert!(commands.len() > 6, "{commands:?}");
    for command in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_yalo")).args(&command).arg("--help").output().unwrap();
        assert!(output.status.success(), "yalo {command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_target_of_the_readme_is_in_the_makefile() {
    let readme = readme();
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let called = readme.lines().chain(spans(&readme)).filter_map(|text| text.strip_prefix("make "));
    let targets: BTreeSet<&str> = called.filter_map(|text| text.split(' ').next()).collect();
    assert!(targets.contains("run") && targets.contains("test"), "{targets:?}");
    for target in targets {
        let rule = format!("{target}:");
        assert!(makefile.lines().any(|line| line.starts_with(&rule)), "README.md says `make {target}`");
    }
}

/// What stands between single backticks.
fn spans(text: &str) -> Vec<&str> {
    let parts = text.split('`').enumerate();
    parts.filter(|(place, span)| place % 2 == 1 && !span.contains('\n')).map(|(_, span)| span).collect()
}

fn readme() -> String {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    // Without the fences; their lines stay.
    text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| [line, "\n"]).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
