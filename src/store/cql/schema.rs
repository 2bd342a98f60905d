//! The keyspace: how `yalo init` makes it, and how a role sees that it is there and of its own version.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::serialize::row::SerializeRow;
use scylla::statement::Statement;
use uuid::Uuid;

use super::CqlOptions;
use super::statements::qualified;
use super::trouble::{Failure, corrupt, explain, unavailable, unusable};
use crate::store::StoreError;

/// One script for each version of the schema; the next one goes to the end, and none is ever changed. Roles of the release
/// before run on meanwhile, and a script that was cut off is run again from its beginning: so each statement adds, and is
/// `CREATE TABLE IF NOT EXISTS`, or `ALTER TABLE t ADD column type`, which is left out if the column is there.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.cql")];
/// The same, and in a build with debug assertions the script in the file that `DELIBERATE_SCHEMA` names: the version that
/// comes next, for the tests of migrations.
static SCRIPTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let next = if cfg!(debug_assertions) { deliberate() } else { None };
    MIGRATIONS.iter().map(|script| (*script).to_owned()).chain(next).collect()
});
/// Limit of one change of the schema: it takes as long as the slowest node, and so seconds under load.
const CHANGE: Duration = Duration::from_secs(30);
/// Where the version is kept.
const VERSION: &str = "schema";
/// Which table of a keyspace has this name: it gets another id when it is made anew.
pub(super) const MADE: &str = "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
/// The table that the others are written for.
pub(super) const LOG: &str = "log";

/// Makes the keyspace and its tables, or brings an older one up to date. Says what it did, a line each. Nobody else may do
/// it at the same time: servers do not order changes of a schema.
pub(super) async fn create(session: &Session, options: &CqlOptions) -> Result<Vec<String>, StoreError> {
    let place = options.place();
    let (keyspace, mut done) = (&options.keyspace, Vec::new());
    // Who began it before may have died while nodes still told each other: one that is behind would make a table again.
    session.await_schema_agreement().await.map_err(|error| failed(&place, &error.into()))?;
    if !exists(session, options).await? {
        let replication = replication(&options.replication);
        let text = format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}");
        run(session, options, &text).await.map_err(|error| not_made(session, options, &error))?;
        done.push(format!("created keyspace {keyspace} with replication {replication}"));
    }
    let found = if done.is_empty() { version(session, options).await? } else { 0 };
    if found > SCRIPTS.len() {
        return Err(newer(place, found));
    }
    for (version, script) in (1..).zip(SCRIPTS.iter()).skip(found) {
        for statement in statements(script) {
            if !is_added(session, options, &statement).await? {
                run(session, options, &qualified(&statement, keyspace))
                    .await
                    .map_err(|error| failed(&place, &error))?;
            }
        }
        // Last: it says that the whole script was run.
        let text = format!("INSERT INTO settings (name, value) VALUES ('{VERSION}', '{version}')");
        run(session, options, &qualified(&text, keyspace)).await.map_err(|error| failed(&place, &error))?;
        done.push(format!("brought keyspace {keyspace} to version {version} of the schema"));
    }
    Ok(done)
}

/// Refuses a keyspace that is missing, older or newer than this release.
pub(super) async fn check(session: &Session, options: &CqlOptions) -> Result<(), StoreError> {
    let place = options.place();
    let missing = |cause: String| Err(unusable("open", &place, cause, "run `yalo init`"));
    if !exists(session, options).await? {
        return missing(format!("there is no keyspace {}", options.keyspace));
    }
    match version(session, options).await? {
        0 => missing("the keyspace has no tables of yalo".to_owned()),
        found if found < SCRIPTS.len() => {
            Err(StoreError::OlderVersion { place, found: number(found), known: number(SCRIPTS.len()) })
        }
        found if found > SCRIPTS.len() => Err(newer(place, found)),
        _ => Ok(()),
    }
}

/// The id of the log as it is now.
pub(super) async fn made(session: &Session, options: &CqlOptions) -> Result<Uuid, StoreError> {
    let place = options.place();
    let found = session.query_unpaged(MADE, (&options.keyspace, LOG)).await.map_err(|error| failed(&place, &error))?;
    let odd = |error: String| corrupt("open", &place, error);
    let rows = found.into_rows_result().map_err(|error| odd(error.to_string()))?;
    let row = rows.maybe_first_row::<(Uuid,)>().map_err(|error| odd(error.to_string()))?;
    row.map(|(id,)| id).ok_or_else(|| unusable("open", &place, "it has no log".to_owned(), "run `yalo init`"))
}

/// Whether there are tables of yalo, of whatever version.
pub(super) async fn is_made(session: &Session, options: &CqlOptions) -> Result<bool, StoreError> {
    if !exists(session, options).await? {
        return Ok(false);
    }
    Ok(version(session, options).await? > 0)
}

async fn exists(session: &Session, options: &CqlOptions) -> Result<bool, StoreError> {
    let text = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    finds(session, options, text, (&options.keyspace,)).await
}

