//! Lines over HTTP into the stream, beside the same messages published straight: with the same ids and the same window, or
//! as a batch without ids.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer::PullConsumer, context::PublishAckFuture};
use bytes::Bytes;
use futures_util::StreamExt;
use natsbench::cost::{cpu_seconds, peak_mib};
use natsbench::server::Server;
use storebench::messages::{Message, Messages};
use tokio::io::AsyncWriteExt;

use crate::audit::until_acknowledged;
use crate::process::{Launch, Process, free_address};

const TOKEN: &str = "a-token-for-the-service-that-ingests";
/// Publishes in flight, the same as yalo has.
const WINDOW: usize = 512;

/// What is sent.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    pub yalo: PathBuf,
    pub server: PathBuf,
    pub folder: PathBuf,
    pub lines: u64,
    /// `plain`, `gzip` or `zstd`.
    pub form: String,
    /// Whether an auditor stores them meanwhile, and the clock runs until the last one is committed.
    pub stored: bool,
    /// Whether they go as a batch, without ids.
    pub fast: bool,
}

impl IngestOptions {
    fn launch<'a>(&'a self, server: &Server, more: &[String]) -> Result<Launch<'a>> {
        let mut settings = vec![format!("nats.url={}", server.url())];
        settings.extend_from_slice(more);
        let launch = Launch { yalo: &self.yalo, folder: &self.folder, settings };
        launch.finish("init")?;
        Ok(launch)
    }

    /// One that is ready, and the consumer that it shares with nobody.
    async fn auditor(&self, server: &Server) -> Result<(Process, PullConsumer)> {
        let ops = free_address()?;
        let mut auditor = self.launch(server, &[format!("ops.listen={ops}")])?.start("auditor")?;
        auditor.ready(&ops).await?;
        let context = jetstream::new(async_nats::connect(server.url()).await.context("connect to nats")?);
        let consumer = context.get_consumer_from_stream("audit", "YALO_CHAT").await?;
        Ok((auditor, consumer))
    }
}

