//! The arrows of `src/lib.rs`: who may use whom, read from the sources; a broken one fails with file and line.
//!
//! What is read is every path that begins with `crate::` (in main.rs `yalo::`), in imports as well as in the middle of an
//! expression, and imports through `super::` at the left edge of a file: one inside a `mod tests` stays within its file.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A module, and what it may use besides itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("wire", &["domain"]),
    ("cores", &[]),
    ("bus", &["wire", "domain", "cores"]),
    ("store", &["domain"]),
    ("audit", &["bus", "store", "wire", "domain"]),
    ("export", &["store", "wire", "domain"]),
    ("web", &["domain"]),
    ("config", &["domain", "wire"]),
    ("telemetry", &["config", "domain"]),
    ("mistake", &[]),
    ("role", &["audit", "export", "web", "bus", "store", "wire", "domain", "mistake", "telemetry", "config"]),
    ("shutdown", &[]),
    ("supervisor", &[]),
    (
        "app",
        &[
            "shutdown",
            "supervisor",
            "role",
            "mistake",
            "audit",
            "telemetry",
            "config",
            "web",
            "store",
            "bus",
            "wire",
            "domain",
        ],
    ),
    ("doctor", &["app", "store", "bus", "config", "domain"]),
    (
        "cli",
        &[
            "app",
            "doctor",
            "audit",
            "export",
            "shutdown",
            "supervisor",
            "role",
            "telemetry",
            "config",
            "web",
            "store",
            "bus",
            "wire",
            "domain",
        ],
    ),
    // `bus` for one thing: the process that becomes the managed nats-server, before there is any thread.
    ("main", &["cli", "bus", "cores"]),
];

/// The roles, and the sections of the configuration that each may read.
const ROLES: &[(&str, &[&str])] = &[
    ("frontend", &["FrontendConfig", "AuthConfig"]),
    ("bot", &["BotConfig", "EngineKind"]),
    ("auditor", &["AuditorConfig"]),
    ("admin", &["AdminConfig"]),
];

/// Those besides the roles that may use the configuration only by section.
const TOP: &[&str] = &["app", "cli", "doctor", "main", "config"];

const LONGEST_FILE: usize = 400;

#[test]
fn every_arrow_between_modules_is_one_of_the_map() {
    let mut broken = String::new();
    for (path, text) in sources() {
        for (line, why) in broken_arrows(&path, &text) {
            writeln!(broken, "src/{path}:{line}: {why}").unwrap();
        }
    }
    assert!(broken.is_empty(), "\n{broken}The arrows stand in src/lib.rs.");
}

#[test]
fn every_module_of_the_map_has_its_arrows_here() {
    let map = fs::read_to_string(root().join("lib.rs")).unwrap();
    let declared: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(declared.len() > 8, "too few modules in src/lib.rs: {declared:?}");
    for module in declared {
        assert!(ARROWS.iter().any(|(name, _)| *name == module), "`{module}` has no arrows in tests/it/arrows.rs");
        assert!(map.contains(&format!("[`{module}`]")), "`{module}` is not in the map at the head of src/lib.rs");
    }
}

#[test]
fn no_source_file_is_longer_than_a_reader_bears() {
    let mut long = String::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LONGEST_FILE && !is_test(&path) {
            writeln!(long, "src/{path}: {lines} lines, at most {LONGEST_FILE}: one idea per file").unwrap();
        }
    }
    assert!(long.is_empty(), "\n{long}");
}

#[test]
fn no_module_file_is_named_mod_rs() {
    let found: Vec<String> = sources().into_iter().map(|(path, _)| path).filter(|p| p.ends_with("mod.rs")).collect();
    assert!(found.is_empty(), "`x.rs` beside `x/`, not {found:?}");
}