/// Whether a statement adds a column that is there already. Only Cassandra can say `ADD IF NOT EXISTS`.
async fn is_added(session: &Session, options: &CqlOptions, statement: &str) -> Result<bool, StoreError> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let ["ALTER", "TABLE", table, "ADD", column, ..] = words[..] else { return Ok(false) };
    let text = "SELECT type FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ? AND column_name = ?";
    finds(session, options, text, (&options.keyspace, table, column)).await
}

async fn finds(
    session: &Session,
    options: &CqlOptions,
    text: &str,
    values: impl SerializeRow,
) -> Result<bool, StoreError> {
    let found = session.query_unpaged(text, values).await.map_err(|error| failed(&options.place(), &error))?;
    Ok(found.into_rows_result().is_ok_and(|rows| rows.rows_num() > 0))
}

/// The version of the schema, 0 without tables.
async fn version(session: &Session, options: &CqlOptions) -> Result<usize, StoreError> {
    let text = qualified(&format!("SELECT value FROM settings WHERE name = '{VERSION}'"), &options.keyspace);
    let found = match session.query_unpaged(text, ()).await {
        Ok(found) => found,
        Err(error) if is_unknown_table(&error) => return Ok(0),
        Err(error) => return Err(failed(&options.place(), &error)),
    };
    let odd = |error: String| corrupt("read the version of", &options.place(), error);
    let rows = found.into_rows_result().map_err(|error| odd(error.to_string()))?;
    let row = rows.maybe_first_row::<(String,)>().map_err(|error| odd(error.to_string()))?;
    row.map_or(Ok(0), |(value,)| value.parse().map_err(|_| odd(format!("the version is {value:?}"))))
}

fn is_unknown_table(error: &ExecutionError) -> bool {
    let (ExecutionError::LastAttemptError(attempt)
    | ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt: attempt })) = error
    else {
        return false;
    };
    matches!(attempt, RequestAttemptError::DbError(DbError::Invalid, _))
}

/// Runs one statement and waits until all nodes agree on the schema.
async fn run(session: &Session, options: &CqlOptions, text: &str) -> Result<(), ExecutionError> {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(CHANGE));
    statement.set_consistency(options.consistency.of_writes());
    session.query_unpaged(statement, ()).await.map(drop)
}

/// Why there is no keyspace: a cluster refuses copies in a data centre that it does not have.
fn not_made(session: &Session, options: &CqlOptions, error: &ExecutionError) -> StoreError {
    let ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::ConfigError, _)) = error else {
        return failed(&options.place(), error);
    };
    let cluster = session.get_cluster_state();
    let centres = cluster.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref());
    let centres = centres.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    let next = format!("correct store.replication: the data centres of this cluster are {centres}");
    unusable("make", &options.place(), error.to_string(), &next)
}

pub(super) fn failed(place: &str, error: &ExecutionError) -> StoreError {
    match explain("open", place, error) {
        Failure::Never(error) => error,
        Failure::Busy(cause) | Failure::Away(cause) | Failure::Row(cause) => unavailable("open", place, cause),
    }
}

fn newer(place: String, found: usize) -> StoreError {
    StoreError::NewerVersion { place, found: number(found), known: number(SCRIPTS.len()) }
}

fn number(version: usize) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "no setting of yalo: nothing that an operator could find or meet")]
#[expect(clippy::panic, reason = "a test of a script that is not read would prove nothing")]
fn deliberate() -> Option<String> {
    let file = std::env::var("DELIBERATE_SCHEMA").ok()?;
    Some(std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}")))
}

/// `3`, or `dc1:3,dc2:3`: the copies in each data centre.
fn replication(copies: &str) -> String {
    let mut map = "{'class': 'NetworkTopologyStrategy'".to_owned();
    for part in copies.split(',').map(str::trim) {
        let (centre, copies) = part.split_once(':').unwrap_or(("replication_factor", part));
        // Writing to a String cannot fail.
        let _written = write!(map, ", '{centre}': {copies}");
    }
    map.push('}');
    map
}

/// The statements of a script, without comments.
fn statements(script: &str) -> Vec<String> {
    let lines = script.lines().map(|line| line.split_once("--").map_or(line, |(text, _)| text).trim_end());
    let text = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    text.split(";\n")
        .map(|statement| statement.trim().trim_end_matches(';'))
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_given_for_all_or_for_each_data_centre() {
        assert_eq!(replication("3"), "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}");
        assert_eq!(replication("east:3, west:2"), "{'class': 'NetworkTopologyStrategy', 'east': 3, 'west': 2}");
    }

    #[test]
    fn a_script_is_taken_apart() {
        let all = statements(MIGRATIONS[0]);
        assert!(all.len() > 8 && all.iter().all(|one| one.starts_with("CREATE TABLE IF NOT EXISTS ")), "{all:?}");
        assert!(all.iter().all(|one| !one.contains("--") && !one.contains(';')), "{all:?}");
    }

    #[test]
    fn every_statement_of_every_version_may_run_again() {
        for statement in MIGRATIONS.iter().flat_map(|script| statements(script)) {
            let words: Vec<&str> = statement.split_whitespace().collect();
            let adds_a_column = matches!(words[..], ["ALTER", "TABLE", _, "ADD", _, _]);
            assert!(adds_a_column || statement.starts_with("CREATE TABLE IF NOT EXISTS "), "{statement}");
        }
    }
}
