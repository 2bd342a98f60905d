//! A record that was not talked: many messages at once, into a stream or straight into a store.

use std::path::Path;

use async_nats::jetstream;
use futures_util::{StreamExt, stream};
use yalo::domain::{ConversationId, Kind, Message, MessageId, Timestamp, Who};
use yalo::store::{Store, StoreOptions};
use yalo::wire::{self, Subjects};

/// The `number`-th conversation of a made record.
pub(crate) fn conversation(number: u64) -> ConversationId {
    let mut bytes = *b"\x01\x98\xc0\xde\0\0\x70\0\x80\0\0\0\0\0\0\0";
    bytes[8..].copy_from_slice(&(0x8000_0000_0000_0000 | number).to_be_bytes());
    ConversationId::from_bytes(bytes)
}

/// What is awkward to write down.
const TEXTS: [&str; 6] =
    ["hello", "two\nlines, \"quoted\"\r\n", "=1+2", "نص \u{202e} 👩‍👩‍👧", "a\u{0}b\u{1f}", "'; DROP TABLE messages; --"];

/// The `number`-th message of a made record.
pub(crate) fn message(number: u64, conversation: ConversationId, who: Who) -> Message {
    let awkward = TEXTS[usize::try_from(number).unwrap() % TEXTS.len()];
    // JSON with line breaks between its words is JSON.
    let data = number.is_multiple_of(3).then(|| format!("{{\"n\": {number}.50,\n \"z\": [1,  2]}}"));
    Message {
        id: MessageId::new(),
        conversation,
        who,
        author: format!("author, {}", number % 10),
        kind: Kind::Text,
        text: Some(format!("{awkward} {number}")),
        reply_to: None,
        bot: None,
        sent_at: Timestamp::now(),
        data: data.map(|data| serde_json::value::RawValue::from_string(data).unwrap()),
    }
}

/// Publishes so many messages of bulk ingest; the last sequence.
pub(crate) async fn publish(nats_url: &str, messages: u64, conversations: u64) -> u64 {
    let subjects = Subjects::new("yalo").unwrap();
    let context = jetstream::new(async_nats::connect(nats_url).await.unwrap());
    let acks = stream::iter(0..messages).map(|number| {
        let place = conversation(number % conversations);
        let payload = wire::encode(&message(number, place, Who::Log));
        let publish = context.publish(subjects.record(place, Who::Log), payload.into());
        async { publish.await.unwrap().await.unwrap().sequence }
    });
    acks.buffered(200).fold(0, async |last, seq| last.max(seq)).await
}

/// Opens the store of a test's deployment beside it.
pub(crate) async fn open_store(path: &Path) -> Store {
    Store::open(&StoreOptions { path: path.to_owned(), readers: 1, read_only: false }).await.unwrap()
}