#[test]
fn a_broken_arrow_is_found_with_its_line() {
    let cases = [
        ("web/serve.rs", "use crate::bus::Bus;"),
        ("web.rs", "use crate::store::Store;"),
        ("domain/row.rs", "use crate::wire;"),
        ("wire/rpc.rs", "use crate::store::Store;"),
        ("bus/pull.rs", "use crate::store::Store;"),
        ("store/sqlite.rs", "use crate::bus::Bus;"),
        ("store.rs", "    let all = crate::config::StoreKind::Sqlite;"),
        ("role/bot.rs", "use crate::role::frontend::FrontendOptions;"),
        ("role/bot/answer.rs", "use crate::role::{Ctx, auditor};"),
        ("role/bot.rs", "use super::admin;"),
        ("role/admin/rpc.rs", "    crate::role::frontend::run(ctx)"),
        ("role/admin/rpc.rs", "use crate::{domain::Row, role::{Ctx, bot::Lanes}};"),
        ("role/bot.rs", "use crate::config::Config;"),
        ("role/bot.rs", "use crate::config::{BotConfig, FrontendConfig};"),
        ("role/auditor.rs", "use crate::config;"),
        ("role/auditor.rs", "use crate::config::*;"),
        ("role.rs", "use crate::app::Plans;"),
        ("role.rs", "use crate::config::Config;"),
        ("telemetry.rs", "use crate::config::{Config, LogConfig};"),
        ("config/check.rs", "use crate::bus::Bus;"),
        ("app.rs", "use crate::cli::Cli;"),
        ("supervisor.rs", "use crate::role::Role;"),
        ("main.rs", "    yalo::role::bot::run()"),
        ("main.rs", "use yalo::{cli::Cli, store::Store};"),
        ("web.rs", "use super::bus;"),
        ("web.rs", "use crate::{\n    domain::Row,\n    bus::Bus,\n};"),
        ("web.rs", "use crate::unheard_of::Thing;"),
        ("unheard_of.rs", "use crate::domain::Row;"),
    ];
    for (path, line) in cases {
        let found = broken_arrows(path, &format!("//! A file.\n\n{line}\n"));
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3], "{path}: {line}: {found:?}");
    }
}

#[test]
fn an_arrow_of_the_map_is_no_finding() {
    let cases = [
        ("domain/row.rs", "use crate::domain::{Cursor, limits};"),
        ("wire/rpc.rs", "pub fn summary(of: &crate::domain::Conversation) {}"),
        ("role/bot/engines/rules/book.rs", "use crate::role::bot::engines::Question;"),
        ("role/bot.rs", "use crate::role::{Ctx, Role};"),
        ("role/bot.rs", "use crate::config::{BotConfig, EngineKind};"),
        ("role/frontend.rs", "use super::{Ctx, Role};"),
        ("role.rs", "    Role::Bot => crate::role::bot::run(ctx),"),
        ("telemetry.rs", "use crate::config::{LogConfig, LogFormat};"),
        ("app/parts.rs", "use crate::config::{Config, StoreKind};"),
        ("web.rs", "// use crate::bus::Bus;"),
        ("web.rs", "/// As [`crate::bus::Bus`] does."),
        ("web/serve.rs", "pub(in crate::web) struct Slot;"),
        ("store/suite.rs", "    $crate::store::suite::run! {}"),
        ("bus/pull.rs", "mod tests {\n    use super::store;\n}"),
        ("main.rs", "    yalo::cli::report(usage)"),
        ("config/tests.rs", "log.level = \"yalo::bus=debug\""),
    ];
    for (path, line) in cases {
        let found = broken_arrows(path, line);
        assert!(found.is_empty(), "{path}: {line}: {found:?}");
    }
}

/// The line of each path in `text` that the map does not allow to the file `path` (within src/), and why.
fn broken_arrows(path: &str, text: &str) -> Vec<(usize, String)> {
    let from = module_of(path);
    if from == ["lib"] {
        return Vec::new();
    }
    let text = without_comments(text);
    let mut found = Vec::new();
    for (at, base) in bases(&text, &from) {
        let line = 1 + text[..at.start].matches('\n').count();
        for used in paths(&text[at.end..]) {
            let used: Vec<&str> = base.iter().map(String::as_str).chain(used.iter().map(String::as_str)).collect();
            if let Some(why) = refusal(&from, &used) {
                found.push((line, why));
            }
        }
    }
    found.dedup();
    found
}

