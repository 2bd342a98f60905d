//! Comparing what is wanted with what is there, field by field: no I/O, so that every rule can be tested alone.

use std::cmp::Ordering;
use std::time::Duration;

use serde_json::{Map, Value};

use super::plan::{Field, GROUPS_KEY, Rule, SCHEMA, SCHEMA_KEY, Wanted};
use super::report::{Action, Change};
use crate::bus::server::Version;

/// What is stored in a stream, and where.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    /// Bytes of all messages.
    pub(super) bytes: i64,
    /// Age of the oldest message that no auditor has stored yet.
    pub(super) oldest_unaudited: Option<Duration>,
    /// Everything up to here is audited.
    pub(super) audited_seq: u64,
    /// Whether the server is one of a cluster.
    pub(super) clustered: bool,
    /// What the server calls itself.
    pub(super) version: Option<Version>,
}

/// The differences of one object; the fields to be updated are set in `actual`.
pub(super) fn differences(wanted: &Wanted, actual: &mut Map<String, Value>, stored: &Stored) -> Vec<Change> {
    let mut changes = Vec::new();
    for field in &wanted.fields {
        let found = actual.get(field.name).cloned().unwrap_or(Value::Null);
        if same(&field.value, &found) || !field.is_known(stored.version) {
            continue;
        }
        let Some(action) = action(wanted, field, &found, stored) else { continue };
        if action == Action::Updated {
            set(actual, field);
        }
        changes.push(Change {
            object: wanted.title(),
            field: field.name.to_owned(),
            from: shown(field.name, &found),
            to: shown(field.name, &field.value),
            action,
        });
    }
    changes
}

/// The server leaves out what has no value, orders lists as it likes, adds metadata, and writes "unlimited" as 0 or -1.
fn same(wanted: &Value, found: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(key, value)| same(value, &found[key])),
        Value::Array(items) if items.is_empty() => found.as_array().is_none_or(Vec::is_empty),
        Value::Array(items) => found.as_array().is_some_and(|found| sorted(items) == sorted(found)),
        Value::Number(_) if limit(wanted).is_none() => limit(found).is_none(),
        Value::Bool(false) => !found.as_bool().unwrap_or(false),
        Value::String(text) if text.is_empty() => found.as_str().unwrap_or("").is_empty(),
        _ => wanted == found,
    }
}

fn sorted(items: &[Value]) -> Vec<String> {
    let mut items: Vec<_> = items.iter().map(Value::to_string).collect();
    items.sort();
    items
}

/// A limit, or `None` for unlimited.
fn limit(value: &Value) -> Option<i64> {
    value.as_i64().filter(|limit| *limit > 0)
}

/// Which of two limits holds more.
fn compare_limits(left: &Value, right: &Value) -> Ordering {
    limit(left).unwrap_or(i64::MAX).cmp(&limit(right).unwrap_or(i64::MAX))
}

/// What to do about a difference; `None`: nothing.
fn action(wanted: &Wanted, field: &Field, found: &Value, stored: &Stored) -> Option<Action> {
    let lowers = compare_limits(&field.value, found) == Ordering::Less;
    match field.rule {
        Rule::Fixed => Some(fixed(wanted)),
        Rule::AtLeast => (!lowers).then_some(Action::Updated),
        Rule::Bytes if lowers && stored.bytes > limit(&field.value).unwrap_or(i64::MAX) => {
            Some(too_full(wanted, stored))
        }
        Rule::Age if lowers => Some(too_old(field, stored).unwrap_or(Action::Updated)),
        Rule::Replicas if field.value.as_i64() > Some(1) && !stored.clustered => Some(single()),
        Rule::Free | Rule::Since(_) | Rule::Bytes | Rule::Age | Rule::Replicas => Some(Action::Updated),
        Rule::Subjects => Some(foreign_subjects(field, found).unwrap_or(Action::Updated)),
        Rule::Schema => Some(newer_schema(found).or_else(|| fewer_groups(field, found)).unwrap_or(Action::Updated)),
        Rule::Start => (found != "by_start_sequence").then(|| fixed(wanted)),
    }
}

fn refused(reason: impl Into<String>, way_out: impl Into<String>) -> Action {
    Action::Refused { reason: reason.into(), way_out: way_out.into() }
}

fn fixed(wanted: &Wanted) -> Action {
    let stream = &wanted.stream;
    match &wanted.consumer {
        None => refused(
            "this is decided when a stream is made, and can't be changed in place",
            format!(
                "let the auditors store everything, then `nats stream rm {stream}` and run `yalo init` again, with the \
                 same store so that the numbers go on; or choose another nats.prefix"
            ),
        ),
        Some(consumer) => refused(
            "this is decided when a consumer is made, and can't be changed in place",
            format!(
                "`nats consumer rm {stream} {consumer}` and run `yalo init` again: it then reads the stream from its \
                 start, and what was answered or stored before is recognised"
            ),
        ),
    }
}