/// Uploads the lines in one request and prints one line of `key=value`.
pub async fn run(options: &IngestOptions) -> Result<()> {
    let file = options.folder.join("lines");
    let plain = write_lines(&file, options)?;
    let (packed, encoding) = pack(&file, &options.form).await?;
    let server = Server::start(&options.server, &options.folder)?;
    let (listen, ops) = (free_address()?, free_address()?);
    let own = [
        format!("frontend.listen={listen}"),
        format!("ops.listen={ops}"),
        format!("auth.guest_key={}", "0".repeat(64)),
        format!("auth.ingest_token={TOKEN}"),
    ];
    let mut frontend = options.launch(&server, &own)?.start("frontend")?;
    frontend.ready(&ops).await?;
    let mut auditor = if options.stored { Some(options.auditor(&server).await?) } else { None };
    let (cpu, server_cpu) = (cpu_seconds(frontend.pid()), cpu_seconds(server.pid()));
    let start = Instant::now();
    let query = if options.fast { "?source=bench&batch=0198c0de-0000-7000-8000-000000000001" } else { "" };
    let answer = tokio::task::spawn_blocking(move || upload(&listen, query, &packed, encoding)).await??;
    if let Some((auditor, consumer)) = &mut auditor {
        until_acknowledged(consumer, auditor).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let per_line = |seconds: f64| seconds * 1e6 / options.lines as f64;
    let (own_us, server_us) = (cpu_seconds(frontend.pid()) - cpu, cpu_seconds(server.pid()) - server_cpu);
    let accepted = answer["accepted"].as_u64();
    ensure!(accepted == Some(options.lines), "{answer}");
    println!(
        "ingest form={} fast={} stored={} n={} mib={:.0} seconds={seconds:.2} lines_per_second={:.0} frontend_cpu_us={:.1} \
         server_cpu_us={:.1} frontend_peak_mib={:.0} server_peak_mib={:.0}",
        options.form,
        u8::from(options.fast),
        u8::from(options.stored),
        options.lines,
        plain as f64 / 1_048_576.0,
        options.lines as f64 / seconds,
        per_line(own_us),
        per_line(server_us),
        peak_mib(frontend.pid()),
        peak_mib(server.pid()),
    );
    if let Some((auditor, _)) = auditor {
        println!("auditor peak_mib={:.0}", peak_mib(auditor.pid()));
        auditor.stop().await?;
        let (stored, _) = storebench::sqlite::count(&options.folder.join("messages.db"))?;
        ensure!(u64::try_from(stored)? == options.lines, "{stored} rows are stored");
    }
    frontend.stop().await
}

/// Publishes the same messages straight, as a log, and prints one line of `key=value`.
pub async fn publish(options: &IngestOptions, ids: bool) -> Result<()> {
    let server = Server::start_plain(&options.server, &options.folder)?;
    options.launch(&server, &[])?;
    let client = async_nats::connect(server.url()).await.context("connect to nats")?;
    // Made before the clock runs: what is measured is publishing.
    let messages: Vec<Log> = Messages::default().take(usize::try_from(options.lines)?).map(log).collect();
    let (cpu, server_cpu) = (cpu_seconds(std::process::id()), cpu_seconds(server.pid()));
    let start = Instant::now();
    if options.fast {
        batch(&client, messages).await?;
    } else {
        windowed(client, messages, ids).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let per_line = |seconds: f64| seconds * 1e6 / options.lines as f64;
    println!(
        "publish fast={} ids={} n={} seconds={seconds:.2} lines_per_second={:.0} client_cpu_us={:.1} server_cpu_us={:.1} \
         server_peak_mib={:.0}",
        u8::from(options.fast),
        u8::from(ids && !options.fast),
        options.lines,
        options.lines as f64 / seconds,
        per_line(cpu_seconds(std::process::id()) - cpu),
        per_line(cpu_seconds(server.pid()) - server_cpu),
        peak_mib(server.pid()),
    );
    Ok(())
}

/// Each acknowledged by itself, with ids or without.
async fn windowed(client: async_nats::Client, messages: Vec<Log>, ids: bool) -> Result<()> {
    let context = jetstream::ContextBuilder::new().max_ack_inflight(WINDOW).build(client);
    let mut acks = std::collections::VecDeque::<PublishAckFuture>::with_capacity(WINDOW);
    for (subject, id, payload) in messages {
        if acks.len() >= WINDOW
            && let Some(ack) = acks.pop_front()
        {
            ack.await?;
        }
        let ack = if ids {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", id.as_str());
            context.publish_with_headers(subject, headers, payload).await?
        } else {
            context.publish(subject, payload).await?
        };
        acks.push_back(ack);
    }
    for ack in acks {
        ack.await?;
    }
    Ok(())
}

/// One batch (fast ingest, ADR-50): the server acknowledges each 500, and twice as many are in flight.
async fn batch(client: &async_nats::Client, messages: Vec<Log>) -> Result<()> {
    const FLOW: u64 = 500;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(format!("{inbox}.>")).await?;
    let (last, mut acknowledged) = (messages.len() as u64, None);
    for (number, (subject, _, payload)) in (1..).zip(messages) {
        let operation = if number == 1 {
            0
        } else if number == last {
            2
        } else {
            1
        };
        let reply = format!("{inbox}.batch.{FLOW}.fail.{number}.{operation}.$FI");
        client.publish_with_reply(subject, reply, payload).await?;
        // The last word is that of a publish.
        let has_room = |acknowledged: Option<u64>| acknowledged.is_some_and(|seq| number < seq + 2 * FLOW);
        while number == last || !has_room(acknowledged) {
            let answer = answers.next().await.context("the connection closed")?;
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
            match answer["type"].as_str() {
                Some("ack") => acknowledged = answer["seq"].as_u64(),
                None if answer["count"] == last => return Ok(()),
                _ => bail!("{answer}"),
            }
        }
    }
    bail!("no message")
}

/// The subject, the id and the payload of a message of the log, as yalo publishes them.
type Log = (String, String, Bytes);

fn log(message: Message) -> Log {
    let Message { subject, payload, who, .. } = message;
    let mut tokens = subject.split('.').skip(2);
    let (partition, conversation) = (tokens.next().unwrap_or_default(), tokens.next().unwrap_or_default());
    let side = if who == 1 { "bot" } else { "user" };
    let payload = String::from_utf8(payload).unwrap_or_default();
    let id = payload.get(13..49).unwrap_or_default().to_owned();
    let payload = payload.replacen(&format!("\"who\":\"{side}\""), "\"who\":\"log\"", 1);
    let payload = format!("{},\"side\":\"{side}\"}}", payload.trim_end_matches('}'));
    (format!("yalo.log.{partition}.{conversation}"), format!("{conversation}/{id}"), Bytes::from(payload))
}

/// How many bytes they have.
fn write_lines(file: &Path, options: &IngestOptions) -> Result<u64> {
    let mut out = BufWriter::new(File::create(file).context("make the file of lines")?);
    let mut bytes = 0;
    for Message { mut payload, .. } in Messages::default().take(usize::try_from(options.lines)?) {
        if options.fast {
            // Its id, which a line of a batch has not.
            payload.drain(7..51);
        }
        out.write_all(&payload)?;
        out.write_all(b"\n")?;
        bytes += payload.len() as u64 + 1;
    }
    out.flush()?;
    Ok(bytes)
}

async fn pack(file: &Path, form: &str) -> Result<(PathBuf, &'static str)> {
    let packed = file.with_extension(form);
    let mut reader = tokio::fs::File::open(file).await?;
    match form {
        "gzip" => {
            let mut out = GzipEncoder::new(tokio::fs::File::create(&packed).await?);
            tokio::io::copy(&mut reader, &mut out).await?;
            out.shutdown().await?;
            Ok((packed, "gzip"))
        }
        "zstd" => {
            let mut out = ZstdEncoder::new(tokio::fs::File::create(&packed).await?);
            tokio::io::copy(&mut reader, &mut out).await?;
            out.shutdown().await?;
            Ok((packed, "zstd"))
        }
        _ => Ok((file.to_owned(), "identity")),
    }
}

/// One request with the whole file as its body, written as fast as it is taken.
fn upload(address: &str, query: &str, file: &Path, encoding: &str) -> Result<serde_json::Value> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    let mut socket = TcpStream::connect(address).context("connect to the frontend")?;
    let head = format!(
        "POST /v1/ingest{query} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\ncontent-encoding: {encoding}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes())?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        socket.write_all(&buffer[..read])?;
    }
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).context("no answer")?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).with_context(|| format!("read {body:?}"))
}
