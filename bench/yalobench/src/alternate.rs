//! Two that store the same stream at the same time, a second at a time while the other one stands still: what the machine and
//! the database do meanwhile, their pauses and slow minutes, befalls both alike.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt;
use tokio::time::sleep;

use crate::process::Process;

/// How long one works while the other stands still.
const TURN: Duration = Duration::from_secs(1);
/// Nobody stores so many messages in a turn.
const MOST_OF_A_TURN: u64 = 200_000;
/// The requests of who stands still are answered by then: some hundred.
const ANSWERS: Duration = Duration::from_millis(10);

/// Somebody who stores a stream in turns.
pub struct Writer {
    pub process: Process,
    /// Of the stream. Without it, it ends by itself as soon as everything is stored.
    consumer: Option<PullConsumer>,
    /// Not yet delivered when somebody looked last.
    left: u64,
    is_done: bool,
    /// Of its own turns, as the next.
    pub seconds: f64,
    /// CPU seconds of the servers.
    pub servers: [f64; 2],
}

impl Writer {
    /// One that has just begun; stands still from now on.
    pub fn new(process: Process, consumer: Option<PullConsumer>) -> Result<Self> {
        process.freeze()?;
        Ok(Self { process, consumer, left: 0, is_done: false, seconds: 0.0, servers: [0.0; 2] })
    }

    /// One turn, unless everything is stored.
    async fn take_one(&mut self, servers: &impl Fn() -> [f64; 2]) -> Result<()> {
        if self.is_done {
            return Ok(());
        }
        if let Some(consumer) = &mut self.consumer {
            self.left = consumer.info().await?.num_pending;
        }
        let (start, before) = (Instant::now(), servers());
        self.process.thaw()?;
        while !self.is_done && start.elapsed() < TURN {
            sleep(Duration::from_millis(20)).await;
            self.is_done = self.has_stored().await?;
        }
        self.seconds += start.elapsed().as_secs_f64();
        if !self.is_done {
            self.process.freeze()?;
        }
        sleep(ANSWERS).await;
        for (cpu, (before, after)) in self.servers.iter_mut().zip(before.into_iter().zip(servers())) {
            *cpu += after - before;
        }
        Ok(())
    }

    async fn has_stored(&mut self) -> Result<bool> {
        let Some(consumer) = &mut self.consumer else { return self.process.has_ended() };
        self.process.check()?;
        // The nats-server is not asked for nothing, as that would cost it something in these turns only.
        if self.left > MOST_OF_A_TURN {
            return Ok(false);
        }
        let info = consumer.info().await?;
        self.left = info.num_pending;
        Ok(info.num_pending == 0 && info.num_ack_pending == 0)
    }
}

/// Has them take turns until both have stored everything.
pub async fn take([first, second]: [&mut Writer; 2], servers: impl Fn() -> [f64; 2], limit: Duration) -> Result<()> {
    let start = Instant::now();
    while !(first.is_done && second.is_done) {
        ensure!(start.elapsed() < limit, "not everything was stored within {} s", limit.as_secs());
        first.take_one(&servers).await.context("the turn of who was first")?;
        second.take_one(&servers).await.context("the turn of who was second")?;
    }
    Ok(())
}

/// The consumer that somebody adds to those that are known, as soon as it is there.
pub async fn until_added(stream: &Stream, known: &[String], process: &mut Process) -> Result<PullConsumer> {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        let mut names = stream.consumer_names();
        while let Some(name) = names.try_next().await? {
            if !known.contains(&name) {
                return stream.get_consumer(&name).await.map_err(anyhow::Error::from_boxed);
            }
        }
        process.check()?;
        sleep(Duration::from_millis(2)).await;
    }
    bail!("{} did not ask the stream for messages within 30 s", process.name)
}
