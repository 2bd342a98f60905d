//! A record that was not talked: many messages at once, into a stream or straight into a store.

use std::path::Path;

use async_nats::jetstream::{self, consumer::PullConsumer};
use futures_util::{StreamExt, stream};
use yalo::domain::{ConversationId, Kind, Message, MessageId, ReplyTo, Row, Timestamp, Who};
use yalo::store::{Contract, SqliteOptions, Store, StoreOptions};
use yalo::wire::{self, Subjects};

use super::{PATIENCE, eventually};

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
        side: (who == Who::Log).then(|| Who::ALL[usize::try_from(number / 5 % 4).unwrap()]),
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

/// Waits until auditors have acknowledged everything up to `last`.
pub(crate) async fn acknowledged(nats_url: &str, last: u64) {
    let context = jetstream::new(async_nats::connect(nats_url).await.unwrap());
    let stream = context.get_stream("YALO_CHAT").await.unwrap();
    eventually(PATIENCE, "everything acknowledged", async || {
        let consumer: PullConsumer = stream.get_consumer("audit").await.unwrap();
        (consumer.cached_info().ack_floor.stream_sequence >= last).then_some(())
    })
    .await;
}

/// Opens the store of a test's deployment beside it.
pub(crate) async fn open_store(path: &Path) -> Store {
    let options = SqliteOptions { path: path.to_owned(), readers: 1, read_only: false };
    Store::open(&StoreOptions::Sqlite(options)).await.unwrap()
}
/// A row as an auditor would make it.
pub(crate) fn row(seq: u64, at: Timestamp, message: &Message) -> Row {
    let payload = wire::encode(message);
    let subject = Subjects::new("yalo").unwrap().record(message.conversation, message.who);
    Row {
        seq,
        at,
        conversation: Some(message.conversation),
        id: Some(message.id),
        who: Some(message.who),
        kind: Some(message.kind),
        author: Some(message.author.clone()),
        subject: None,
        digest: wire::digest(&subject, seq, at, &payload),
        payload: payload.into(),
    }
}

/// A record of so many rows: conversations that ada and bob opened, messages of every side, records of silence, and what
/// could not be decoded.
pub(crate) fn made(rows: u64) -> Vec<Row> {
    made_long(rows, 0)
}

/// The same of longer texts: of so many words more.
pub(crate) fn made_long(rows: u64, words: usize) -> Vec<Row> {
    const START_MS: u64 = 1_764_000_000_000;
    let made = |seq: u64| {
        let place = conversation(seq % CONVERSATIONS);
        // The clock steps back now and then.
        let at = Timestamp::from_ms(START_MS + seq * 10 - if seq % 500 < 3 { 35 } else { 0 });
        let mut message = message(seq, place, Who::ALL[usize::try_from(seq % 5).unwrap()]);
        message.text = message.text.map(|text| text + &" word".repeat(words));
        if seq <= CONVERSATIONS {
            (message.who, message.kind, message.text, message.side) = (Who::Meta, Kind::Opened, None, None);
            OWNERS[usize::try_from(seq % 2).unwrap()].clone_into(&mut message.author);
        } else if seq.is_multiple_of(50) {
            (message.who, message.kind, message.text, message.side) = (Who::Bot, Kind::None, None, None);
            message.reply_to = Some(ReplyTo { id: message.id, seq: seq - 1 });
        } else if seq.is_multiple_of(77) {
            let (subject, payload) = ("yalo.chat.x.y", &[0xff, 0, b'\n'][..]);
            return Row {
                conversation: None,
                id: None,
                who: None,
                kind: None,
                author: None,
                subject: Some(subject.to_owned()),
                payload: payload.into(),
                digest: wire::digest(subject, seq, at, payload),
                ..row(seq, at, &message)
            };
        }
        row(seq, at, &message)
    };
    (1..=rows).map(made).collect()
}

/// The conversations of a made record; the first owner has those with an even number.
pub(crate) const CONVERSATIONS: u64 = 20;
/// Who opened them.
pub(crate) const OWNERS: [&str; 2] = ["ada", "bob"];

/// Writes rows and waits until they are durable.
pub(crate) async fn store(store: &Store, rows: &[Row]) {
    for rows in rows.chunks(5000) {
        assert_eq!(store.record(rows.to_vec()).await.unwrap().written, rows.len());
    }
}
