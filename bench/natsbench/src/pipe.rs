//! The floor of a turn: user to bot to user through JetStream, with an auditor beside, and nothing of what yalo adds.
//!
//! A message is published; a bot pulls it, publishes the answer, and acknowledges after the answer's own
//! acknowledgement; the sender hears the answer on a plain subscription; an auditor pulls everything.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cost::{cpu_seconds, peak_mib, quantile};
use crate::pace::pace;
use crate::server::Server;

/// What is sent.
#[derive(Debug, Clone)]
pub struct PipeOptions {
    /// The nats-server.
    pub server: PathBuf,
    /// Folder for its store.
    pub folder: PathBuf,
    /// Turns, and how many of them a second.
    pub turns: u64,
    pub rate: u64,
    /// Turns at the start that do not count.
    pub warm_up: u64,
    /// Bytes of each message.
    pub size: usize,
    /// Subjects that the turns go round.
    pub conversations: u64,
}

/// Runs the turns and prints one line of `key=value`.
pub async fn run(options: PipeOptions) -> Result<()> {
    let server = Server::start_plain(&options.server, &options.folder)?;
    let setup = connect(&server).await?;
    make_stream(&setup).await?;
    let mut tasks = JoinSet::new();
    let audited = Arc::new(AtomicU64::new(0));
    tasks.spawn(answer(connect(&server).await?));
    tasks.spawn(audit(connect(&server).await?, Arc::clone(&audited)));
    let frontend = connect(&server).await?;
    let mut answers = frontend.subscribe("b.out.>").await?;
    frontend.flush().await?;

    let all = options.warm_up + options.turns;
    let start = Instant::now();
    let (own, cpu) = (std::process::id(), cpu_seconds(std::process::id()));
    let server_cpu = cpu_seconds(server.pid());
    tasks.spawn(ask(frontend, options.clone(), start));
    let mut latencies = Vec::with_capacity(usize::try_from(all)?);
    for _ in 0..all {
        let answer = timeout(Duration::from_secs(30), answers.next()).await?.context("the subscription ended")?;
        let sent = u64::from_le_bytes(answer.payload[..8].try_into()?);
        latencies.push(u64::try_from(start.elapsed().as_micros())?.saturating_sub(sent));
    }
    let seconds = start.elapsed().as_secs_f64();
    let per_turn = |seconds: f64| seconds * 1e6 / all as f64;
    let (own_us, server_us) = (per_turn(cpu_seconds(own) - cpu), per_turn(cpu_seconds(server.pid()) - server_cpu));
    let mut counted = latencies.split_off(usize::try_from(options.warm_up)?);
    println!(
        "pipe turns={} seconds={seconds:.1} p50_us={} p99_us={} max_us={} clients_cpu_us={own_us:.0} \
         server_cpu_us={server_us:.0} server_peak_mib={:.0} audited={}",
        options.turns,
        quantile(&mut counted, 0.5),
        quantile(&mut counted, 0.99),
        quantile(&mut counted, 1.0),
        peak_mib(server.pid()),
        audited.load(Ordering::Relaxed),
    );
    Ok(())
}

async fn connect(server: &Server) -> Result<Client> {
    let options = async_nats::ConnectOptions::new().name("natsbench").subscription_capacity(1_000_000);
    options.connect(server.url()).await.context("connect to nats")
}

async fn make_stream(client: &Client) -> Result<()> {
    let config = stream::Config {
        name: "B".into(),
        subjects: vec!["b.>".into()],
        duplicate_window: Duration::from_secs(120),
        allow_direct: true,
        ..Default::default()
    };
    let stream = jetstream::new(client.clone()).create_stream(config).await?;
    for (name, filter, ack_policy) in [("BOT", "b.in.>", AckPolicy::Explicit), ("AUDIT", "b.>", AckPolicy::All)] {
        let config = pull::Config {
            durable_name: Some(name.into()),
            ack_policy,
            filter_subject: filter.into(),
            max_ack_pending: 20_000,
            ..Default::default()
        };
        stream.create_consumer(config).await?;
    }
    Ok(())
}

/// The payload begins with the microseconds between the start and the instant that the turn was due.
async fn ask(client: Client, options: PipeOptions, start: Instant) -> Result<()> {
    let context = jetstream::new(client);
    let mut dues = pace(options.rate, options.warm_up + options.turns);
    let mut acks = JoinSet::new();
    while let Some((number, due)) = dues.recv().await {
        let mut payload = vec![b'x'; options.size.max(8)];
        let sent = u64::try_from(due.saturating_duration_since(start).as_micros())?;
        payload[..8].copy_from_slice(&sent.to_le_bytes());
        let subject = format!("b.in.{}", number % options.conversations);
        let ack = context.publish(subject, Bytes::from(payload)).await?;
        acks.spawn(async move { ack.await.map(drop) });
        while let Some(done) = acks.try_join_next() {
            done??;
        }
    }
    while let Some(done) = acks.join_next().await {
        done??;
    }
    Ok(())
}

async fn answer(client: Client) -> Result<()> {
    let context = jetstream::new(client);
    let consumer: PullConsumer = context.get_consumer_from_stream("BOT", "B").await?;
    let mut questions = consumer.messages().await?;
    let mut pending = JoinSet::new();
    while let Some(question) = questions.next().await {
        let question = question?;
        let subject = question.subject.replace("b.in.", "b.out.");
        let stored = context.publish(subject, question.payload.clone()).await?;
        pending.spawn(async move {
            stored.await?;
            question.ack().await
        });
        while let Some(done) = pending.try_join_next() {
            done?.map_err(|error| anyhow::anyhow!(error))?;
        }
    }
    Ok(())
}

async fn audit(client: Client, audited: Arc<AtomicU64>) -> Result<()> {
    let context = jetstream::new(client);
    let consumer: PullConsumer = context.get_consumer_from_stream("AUDIT", "B").await?;
    let mut messages = consumer.stream().max_messages_per_batch(1000).messages().await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        if audited.fetch_add(1, Ordering::Relaxed) % 500 == 499 {
            message.ack().await.map_err(|error| anyhow::anyhow!(error))?;
        }
    }
    Ok(())
}
