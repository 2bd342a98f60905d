//! Tests of the whole way: layers in, configuration or findings out.

use std::ffi::OsString;

use toml::Value;

use super::known::{DEFAULTS, Known, SECRETS};
use super::*;

fn environment(variables: &[(&str, &str)]) -> Layers {
    let own = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    Layers { environment: variables.iter().map(own).collect(), ..Layers::default() }
}

fn set(values: &[&str]) -> Layers {
    Layers { set: values.iter().map(|text| (*text).to_owned()).collect(), ..Layers::default() }
}

/// A layer of a file with this text; the folder lives as long as the first value.
fn file(text: &str) -> (tempfile::TempDir, Layers) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("yalo.toml");
    std::fs::write(&path, text).unwrap();
    (folder, Layers { file: Some(path), ..Layers::default() })
}

fn load(layers: &Layers) -> Config {
    Config::load(layers).unwrap().config
}

/// All findings, the folder of a test's file cut off.
fn findings(layers: &Layers) -> Vec<String> {
    let error = Config::load(layers).unwrap_err();
    let folder = layers.file.as_ref().map(|path| format!("{}/", path.parent().unwrap().display())).unwrap_or_default();
    error.findings.iter().map(|finding| finding.to_string().replace(&folder, "")).collect()
}

#[test]
fn the_defaults_alone_are_a_whole_configuration() {
    let loaded = Config::load(&Layers::default()).unwrap();
    assert_eq!(loaded.config.frontend.listen, "127.0.0.1:8080");
    assert!(loaded.shown().iter().all(|shown| shown.source == Source::Default));
}

#[test]
fn the_file_of_defaults_and_the_structs_have_the_same_keys() {
    let known = Known::read();
    let loaded = Config::load(&Layers::default()).unwrap();
    let shown: Vec<String> = loaded.shown().into_iter().map(|shown| shown.key).collect();
    assert_eq!(shown.len(), known.keys().count());
    for key in known.keys() {
        assert!(shown.iter().any(|shown| shown == key), "{key} has no field");
    }
}

#[test]
fn every_secret_field_is_listed_as_one() {
    let texts = |known: &Known| -> Vec<String> {
        known.keys().filter(|key| matches!(known.default_of(key), Some(Value::String(_)))).cloned().collect()
    };
    // Long enough for every check, and wrong for those that are no plain texts: those are left out.
    let hidden: Vec<String> = texts(&Known::read())
        .into_iter()
        .filter(|key| {
            let mut settings = vec![format!("{key}=0123456789abcdef0123456789abcdef")];
            settings.extend(key.strip_suffix(".password").map(|section| format!("{section}.user=u")));
            let layers = set(&settings.iter().map(String::as_str).collect::<Vec<_>>());
            let Ok(loaded) = Config::load(&layers) else { return false };
            loaded.shown().into_iter().any(|shown| shown.key == *key && shown.value == "***")
        })
        .collect();
    let mut listed = SECRETS.map(str::to_owned);
    listed.sort();
    assert_eq!(hidden, listed);
}

