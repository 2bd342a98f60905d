//! The calls of the contract: each is a query on a reading thread, or a job of the writing one.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::writer::{Call, Job};
use super::{CLOSE_LIMIT, Sqlite, WRITE_LIMIT, inherit, lists, retire, rows, settings, streams};
use crate::domain::{Conversation, ConversationId, ListCursor, MessageId, Row, Timestamp};
use crate::store::StoreError;
use crate::store::contract::{
    BoundStream, Contract, Heritage, MAX_ROWS, PageQuery, Recorded, Retired, Setting, StreamBinding, Totals,
};

impl Contract for Sqlite {
    /// A write finds out by itself what is there.
    async fn record_above(&self, _above: u64, rows: impl Into<Arc<[Row]>> + Send) -> Result<Recorded, StoreError> {
        let rows = rows.into();
        let action = "write rows to";
        let (answer, answered) = oneshot::channel();
        self.queue_write(action, Job::Record(Call { rows, answer })).await?;
        self.answer(action, WRITE_LIMIT, answered).await?
    }

    async fn retire(&self, before: Timestamp, upto: u64) -> Result<Retired, StoreError> {
        self.write("retire rows of", move |connection| retire::retire(connection, before, upto)).await
    }

    async fn retired_below(&self) -> Result<u64, StoreError> {
        let below = self.read("read what was retired from", retire::below).await?;
        Ok(u64::try_from(below).unwrap_or(0))
    }

    async fn last_seq(&self) -> Result<Option<u64>, StoreError> {
        self.read("read the last sequence from", rows::last_seq).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.read("read the totals from", rows::totals).await
    }

    async fn count_between(&self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        self.read("count messages in", move |connection| rows::count_between(connection, from, to)).await
    }

    async fn page(&self, conversation: ConversationId, query: PageQuery) -> Result<Vec<Row>, StoreError> {
        let query = PageQuery { limit: query.limit.min(MAX_ROWS), ..query };
        self.read("read a page from", move |connection| rows::page(connection, conversation, query)).await
    }

    async fn by_seq(&self, seq: u64) -> Result<Option<Row>, StoreError> {
        self.read("read a message from", move |connection| rows::by_seq(connection, seq)).await
    }

    async fn by_id(&self, conversation: ConversationId, id: MessageId) -> Result<Option<Row>, StoreError> {
        self.read("find a message in", move |connection| rows::by_id(connection, conversation, id)).await
    }

    async fn between(
        &self,
        from: Timestamp,
        to: Timestamp,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let limit = limit.min(MAX_ROWS);
        self.read("read messages by time from", move |connection| rows::between(connection, from, to, after_seq, limit))
            .await
    }

    async fn scan(&self, after_seq: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
        let limit = limit.min(MAX_ROWS);
        self.read("scan", move |connection| rows::scan(connection, after_seq, limit)).await
    }

    async fn conversation(&self, id: ConversationId) -> Result<Option<Conversation>, StoreError> {
        self.read("read a conversation from", move |connection| lists::conversation(connection, id)).await
    }

    async fn recent(&self, before: Option<ListCursor>, limit: usize) -> Result<Vec<Conversation>, StoreError> {
        let limit = limit.min(MAX_ROWS);
        self.read("list conversations of", move |connection| lists::recent(connection, before, limit)).await
    }

    async fn owned_by(
        &self,
        owner: &str,
        before: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<Conversation>, StoreError> {
        let (owner, limit) = (owner.to_owned(), limit.min(MAX_ROWS));
        let query = move |connection: &Connection| lists::owned_by(connection, &owner, before, limit);
        self.read("list a user's conversations of", query).await
    }

    async fn all_owned_by(&self, owner: &str) -> Result<Vec<(ConversationId, Option<u64>)>, StoreError> {
        let owner = owner.to_owned();
        let query = move |connection: &Connection| lists::all_owned_by(connection, &owner);
        self.read("list all conversations of a user of", query).await
    }

    async fn bind_stream(&self, name: &str, created: Timestamp) -> Result<StreamBinding, StoreError> {
        let name = name.to_owned();
        self.write("bind a stream to", move |connection| streams::bind(connection, &name, created)).await
    }

    async fn rebind_stream(&self, name: &str, created: Timestamp) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write("bind another stream to", move |connection| streams::rebind(connection, &name, created)).await
    }

    async fn streams(&self) -> Result<Vec<BoundStream>, StoreError> {
        self.read("read the streams of", streams::all).await
    }

    async fn inherit(&self, heritage: Heritage) -> Result<(), StoreError> {
        self.write("take over what another store knows to", move |connection| inherit::inherit(connection, &heritage))
            .await
    }

    async fn settings(&self) -> Result<Vec<Setting>, StoreError> {
        let path = self.shared.path.clone();
        self.read("read the settings of", move |connection| settings::all(connection, &path)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.read("reach", |connection| connection.query_row("SELECT only FROM totals", [], |_| Ok(()))).await?;
        self.shared.identity.check(&self.shared.path)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shared.reads.close();
        let closing = async {
            let mut ends = self.shared.ends.lock().await;
            // Readers first: the log can be folded into the file only when nobody reads from it.
            while ends.readers.recv().await.is_some() {}
            if let Some(writes) = &self.shared.writes {
                writes.close();
            }
            if let Some(writer) = ends.writer.take() {
                writer.await.ok();
            }
        };
        timeout(CLOSE_LIMIT, closing)
            .await
            .map_err(|_| self.overloaded("close", "its threads are still at work; they finish by themselves"))
    }
}
