//! What was retired: everything below one sequence, which all processes share.

use super::{Shared, log};
use crate::store::StoreError;

/// Where it is kept among the settings.
const BELOW: &str = "retired_below";

/// Everything below was retired; 0 if nothing was.
pub(super) async fn below(shared: &Shared) -> Result<u64, StoreError> {
    let action = "read what was retired from";
    let result = shared.flight.rows(action, &shared.statements.setting, (BELOW,)).await?;
    let row = result.maybe_first_row::<(String,)>().map_err(|error| shared.odd(action, error))?;
    row.map_or(Ok(0), |(value,)| value.parse().map_err(|_| shared.odd(action, format!("it is {value:?}"))))
}

/// Says that everything below was retired. It never falls, whoever writes when: its own number is the time of the cell.
pub(super) async fn raise(shared: &Shared, below: u64) -> Result<(), StoreError> {
    let values = (BELOW, below.to_string(), super::place::signed(below));
    let statement = &shared.statements.insert_setting;
    shared.flight.write("write what was retired to", statement, values).await.map(drop)
}

/// The highest stored sequence, retired rows included.
pub(super) async fn last_seq(shared: &Shared) -> Result<Option<u64>, StoreError> {
    let (last, below) = tokio::try_join!(log::last(shared), below(shared))?;
    Ok(last.map(|last| last.seq).max(below.checked_sub(1)))
}
