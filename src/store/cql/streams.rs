//! Which streams the rows came from. Seldom written, and never by two who disagree for long: the last one counts.

use super::{Shared, retire};
use crate::domain::Timestamp;
use crate::store::{BoundStream, StoreError, StreamBinding};

pub(super) async fn all(shared: &Shared) -> Result<Vec<BoundStream>, StoreError> {
    let action = "read the streams of";
    let result = shared.flight.rows(action, &shared.statements.streams, ()).await?;
    let rows = result.rows::<(i64, String, i64, i64)>().map_err(|error| shared.odd(action, error))?;
    let mut bound = Vec::new();
    for row in rows {
        let (created_ns, name, above, bound_ns) = row.map_err(|error| shared.odd(action, error))?;
        let created = Timestamp::from_ns(created_ns);
        bound.push((above, bound_ns, BoundStream { name, created, above_seq: above.unsigned_abs() }));
    }
    bound.sort_by_key(|(above, bound_ns, _)| (*above, *bound_ns));
    Ok(bound.into_iter().map(|(_, _, stream)| stream).collect())
}

pub(super) async fn bind(shared: &Shared, name: &str, created: Timestamp) -> Result<StreamBinding, StoreError> {
    match all(shared).await?.pop() {
        Some(bound) if bound.name == name && bound.created == created => Ok(StreamBinding::Same),
        Some(bound) => {
            let last_seq = retire::last_seq(shared).await?.unwrap_or(0);
            Ok(StreamBinding::Other { bound, last_seq })
        }
        None => add_above_all(shared, name, created).await.map(|()| StreamBinding::New),
    }
}

pub(super) async fn rebind(shared: &Shared, name: &str, created: Timestamp) -> Result<(), StoreError> {
    // Several auditors may come to the same decision.
    match all(shared).await?.pop() {
        Some(bound) if bound.name == name && bound.created == created => Ok(()),
        _ => add_above_all(shared, name, created).await,
    }
}

async fn add_above_all(shared: &Shared, name: &str, created: Timestamp) -> Result<(), StoreError> {
    let above = retire::last_seq(shared).await?.unwrap_or(0);
    add(shared, name, created, above).await
}

pub(super) async fn add(shared: &Shared, name: &str, created: Timestamp, above: u64) -> Result<(), StoreError> {
    let values = (created.ns(), name, super::place::signed(above), Timestamp::now().ns());
    let action = "bind a stream to";
    shared.flight.write(action, &shared.statements.insert_stream, values).await.map(drop)
}