fn too_full(wanted: &Wanted, stored: &Stored) -> Action {
    refused(
        format!("the stream holds {} bytes already, and a lower limit would stop all users at once", stored.bytes),
        format!(
            "set nats.max_bytes to {} or more; or give up what is audited: `nats stream purge {} --seq {}`",
            stored.bytes,
            wanted.stream,
            stored.audited_seq + 1
        ),
    )
}

fn too_old(field: &Field, stored: &Stored) -> Option<Action> {
    let oldest = stored.oldest_unaudited?;
    let age = Duration::from_nanos(field.value.as_u64()?);
    (oldest >= age).then(|| {
        refused(
            format!("the oldest message that is not in the store yet is {} old, and would be lost", span(oldest)),
            format!(
                "let the auditors catch up first, or set nats.max_age_hours to {} or more",
                oldest.as_secs() / 3600 + 1
            ),
        )
    })
}

fn single() -> Action {
    refused(
        "this NATS is a single server, and each copy needs a server of its own",
        "set nats.replicas to 1, or set nats.url to the servers of a cluster",
    )
}

fn foreign_subjects(field: &Field, found: &Value) -> Option<Action> {
    let (wanted, found) = (sorted(field.value.as_array()?), sorted(found.as_array().map_or(&[], Vec::as_slice)));
    let foreign: Vec<_> = found.into_iter().filter(|subject| !wanted.contains(subject)).collect();
    (!foreign.is_empty()).then(|| {
        refused(
            format!("a stream of this name takes {} too: it is not (only) yalo's", foreign.join(", ")),
            "choose another nats.prefix, or remove those subjects with `nats stream edit` if nothing is stored on them",
        )
    })
}

fn newer_schema(found: &Value) -> Option<Action> {
    let schema = found[SCHEMA_KEY].as_str()?;
    let is_known = schema.parse::<u64>().is_ok_and(|schema| schema <= SCHEMA);
    (!is_known).then(|| {
        refused(
            format!("it was made with schema {schema}, and this yalo knows schemas up to {SCHEMA}"),
            "run the yalo that made it, or a newer one",
        )
    })
}

fn fewer_groups(field: &Field, found: &Value) -> Option<Action> {
    let number = |metadata: &Value| metadata[GROUPS_KEY].as_str()?.parse::<u16>().ok();
    let (wanted, found) = (number(&field.value)?, number(found)?);
    (found > wanted).then(|| {
        refused(
            format!("bots share {found} groups, and there can't be fewer again: some would be answered by nobody"),
            format!("set nats.groups to {found}"),
        )
    })
}

/// Sets a field for the update; of metadata only our own keys.
fn set(actual: &mut Map<String, Value>, field: &Field) {
    match (&field.value, actual.get_mut(field.name)) {
        (Value::Object(ours), Some(Value::Object(theirs))) => theirs.extend(ours.clone()),
        (value, _) => drop(actual.insert(field.name.to_owned(), value.clone())),
    }
}

/// A value for people.
fn shown(name: &str, value: &Value) -> String {
    let is_span = matches!(name, "max_age" | "duplicate_window" | "ack_wait" | "inactive_threshold" | "max_expires");
    match value {
        Value::Null => "unset".to_owned(),
        Value::Number(_) if limit(value).is_none() => "unlimited".to_owned(),
        Value::Number(number) if is_span => span(Duration::from_nanos(number.as_u64().unwrap_or(0))),
        Value::Array(items) => {
            let texts: Vec<_> = items.iter().map(|item| item.as_str().unwrap_or_default()).collect();
            format!("[{}]", texts.join(", "))
        }
        Value::String(text) if text.is_empty() => "unset".to_owned(),
        Value::String(text) => text.clone(),
        _ => value.to_string(),
    }
}

