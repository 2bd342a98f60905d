//! Tests of the command line's shape: what can be typed, and what help says.

use clap::CommandFactory;

use super::*;

/// The long help of `yalo <path>`, at a width that no terminal changes.
fn help(path: &[&str]) -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut found = &mut command;
    for name in path {
        found = found.find_subcommand_mut(name).unwrap();
    }
    found.render_long_help().to_string()
}

fn parse(words: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words.split_whitespace())
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_is_pinned() {
    insta::assert_snapshot!("help", help(&[]));
    insta::assert_snapshot!("help_all", help(&["all"]));
    insta::assert_snapshot!("help_bot", help(&["bot"]));
    insta::assert_snapshot!("help_config_show", help(&["config", "show"]));
    insta::assert_snapshot!("help_export", help(&["export"]));
    insta::assert_snapshot!("help_doctor", help(&["doctor"]));
    insta::assert_snapshot!("help_chat", help(&["chat"]));
    insta::assert_snapshot!("help_ingest", help(&["ingest"]));
    insta::assert_snapshot!("help_store_copy", help(&["store", "copy"]));
    insta::assert_snapshot!("help_completions", help(&["completions"]));
}

#[test]
fn settings_stand_before_or_behind_the_command() {
    for words in ["yalo --set a.b=1 --set c.d=2 --config f bot", "yalo bot --config f --set a.b=1 --set c.d=2"] {
        let layers = parse(words).unwrap().settings.layers();
        assert_eq!(layers.set, ["a.b=1", "c.d=2"], "{words}");
        assert_eq!(layers.file, Some(PathBuf::from("f")), "{words}");
    }
}

#[test]
fn replicas_are_bounded() {
    for good in ["yalo bot --replicas 1", "yalo all --replicas 64", "yalo frontend"] {
        parse(good).unwrap();
    }
    for bad in ["yalo bot --replicas 0", "yalo bot --replicas 65", "yalo bot --replicas many"] {
        assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for bad in [
        "yalo",
        "yalo none",
        "yalo all --data d --fresh",
        "yalo bot --data d",
        "yalo config",
        "yalo chat --conversation 0198c0de-0000-7000-8000-000000000001",
        "yalo chat --token t --conversation nonsense",
        "yalo ingest",
        "yalo ingest - --as bot",
        "yalo ingest file --resume --from-line 7",
        "yalo ingest file --from-line 0",
        "yalo completions nonsense",
        "yalo export --conversation nonsense",
        "yalo export --conversation 0198c0de-0000-7000-8000-000000000001 --user ada",
        "yalo export --from yesterday",
        "yalo export --format xml",
        "yalo export --compress zip",
        "yalo export --output f --resume --after 1-1",
        "yalo store",
        "yalo store copy",
        "yalo store copy --to store.kind=cql --from store.kind=cql",
        "yalo store copy --to store.kind=cql --begin now",
    ] {
        assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
}

#[test]
fn the_version_is_the_package_s() {
    let version = parse("yalo --version").unwrap_err();
    assert_eq!(version.exit_code(), 0);
    assert_eq!(version.to_string(), concat!("yalo ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_token_on_the_command_line_is_not_in_debug_output() {
    let cli = parse("yalo chat --token hunter2 hello").unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"));
}
