//! The audit store: keeps every message of the stream under its sequence, and reads them back for people.
//!
//! [`Contract`] says in domain words what a store promises; each variant of [`Store`] keeps it, and one suite
//! (`store/suite.rs`) holds all of them to it. No type of a driver crosses this border.

mod contract;
mod copy;
mod cql;
mod error;
mod sqlite;
#[cfg(test)]
mod suite;
mod within;

use std::path::Path;
use std::sync::Arc;

pub use contract::{
    BoundStream, Contract, Heritage, MAX_ROWS, PageQuery, Place, Recorded, Refused, Retired, Setting, StreamBinding,
    Totals,
};
pub use copy::{Copied, CopyError, Difference, Unlike, copy};
pub use cql::{Copies, Cql, CqlOptions, Fullness};
pub use error::{StoreError, Trouble};
pub use sqlite::{Sqlite, SqliteOptions};
pub use within::{drop_cut, within};

use crate::domain::{Conversation, ConversationId, ListCursor, MessageId, Row, Timestamp};

/// Which store, where it is, and how it is used.
#[derive(Debug, Clone)]
pub enum StoreOptions {
    /// Embedded, one file.
    Sqlite(SqliteOptions),
    /// ScyllaDB or Cassandra.
    Cql(CqlOptions),
}

impl StoreOptions {
    /// How banners and errors name the store.
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite(options) => options.path.display().to_string(),
            Self::Cql(options) => options.place(),
        }
    }

    /// The file, if the store is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(options) => Some(&options.path),
            Self::Cql(_) => None,
        }
    }
}

/// One of the stores that yalo can write to. Cloning is cheap and shares the connections.
#[derive(Debug, Clone)]
pub enum Store {
    /// Embedded, one file.
    Sqlite(Sqlite),
    /// ScyllaDB or Cassandra.
    Cql(Cql),
}

impl Store {
    /// Makes what a store of a fleet needs before it can be opened, or brings it up to date; says what it did. One process
    /// at a time. An embedded store needs nothing: opening makes it.
    pub async fn create(options: &StoreOptions) -> Result<Vec<String>, StoreError> {
        match options {
            StoreOptions::Sqlite(_) => Ok(Vec::new()),
            StoreOptions::Cql(options) => Cql::create(options).await,
        }
    }

    /// Whether there is something to open.
    pub async fn is_made(options: &StoreOptions) -> Result<bool, StoreError> {
        match options {
            StoreOptions::Sqlite(options) => Ok(options.path.exists()),
            StoreOptions::Cql(options) => Cql::is_made(options).await,
        }
    }

    /// Opens the store; makes or migrates an embedded one.
    pub async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        match options {
            StoreOptions::Sqlite(options) => Sqlite::open(options).await.map(Self::Sqlite),
            StoreOptions::Cql(options) => Cql::open(options).await.map(Self::Cql),
        }
    }
}

impl Store {
    /// Whether both are one and the same store, under whatever names.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sqlite(one), Self::Sqlite(other)) => one.is(other),
            (Self::Cql(one), Self::Cql(other)) => one.is(other),
            (Self::Sqlite(_), Self::Cql(_)) | (Self::Cql(_), Self::Sqlite(_)) => false,
        }
    }
}

/// Hands a call to the variant. What waits for a cluster is large, and whoever waits for a store would hold it on the stack.
macro_rules! each {
    ($store:expr, $variant:ident => $call:expr) => {
        match $store {
            Store::Sqlite($variant) => $call.await,
            Store::Cql($variant) => Box::pin($call).await,
        }
    };
}

impl Contract for Store {
    async fn record_above(&self, above: u64, rows: impl Into<Arc<[Row]>> + Send) -> Result<Recorded, StoreError> {
        each!(self, store => store.record_above(above, rows))
    }

    async fn retire(&self, before: Timestamp, upto: u64) -> Result<Retired, StoreError> {
        each!(self, store => store.retire(before, upto))
    }

    async fn retired_below(&self) -> Result<u64, StoreError> {
        each!(self, store => store.retired_below())
    }

    async fn last_seq(&self) -> Result<Option<u64>, StoreError> {
        each!(self, store => store.last_seq())
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        each!(self, store => store.totals())
    }

    async fn count_between(&self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        each!(self, store => store.count_between(from, to))
    }

    async fn page(&self, conversation: ConversationId, query: PageQuery) -> Result<Vec<Row>, StoreError> {
        each!(self, store => store.page(conversation, query))
    }

    async fn by_seq(&self, seq: u64) -> Result<Option<Row>, StoreError> {
        each!(self, store => store.by_seq(seq))
    }

    async fn by_id(&self, conversation: ConversationId, id: MessageId) -> Result<Option<Row>, StoreError> {
        each!(self, store => store.by_id(conversation, id))
    }

    async fn between(
        &self,
        from: Timestamp,
        to: Timestamp,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        each!(self, store => store.between(from, to, after_seq, limit))
    }

    async fn scan(&self, after_seq: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
        each!(self, store => store.scan(after_seq, limit))
    }

    async fn conversation(&self, id: ConversationId) -> Result<Option<Conversation>, StoreError> {
        each!(self, store => store.conversation(id))
    }

    async fn recent(&self, before: Option<ListCursor>, limit: usize) -> Result<Vec<Conversation>, StoreError> {
        each!(self, store => store.recent(before, limit))
    }

    async fn owned_by(
        &self,
        owner: &str,
        before: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<Conversation>, StoreError> {
        each!(self, store => store.owned_by(owner, before, limit))
    }

    async fn all_owned_by(&self, owner: &str) -> Result<Vec<(ConversationId, Option<u64>)>, StoreError> {
        each!(self, store => store.all_owned_by(owner))
    }

    async fn bind_stream(&self, name: &str, created: Timestamp) -> Result<StreamBinding, StoreError> {
        each!(self, store => store.bind_stream(name, created))
    }

    async fn rebind_stream(&self, name: &str, created: Timestamp) -> Result<(), StoreError> {
        each!(self, store => store.rebind_stream(name, created))
    }

    async fn streams(&self) -> Result<Vec<BoundStream>, StoreError> {
        each!(self, store => store.streams())
    }

    async fn inherit(&self, heritage: Heritage) -> Result<(), StoreError> {
        each!(self, store => store.inherit(heritage))
    }

    async fn settings(&self) -> Result<Vec<Setting>, StoreError> {
        each!(self, store => store.settings())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        each!(self, store => store.ping())
    }

    async fn close(&self) -> Result<(), StoreError> {
        each!(self, store => store.close())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Handlers, and what they are made of, hold them by value: a stack has 2 MiB, and a build without optimisation copies.
    #[tokio::test]
    async fn what_waits_for_a_store_is_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("messages.db");
        let options = SqliteOptions { path, readers: 1, read_only: false };
        let store = Store::open(&StoreOptions::Sqlite(options)).await.unwrap();
        let conversation = ConversationId::from_bytes([1; 16]);
        let now = Timestamp::now();
        let sizes = [
            size_of_val(&store.record_above(0, [])),
            size_of_val(&store.page(conversation, PageQuery { after: None, before: None, limit: 1 })),
            size_of_val(&store.between(now, now, 0, 1)),
            size_of_val(&store.recent(None, 1)),
            size_of_val(&store.owned_by("eve", None, 1)),
        ];
        assert!(sizes.iter().all(|size| *size < 1024), "{sizes:?}");
        store.close().await.unwrap();
    }
}