#[test]
fn every_key_has_a_comment() {
    let mut documented = false;
    let mut section = String::new();
    for line in DEFAULTS.lines() {
        if line.starts_with('#') {
            documented = true;
        } else if line.starts_with('[') {
            line.clone_into(&mut section);
            documented = false;
        } else if let Some((key, _)) = line.split_once('=') {
            // A comment holds for the keys that follow it without an empty line.
            assert!(documented, "{section} {key}has no comment above it");
        } else {
            documented = false;
        }
    }
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let (_folder, mut layers) = file("[frontend]\nlisten = \"h:1\"\nbot = \"file\"\n[log]\nlevel = \"warn\"\n");
    layers.environment = environment(&[("YALO_FRONTEND__LISTEN", "h:2"), ("YALO_LOG__LEVEL", "debug")]).environment;
    layers.set = vec!["frontend.listen=h:3".to_owned(), "data.dir=set".to_owned()];
    layers.flags = vec![("--data", "data.dir", "flag".to_owned())];
    let loaded = Config::load(&layers).unwrap();
    let config = &loaded.config;
    assert_eq!((config.frontend.listen.as_str(), config.frontend.bot.as_str()), ("h:3", "file"));
    assert_eq!((config.log.level.as_str(), config.data.dir.to_str()), ("debug", Some("flag")));
    let source = |key| loaded.sources.of(key).to_string();
    assert!(source("frontend.bot").ends_with("yalo.toml:3"), "{}", source("frontend.bot"));
    assert_eq!(source("frontend.listen"), "--set");
    assert_eq!(source("log.level"), "variable YALO_LOG__LEVEL");
    assert_eq!(source("data.dir"), "--data");
    assert_eq!(source("log.format"), "default");
}

#[test]
fn the_variable_yalo_config_names_the_file() {
    let (_folder, layers) = file("[frontend]\nbot = \"file\"\n");
    let path = layers.file.unwrap();
    let layers = environment(&[("YALO_CONFIG", path.to_str().unwrap())]);
    assert_eq!(load(&layers).frontend.bot, "file");
    assert_eq!(load(&environment(&[("YALO_CONFIG", "")])).frontend.bot, "echo");
}

#[test]
fn nats_url_is_the_lowest_of_the_variables() {
    assert_eq!(load(&environment(&[("NATS_URL", "nats://a:1")])).nats.url, "nats://a:1");
    let both = environment(&[("YALO_NATS__URL", "nats://b:1"), ("NATS_URL", "nats://a:1")]);
    assert_eq!(load(&both).nats.url, "nats://b:1");
    assert_eq!(load(&environment(&[("NATS_URL", "")])).nats.url, "");
}

#[test]
fn secrets_arrive_exactly_as_they_were_given() {
    for text in ["01234", "1.50", "true", "{k=1}", "\"quoted\"", " spaced ", "a=b", "[1]", "nan", "ünï"] {
        let from_environment = environment(&[
            ("YALO_NATS__USER", "u"),
            ("YALO_NATS__PASSWORD", text),
            ("YALO_STORE__USER", "u"),
            ("YALO_STORE__PASSWORD", text),
        ]);
        let (nats, store) = (format!("nats.password={text}"), format!("store.password={text}"));
        let from_set = set(&["nats.user=u", &nats, "store.user=u", &store]);
        for config in [load(&from_environment), load(&from_set)] {
            assert_eq!([config.nats.password.reveal(), config.store.password.reveal()], [text; 2]);
        }
    }
}

#[test]
fn a_key_that_is_a_text_takes_numbers_too() {
    assert_eq!(load(&environment(&[("YALO_NATS__USER", "0123")])).nats.user, "0123");
    assert_eq!(load(&set(&["nats.user=1.50"])).nats.user, "1.50");
    assert_eq!(load(&set(&["nats.user=\"in quotation marks\""])).nats.user, "in quotation marks");
}

