//! The calls of the contract. Equal questions at the same time are asked once.

use std::sync::Arc;

use super::{Cql, conversations, inherit, log, record, retire, settings, streams};
use crate::domain::{Conversation, ConversationId, ListCursor, MessageId, Row, Timestamp};
use crate::store::StoreError;
use crate::store::contract::{
    BoundStream, Contract, Heritage, MAX_ROWS, PageQuery, Recorded, Retired, Setting, StreamBinding, Totals,
};

impl Contract for Cql {
    async fn record_above(&self, above: u64, rows: impl Into<Arc<[Row]>> + Send) -> Result<Recorded, StoreError> {
        let rows = rows.into();
        if self.shared.options.read_only {
            return Err(StoreError::ReadOnly { place: self.shared.flight.place().to_owned() });
        }
        record::record(&self.shared, &rows, above).await
    }

    async fn retire(&self, before: Timestamp, upto: u64) -> Result<Retired, StoreError> {
        if self.shared.options.read_only {
            return Err(StoreError::ReadOnly { place: self.shared.flight.place().to_owned() });
        }
        retire::retire(&self.shared, before, upto).await
    }

    async fn retired_below(&self) -> Result<u64, StoreError> {
        retire::below(&self.shared).await
    }

    async fn last_seq(&self) -> Result<Option<u64>, StoreError> {
        retire::last_seq(&self.shared).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        let shared = &self.shared;
        let ask = async || {
            let (first, last) = tokio::try_join!(log::first(shared), log::last(shared))?;
            let messages = first.zip(last).map_or(0, |(first, last)| last.seq - first.seq + 1);
            Ok(Totals { messages, conversations: None, first, last })
        };
        shared.questions.totals.ask((), ask).await
    }

    async fn count_between(&self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        log::count_between(&self.shared, from, to).await
    }

    async fn page(&self, conversation: ConversationId, query: PageQuery) -> Result<Vec<Row>, StoreError> {
        let query = PageQuery { limit: query.limit.min(MAX_ROWS), ..query };
        let shared = &self.shared;
        let ask = async || conversations::page(shared, conversation, query).await;
        shared.questions.pages.ask((conversation, query), ask).await
    }

    async fn by_seq(&self, seq: u64) -> Result<Option<Row>, StoreError> {
        let shared = &self.shared;
        shared.questions.by_seq.ask(seq, async || log::by_seq(shared, seq).await).await
    }

    async fn by_id(&self, conversation: ConversationId, id: MessageId) -> Result<Option<Row>, StoreError> {
        let shared = &self.shared;
        let ask = async || conversations::by_id(shared, conversation, id).await;
        shared.questions.by_id.ask((conversation, id), ask).await
    }

    async fn between(
        &self,
        from: Timestamp,
        to: Timestamp,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let (shared, limit) = (&self.shared, limit.min(MAX_ROWS));
        let ask = async || log::between(shared, from, to, after_seq, limit).await;
        shared.questions.between.ask((from, to, after_seq, limit), ask).await
    }

    async fn scan(&self, after_seq: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
        log::scan(&self.shared, after_seq, limit.min(MAX_ROWS)).await
    }

    async fn conversation(&self, id: ConversationId) -> Result<Option<Conversation>, StoreError> {
        let shared = &self.shared;
        shared.questions.ones.ask(id, async || conversations::one(shared, id).await).await
    }

    async fn recent(&self, before: Option<ListCursor>, limit: usize) -> Result<Vec<Conversation>, StoreError> {
        let (shared, limit) = (&self.shared, limit.min(MAX_ROWS));
        let ask = async || conversations::recent(shared, before, limit).await;
        shared.questions.recent.ask((before, limit), ask).await
    }

    async fn owned_by(
        &self,
        owner: &str,
        before: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<Conversation>, StoreError> {
        let (shared, limit) = (&self.shared, limit.min(MAX_ROWS));
        let ask = async || conversations::owned_by(shared, owner, before, limit).await;
        shared.questions.owned.ask((owner.to_owned(), before, limit), ask).await
    }

    async fn all_owned_by(&self, owner: &str) -> Result<Vec<(ConversationId, Option<u64>)>, StoreError> {
        conversations::all_owned_by(&self.shared, owner).await
    }

    async fn bind_stream(&self, name: &str, created: Timestamp) -> Result<StreamBinding, StoreError> {
        streams::bind(&self.shared, name, created).await
    }

    async fn rebind_stream(&self, name: &str, created: Timestamp) -> Result<(), StoreError> {
        streams::rebind(&self.shared, name, created).await
    }

    async fn streams(&self) -> Result<Vec<BoundStream>, StoreError> {
        streams::all(&self.shared).await
    }

    async fn inherit(&self, heritage: Heritage) -> Result<(), StoreError> {
        if self.shared.options.read_only {
            return Err(StoreError::ReadOnly { place: self.shared.flight.place().to_owned() });
        }
        inherit::inherit(&self.shared, &heritage).await
    }

    async fn settings(&self) -> Result<Vec<Setting>, StoreError> {
        settings::all(&self.shared).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let (action, shared) = ("reach", &self.shared);
        let found = shared.flight.rows(action, &shared.statements.setting, ("schema",)).await?;
        if found.rows_num() == 1 { Ok(()) } else { Err(shared.odd(action, "the version of its schema is gone")) }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shared.flight.close();
        Ok(())
    }
}
