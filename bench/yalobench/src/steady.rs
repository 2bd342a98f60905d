//! From the stream to the commit at an even pace: what every acknowledgement of an auditor tells, heard beside it.
//!
//! An auditor, and the floor, acknowledges after the commit, on a subject that names the stream's time of the message. So
//! this is exact, a little more than the time to the commit, and knows nothing of yalo.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use async_nats::{Subscriber, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use natsbench::pace::pace;
use storebench::messages::Message;
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

/// A stream, its publisher, and who hears what is acknowledged in it.
pub struct Pace {
    context: jetstream::Context,
    acks: Subscriber,
}

impl Pace {
    /// Of the server at this address.
    pub async fn open(url: &str) -> Result<Self> {
        let client = async_nats::connect(url).await.context("connect to nats")?;
        let acks = client.subscribe("$JS.ACK.YALO_CHAT.>").await?;
        client.flush().await?;
        Ok(Self { context: jetstream::new(client), acks })
    }

    /// Publishes messages at `rate` a second and waits until all are acknowledged; their latencies in microseconds.
    pub async fn keep(&mut self, rate: u64, messages: impl Iterator<Item = Message>) -> Result<Vec<u64>> {
        let messages: Vec<Message> = messages.collect();
        let (context, heard) = (&self.context, &mut self.acks);
        let expected = messages.len();
        let hearing = async move {
            let mut latencies = Vec::with_capacity(expected);
            while latencies.len() < expected {
                let ack =
                    timeout(Duration::from_secs(30), heard.next()).await.context("an acknowledgement within 30 s")?;
                let ack = ack.context("the subscription ended")?;
                latencies.push(since_stored(&ack.subject)?);
            }
            anyhow::Ok(latencies)
        };
        let publishing = async move {
            let (mut dues, mut acks) = (pace(rate, u64::try_from(expected)?), JoinSet::new());
            let mut made = messages.into_iter();
            while dues.recv().await.is_some() {
                let message = made.next().context("as many as the pace has")?;
                let ack = context.publish(message.subject, Bytes::from(message.payload)).await?;
                acks.spawn(async move { ack.await.map(drop) });
                while let Some(done) = acks.try_join_next() {
                    done??;
                }
            }
            while let Some(done) = acks.join_next().await {
                done??;
            }
            anyhow::Ok(())
        };
        let (latencies, ()) = tokio::try_join!(hearing, publishing)?;
        Ok(latencies)
    }
}

/// `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer's sequence>.<nanoseconds>.<pending>`
fn since_stored(subject: &str) -> Result<u64> {
    let tokens: Vec<&str> = subject.split('.').collect();
    ensure!(tokens.len() == 9, "an acknowledgement of another form: {subject}");
    let stored: u128 = tokens[7].parse()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    Ok(u64::try_from(now.saturating_sub(stored) / 1000)?)
}