/// `7 d`, `36 h`, `10 s`, `1500 ms`: the largest unit that is exact, and no finer than needed for what is old.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 if time.subsec_millis() > 0 => format!("{} ms", time.as_millis()),
        _ if seconds >= 86_400 && seconds.is_multiple_of(86_400) => format!("{} d", seconds / 86_400),
        _ if seconds >= 3600 && seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn act(rule: Rule, wanted: &Value, found: &Value, stored: &Stored) -> Option<Action> {
        let field = Field { name: "it", value: wanted.clone(), rule };
        let object = Wanted { stream: "S".to_owned(), consumer: None, fields: vec![field], at_birth: Vec::new() };
        let mut actual = Map::from_iter([("it".to_owned(), found.clone())]);
        differences(&object, &mut actual, stored).pop().map(|change| change.action)
    }

    fn is_refused(action: Option<&Action>) -> bool {
        matches!(action, Some(Action::Refused { .. }))
    }

    #[test]
    fn what_only_newer_servers_know_is_not_asked_of_older_ones() {
        let since = Version::parse("2.14.0").unwrap();
        for (version, action) in [("2.12.9", None), ("2.14.0", Some(Action::Updated))] {
            let stored = Stored { version: Version::parse(version), ..Stored::default() };
            assert_eq!(act(Rule::Since(since), &json!(true), &Value::Null, &stored), action, "{version}");
        }
    }

    #[test]
    fn what_the_server_writes_differently_is_no_difference() {
        let none = Stored::default();
        for (wanted, found) in [
            (json!(-1), json!(0)),
            (json!(0), Value::Null),
            (json!(false), Value::Null),
            (json!(""), Value::Null),
            (json!([]), Value::Null),
            (json!(["a", "b"]), json!(["b", "a"])),
            (json!({"ours": "1"}), json!({"ours": "1", "_nats.level": "0"})),
        ] {
            assert_eq!(act(Rule::Fixed, &wanted, &found, &none), None, "{wanted} {found}");
        }
        for (wanted, found) in [(json!(5), json!(-1)), (json!(-1), json!(5)), (json!(true), Value::Null)] {
            assert_eq!(act(Rule::Free, &wanted, &found, &none), Some(Action::Updated));
        }
    }

    #[test]
    fn a_byte_limit_is_lowered_only_above_what_is_stored() {
        let stored = Stored { bytes: 1000, ..Stored::default() };
        assert_eq!(act(Rule::Bytes, &json!(1000), &json!(5000), &stored), Some(Action::Updated));
        assert!(is_refused(act(Rule::Bytes, &json!(999), &json!(5000), &stored).as_ref()));
        assert!(is_refused(act(Rule::Bytes, &json!(999), &json!(-1), &stored).as_ref()));
        assert_eq!(act(Rule::Bytes, &json!(900), &json!(800), &stored), Some(Action::Updated), "raised");
    }

    #[test]
    fn an_age_limit_is_lowered_only_above_the_oldest_unaudited_message() {
        let hour = 3_600_000_000_000u64;
        let stored = Stored { oldest_unaudited: Some(Duration::from_hours(2)), ..Stored::default() };
        assert!(is_refused(act(Rule::Age, &json!(2 * hour), &json!(9 * hour), &stored).as_ref()));
        assert_eq!(act(Rule::Age, &json!(3 * hour), &json!(9 * hour), &stored), Some(Action::Updated));
        assert_eq!(act(Rule::Age, &json!(hour), &json!(9 * hour), &Stored::default()), Some(Action::Updated));
        assert_eq!(act(Rule::Age, &json!(hour), &json!(hour / 2), &stored), Some(Action::Updated), "raised");
    }

    #[test]
    fn a_limit_that_an_operator_raised_is_left() {
        let none = Stored::default();
        assert_eq!(act(Rule::AtLeast, &json!(10), &json!(20), &none), None);
        assert_eq!(act(Rule::AtLeast, &json!(10), &json!(-1), &none), None);
        assert_eq!(act(Rule::AtLeast, &json!(10), &json!(5), &none), Some(Action::Updated));
    }

    #[test]
    fn subjects_may_be_added_but_foreign_ones_are_refused() {
        let none = Stored::default();
        assert_eq!(act(Rule::Subjects, &json!(["a", "b"]), &json!(["a"]), &none), Some(Action::Updated));
        assert!(is_refused(act(Rule::Subjects, &json!(["a", "b"]), &json!(["a", "b", "c"]), &none).as_ref()));
    }

    #[test]
    fn a_newer_schema_is_refused_and_a_missing_one_is_set() {
        let none = Stored::default();
        let ours = || json!({ SCHEMA_KEY: "1" });
        assert!(is_refused(act(Rule::Schema, &ours(), &json!({ SCHEMA_KEY: "2" }), &none).as_ref()));
        assert!(is_refused(act(Rule::Schema, &ours(), &json!({ SCHEMA_KEY: "newest" }), &none).as_ref()));
        assert_eq!(act(Rule::Schema, &ours(), &json!({ SCHEMA_KEY: "0" }), &none), Some(Action::Updated));
        assert_eq!(act(Rule::Schema, &ours(), &Value::Null, &none), Some(Action::Updated));
    }

    #[test]
    fn copies_need_a_cluster() {
        let cluster = Stored { clustered: true, ..Stored::default() };
        assert!(is_refused(act(Rule::Replicas, &json!(3), &json!(1), &Stored::default()).as_ref()));
        assert_eq!(act(Rule::Replicas, &json!(3), &json!(1), &cluster), Some(Action::Updated));
        assert_eq!(act(Rule::Replicas, &json!(1), &json!(3), &cluster), Some(Action::Updated));
    }

    #[test]
    fn values_are_shown_as_people_write_them() {
        assert_eq!(shown("max_age", &json!(604_800_000_000_000u64)), "7 d");
        assert_eq!(shown("max_age", &json!(5_400_000_000_000u64)), "5400 s");
        assert_eq!(shown("ack_wait", &json!(1_500_000_000u64)), "1500 ms");
        assert_eq!(shown("max_bytes", &json!(-1)), "unlimited");
        assert_eq!(shown("subjects", &json!(["a", "b"])), "[a, b]");
    }
}