/// Why `from` may not use the path `used`, both counted from the root of the crate.
fn refusal(from: &[String], used: &[&str]) -> Option<String> {
    let [module, inner @ ..] = from else { return None };
    let [target, rest @ ..] = used else { return None };
    let path = used.join("::");
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == module) else {
        return Some(format!("`{module}` has no arrows in tests/it/arrows.rs"));
    };
    if module != target && !allowed.contains(target) {
        return Some(format!("`{module}` may not use `{path}`, only {allowed:?}"));
    }
    let role = inner.first().filter(|_| module == "role");
    let own = role.and_then(|role| ROLES.iter().find(|(name, _)| name == role));
    if *target == "role" {
        let other = rest.first().filter(|name| ROLES.iter().any(|(role, _)| role == *name));
        return match (role, other) {
            (Some(role), Some(other)) if role != other => {
                Some(format!("`role::{role}` may not use `{path}`: roles meet only on NATS"))
            }
            _ => None,
        };
    }
    if *target == "config" && !TOP.contains(&module.as_str()) {
        let section = rest.first().copied().unwrap_or("self");
        let allowed = match (own, module.as_str()) {
            (Some((_, sections)), _) => sections.contains(&section),
            (None, "telemetry") => section.starts_with("Log"),
            (None, _) => false,
        };
        if !allowed {
            let whole = ["self", "*", "Config"].contains(&section);
            let what = if whole { "the whole configuration" } else { "another's section" };
            return Some(format!("`{}` may not use {what}: `{path}`", from.join("::")));
        }
    }
    None
}

/// Each place at which a path begins, with the modules that its first word stands for.
fn bases(text: &str, from: &[String]) -> Vec<(std::ops::Range<usize>, Vec<String>)> {
    let mut found = Vec::new();
    // Elsewhere `yalo::` is a word in a text, such as a filter of the log.
    let root = if from == ["main"] { "yalo::" } else { "crate::" };
    for word in [root, "super::"] {
        for (start, _) in text.match_indices(word) {
            let before = &text[..start];
            let part_of_a_word = before.ends_with(|letter: char| letter.is_alphanumeric() || "_$:".contains(letter));
            // `pub(in crate::web)` opens something to one's own ancestors: no use of anything.
            if part_of_a_word || before.ends_with("(in ") {
                continue;
            }
            let base = match word {
                "super::" if at_left_edge(before) => from[..from.len() - 1].to_vec(),
                "super::" => continue,
                _ => Vec::new(),
            };
            found.push((start..start + word.len(), base));
        }
    }
    found.sort_by_key(|(at, _)| at.start);
    found
}

/// Whether an import that stands in no block goes on here.
fn at_left_edge(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].contains(&line)
}

/// The paths of a use tree: `{a, b::{c, d}}` is `a`, `b::c` and `b::d`; of any other text, the one path it begins with.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    walk(text, &mut Vec::new(), &mut found);
    found
}

/// Reads one tree after `prefix`, and returns what follows it.
fn walk<'text>(text: &'text str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'text str {
    let text = text.trim_start();
    let depth = prefix.len();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            let after = walk(rest, prefix, found).trim_start();
            // `as name`, and the comma.
            let next = after.find([',', '}']).map_or("", |at| after[at..].trim_start_matches(','));
            if next.len() >= rest.len() {
                return "";
            }
            rest = next;
        }
    }
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    let end = if text.starts_with('*') { 1 } else { end };
    prefix.push(text[..end].to_owned());
    let rest = match text[end..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|letter: char| letter.is_alphanumeric() || "_{*".contains(letter)) => {
            walk(rest, prefix, found)
        }
        _ => {
            found.push(prefix.clone());
            &text[end..]
        }
    };
    prefix.truncate(depth);
    rest
}

/// The text with its line comments blanked; lines stay where they are. A `//` within a string ends only its own line.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect::<Vec<_>>().join("\n")
}

/// `role/bot/answer.rs` is the module `role::bot::answer`.
fn module_of(path: &str) -> Vec<String> {
    path.trim_end_matches(".rs").split('/').map(str::to_owned).collect()
}

fn is_test(path: &str) -> bool {
    let parts = module_of(path);
    parts.iter().any(|part| ["tests", "testing", "suite"].contains(&part.as_str()))
}

/// Every Rust source of the program: its path within src/, and its text.
fn sources() -> Vec<(String, String)> {
    let (root, mut found, mut folders) = (root(), Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let within = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push((within, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "too few sources in {}", root.display());
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