#[test]
fn numbers_and_lists_are_read_from_text() {
    let config = load(&environment(&[
        ("YALO_NATS__REPLICAS", "3"),
        ("YALO_NATS__MAX_BYTES", "1_073_741_824"),
        ("YALO_FRONTEND__ALLOW_ORIGINS", "https://a.example, https://b.example"),
    ]));
    assert_eq!((config.nats.replicas, config.nats.max_bytes), (3, 1 << 30));
    assert_eq!(config.frontend.allow_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(load(&set(&["frontend.allow_origins=[\"*\"]"])).frontend.allow_origins, ["*"]);
    assert!(load(&set(&["frontend.allow_origins="])).frontend.allow_origins.is_empty());
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_one() {
    let (_folder, mut layers) = file("[nats]\nurll = \"x\"\n\n[frontnd]\nlisten = 1\n\n[empty]\n");
    layers.environment = environment(&[("YALO_NATS_URL", "x"), ("YALO_STORE__PAHT", "x")]).environment;
    layers.set = vec!["listen=h:1".to_owned(), "zzzzzz=1".to_owned(), "broken".to_owned()];
    insta::assert_snapshot!(findings(&layers).join("\n"), @r#"
    broken (--set): write it as --set section.key=value
    nats.urll (yalo.toml:2): unknown key; did you mean nats.url?
    frontnd.listen (yalo.toml:5): unknown key; did you mean frontend.listen?
    empty (yalo.toml:7): unknown key; `yalo config show` prints all that exist
    nats_url (variable YALO_NATS_URL): unknown key; did you mean YALO_NATS__URL?
    store.paht (variable YALO_STORE__PAHT): unknown key; did you mean YALO_STORE__PATH?
    listen (--set): unknown key; did you mean admin.listen or frontend.listen or ops.listen?
    zzzzzz (--set): unknown key; `yalo config show` prints all that exist
    "#);
}

#[test]
fn a_wrong_type_names_its_place_what_is_expected_and_what_came() {
    let text = "[nats]\nreplicas = \"three\"\nuser = 12\npassword = 12\n[store]\nkind = \"mysql\"\n\
                [frontend]\nallow_origins = [1]\nlisten = { host = 1 }\n";
    let (_folder, mut layers) = file(text);
    layers.environment = environment(&[("YALO_BOT__ATTEMPTS", ""), ("YALO_STORE__READERS", "-1")]).environment;
    layers.set = vec!["bot.attempts=4294967296".to_owned(), "log=1".to_owned()];
    insta::assert_snapshot!(findings(&layers).join("\n"), @r#"
    nats.replicas (yalo.toml:2): expected a whole number, got the text "three"
    nats.user (yalo.toml:3): expected a text, got 12; put it in quotation marks
    nats.password (yalo.toml:4): expected a text, got a whole number; put it in quotation marks
    store.kind (yalo.toml:6): expected sqlite or cql, got the text "mysql"
    frontend.allow_origins (yalo.toml:8): expected a list of texts, got [1]
    frontend.listen (yalo.toml:9): expected a text, got a section
    bot.attempts (variable YALO_BOT__ATTEMPTS): expected a whole number, got an empty text
    store.readers (variable YALO_STORE__READERS): -1 is out of range
    bot.attempts (--set): 4294967296 is out of range
    log (--set): is a section, set the keys in it
    "#);
}

#[test]
fn types_and_values_are_reported_together() {
    let layers = set(&["nats.replicas=9", "nats.replicass=3", "frontend.listen=8080", "log.level=inof"]);
    insta::assert_snapshot!(Config::load(&layers).unwrap_err(), @r#"
    configuration: 4 problems
      nats.replicass (--set): unknown key; did you mean nats.replicas?
      nats.replicas (--set): must be between 1 and 5, got 9
      frontend.listen (--set): must be an address and a port, such as 127.0.0.1:8080
      log.level (--set): "inof" is not one of off, error, warn, info, debug, trace
    "#);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (folder, mut layers) = file("[nats]\npassword = \"hunter2\n");
    insta::assert_snapshot!(findings(&layers).join("\n"), @r#"yalo.toml:2: is not valid TOML: invalid basic string, expected `"`"#);
    std::fs::write(layers.file.as_ref().unwrap(), b"[nats]\n# \xff").unwrap();
    insta::assert_snapshot!(findings(&layers).join("\n"), @r#"yalo.toml: cannot read the configuration file: stream did not contain valid UTF-8"#);
    layers.file = Some(folder.path().join("none.toml"));
    insta::assert_snapshot!(findings(&layers).join("\n"), @r#"none.toml: cannot read the configuration file: No such file or directory (os error 2)"#);
}

#[test]
fn a_refused_secret_is_not_shown() {
    let layers = set(&["auth.guest_key=hunter2", "admin.token=hunter2 "]);
    let error = Config::load(&layers).unwrap_err();
    assert_eq!(error.findings.len(), 2);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn variables_of_a_kubernetes_service_named_yalo_are_not_keys() {
    load(&environment(&[
        ("YALO_PORT", "tcp://10.0.0.1:8080"),
        ("YALO_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("YALO_PORT_8080_TCP_PROTO", "tcp"),
        ("YALO_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("YALO_PORT_8080_TCP_PORT", "8080"),
        ("YALO_SERVICE_HOST", "10.0.0.1"),
        ("YALO_SERVICE_PORT_HTTP", "8080"),
    ]));
}

#[test]
fn every_number_refuses_zero_and_absurdity_by_name() {
    let known = Known::read();
    let numbers: Vec<&String> =
        known.keys().filter(|key| matches!(known.default_of(key), Some(Value::Integer(_)))).collect();
    assert!(numbers.len() > 25, "{numbers:?}");
    for key in numbers {
        // 0 days are "for ever", and less than a week is too short.
        let zero = if key == "store.retention_days" { 6 } else { 0 };
        for absurd in [zero, -1, i64::MAX] {
            let error = Config::load(&set(&[&format!("{key}={absurd}")])).unwrap_err();
            assert!(error.findings.iter().any(|finding| finding.key == *key), "{key}={absurd}: {error}");
        }
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    for bad in [
        "data.dir=",
        "nats.url=nats://a:x",
        "nats.url=nats://a:1,,nats://b:1",
        "nats.url=nats://user:secret@a:1",
        "nats.prefix=a.b",
        "nats.prefix=",
        "nats.password=without-a-user",
        "nats.sync_interval=",
        "nats.sync_interval=5",
        "nats.sync_interval=ms",
        "nats.sync_interval=0s",
        "nats.sync_interval=11m",
        "nats.publish_timeout_ms=10001",
        "frontend.listen=",
        "frontend.listen=:8080",
        "frontend.listen=host",
        "frontend.listen=host:65536",
        "frontend.listen=http://host:80",
        "frontend.listen=[::1:80",
        "frontend.listen=::1:80",
        "admin.listen=host:",
        "ops.listen=host:+1",
        "frontend.bot=",
        "frontend.allow_origins=example.org",
        "frontend.allow_origins=https://example.org/",
        "frontend.check_open_ms=30001",
        "bot.apology= ",
        "bot.engine=Echo",
        "auditor.flush_rows=2001",
        "auditor.retry_min_ms=5001",
        "auth.guest_key=0123456789012345678901234567890",
        "auth.ingest_token=0123456789012345678901234567890",
        "auth.ingest_token=two words that are long enough to be one",
        "frontend.ingest_uploads=0",
        "admin.token=two words",
        "log.level=",
        "log.level=info,yalo::bus=loud",
        "log.format=xml",
    ] {
        let (key, _) = bad.split_once('=').unwrap();
        let error = Config::load(&set(&[bad])).expect_err(bad);
        assert!(error.findings.iter().all(|finding| finding.key == key), "{bad}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let rules = Config::load(&set(&["bot.engine=rules"])).unwrap_err();
    assert_eq!(rules.findings[0].key, "bot.rules");
    let both = Config::load(&set(&["nats.user=u", "nats.credentials=f"])).unwrap_err();
    assert_eq!(both.findings[0].key, "nats.credentials");
}

#[test]
fn good_values_are_accepted() {
    for good in [
        "nats.url=nats://a:4222,tls://b:4222",
        "nats.url=localhost",
        "nats.sync_interval=always",
        "nats.sync_interval=2s",
        "frontend.listen=[::1]:0",
        "frontend.listen=localhost:8080",
        "frontend.allow_origins=http://localhost:3000",
        "log.level=info,yalo::bus=debug",
        "log.level=off",
    ] {
        load(&set(&[good]));
    }
}
