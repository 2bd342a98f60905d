//! Stream to store: a stream full of messages, a real auditor that stores them, and the proof that it did.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::{
    self,
    consumer::{Consumer, IntoConsumerConfig, PullConsumer},
};
use bytes::Bytes;
use natsbench::cost::{cpu_seconds, peak_mib};
use natsbench::server::Server;
use storebench::{
    messages::{Message, Messages},
    sqlite,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::process::{Launch, Process};

/// What is stored.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    pub yalo: PathBuf,
    pub server: PathBuf,
    pub folder: PathBuf,
    pub messages: u64,
    /// Rows of one write, `auditor.flush_rows`.
    pub batch: u64,
    /// Auditors of one process.
    pub auditors: u64,
}

/// Runs the auditor until nothing is left and prints one line of `key=value`.
pub async fn run(options: &AuditOptions) -> Result<()> {
    let server = Server::start(&options.server, &options.folder)?;
    let launch = Launch {
        yalo: &options.yalo,
        folder: &options.folder,
        settings: vec![
            format!("nats.url={}", server.url()),
            format!("auditor.flush_rows={}", options.batch),
            "ops.listen=127.0.0.1:0".to_owned(),
        ],
    };
    launch.finish("init")?;
    let client = async_nats::connect(server.url()).await.context("connect to nats")?;
    let context = jetstream::new(client);
    fill(&context, Messages::default().take(usize::try_from(options.messages)?)).await.context("fill the stream")?;
    let mut consumer: PullConsumer = context.get_consumer_from_stream("audit", "YALO_CHAT").await?;

    let (start, server_cpu) = (Instant::now(), cpu_seconds(server.pid()));
    let mut auditor = launch.auditors(options.auditors)?;
    until_acknowledged(&mut consumer, &mut auditor).await?;
    let seconds = start.elapsed().as_secs_f64();
    let per_row = |seconds: f64| seconds * 1e6 / options.messages as f64;
    let auditor_us = per_row(cpu_seconds(auditor.pid()));
    let server_us = per_row(cpu_seconds(server.pid()) - server_cpu);
    let peak = peak_mib(auditor.pid());
    auditor.stop().await?;
    ensure_stored(&options.folder, options.messages)?;
    let start = Instant::now();
    launch.finish("audit verify")?;
    let proving = start.elapsed().as_secs_f64();
    println!(
        "audit n={} batch={} auditors={} seconds={seconds:.1} rows_per_second={:.0} auditor_cpu_us={auditor_us:.1} \
         server_cpu_us={server_us:.1} auditor_peak_mib={peak:.0} server_peak_mib={:.0} proved_per_second={:.0}",
        options.messages,
        options.batch,
        options.auditors,
        options.messages as f64 / seconds,
        peak_mib(server.pid()),
        options.messages as f64 / proving,
    );
    Ok(())
}

/// Waits until the first message is under way to the auditor: it has started, and is connected.
pub async fn until_begun(consumer: &mut Consumer<impl IntoConsumerConfig>, auditor: &mut Process) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if consumer.info().await?.delivered.consumer_sequence > 0 {
            return Ok(());
        }
        auditor.check()?;
        sleep(Duration::from_millis(2)).await;
    }
    bail!("nobody asked the stream for messages within 30 s")
}

/// Waits until the auditor has acknowledged whatever the stream holds.
pub async fn until_acknowledged(consumer: &mut Consumer<impl IntoConsumerConfig>, auditor: &mut Process) -> Result<()> {
    loop {
        let info = consumer.info().await?;
        if info.num_pending == 0 && info.num_ack_pending == 0 {
            return Ok(());
        }
        auditor.check()?;
        sleep(Duration::from_millis(20)).await;
    }
}

fn ensure_stored(folder: &Path, messages: u64) -> Result<()> {
    let (stored, _) = sqlite::count(&folder.join("messages.db"))?;
    ensure!(stored == i64::try_from(messages)?, "{stored} rows are stored instead of {messages}");
    Ok(())
}

/// Publishes the messages, with a window of unacknowledged ones.
pub async fn fill(context: &jetstream::Context, messages: impl Iterator<Item = Message>) -> Result<()> {
    let mut acks = JoinSet::new();
    for message in messages {
        let ack = context.publish(message.subject, Bytes::from(message.payload)).await?;
        acks.spawn(async move { ack.await.map(drop) });
        if acks.len() >= 1000
            && let Some(done) = acks.join_next().await
        {
            done??;
        }
    }
    while let Some(done) = acks.join_next().await {
        done??;
    }
    Ok(())
}
