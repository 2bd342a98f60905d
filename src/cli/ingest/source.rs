//! Where the lines come from: a file or standard input, plain or packed, cut into chunks of whole lines.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::domain::limits::LINE_BYTES;
use crate::web::inflate::Packing;
use crate::web::lines::{Line, Lines};

/// A chunk of a log has at most so many bytes: what a broken connection costs. A frontend searches the record for no more.
const LOG_CHUNK: usize = 4 << 20;
/// Questions take longer, a conversation's first one above all.
const USER_CHUNK: usize = 256 << 10;
/// A chunk is cut behind the line that makes it long enough.
pub(super) const LONGEST_CHUNK: usize = LOG_CHUNK + LINE_BYTES + 1;
/// A pipe that gives little is not waited for longer than this.
const CHUNK_TIME: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 256 * 1024;

/// Whole lines, one after the other.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// The number of the first line.
    pub(super) first_line: u64,
    /// How many lines.
    pub(super) lines: u64,
    pub(super) bytes: Vec<u8>,
    /// Lines that are too long for any frontend; an empty line stands in their place.
    pub(super) too_long: Vec<u64>,
}

impl Chunk {
    /// Leaves out the lines before this one.
    pub(super) fn cut(&mut self, first_line: u64) {
        let gone = first_line.saturating_sub(self.first_line);
        let mut ends = memchr::memchr_iter(b'\n', &self.bytes).map(|at| at + 1);
        let start = match usize::try_from(gone) {
            Ok(0) => 0,
            Ok(gone) => ends.nth(gone - 1).unwrap_or(self.bytes.len()),
            Err(_) => self.bytes.len(),
        };
        self.bytes.drain(..start);
        self.first_line = first_line;
        self.lines = self.lines.saturating_sub(gone);
    }
}

/// An opened source.
pub(super) struct Source {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    bytes: Option<u64>,
    read: Arc<AtomicU64>,
    first: Arc<OnceLock<String>>,
    lock: Option<File>,
}

impl Source {
    /// Refuses a file that another run is at: one of the two would send again what the other has sent.
    pub(super) async fn file(path: &Path) -> io::Result<Self> {
        let file = tokio::fs::File::open(path).await?.into_std().await;
        // Where files have no locks (NFS, for one that is only read), there are none.
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another run of `yalo ingest` is at it"));
        }
        let (bytes, lock) = (file.metadata()?.len(), file.try_clone()?);
        let source = Self::of(tokio::fs::File::from_std(file), Some(bytes)).await?;
        Ok(Self { lock: Some(lock), ..source })
    }

    pub(super) async fn stdin() -> io::Result<Self> {
        Self::of(tokio::io::stdin(), None).await
    }

    async fn of(reader: impl AsyncRead + Send + Unpin + 'static, bytes: Option<u64>) -> io::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { reader, read: Arc::clone(&read) };
        let mut buffered = BufReader::with_capacity(READ_BYTES, counted);
        let packing = Packing::of_magic(buffered.fill_buf().await?);
        Ok(Self { reader: packing.unpack(buffered), bytes, read, first: Arc::default(), lock: None })
    }

    /// What keeps other runs from the file, as long as it is held.
    pub(super) fn lock(&mut self) -> Option<File> {
        self.lock.take()
    }

    /// How long it is, if anybody knows.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// How much of it has been read, for the progress.
    pub(super) fn read_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    /// SHA-256 of the first line, in base64, as soon as it has been read: before the first chunk.
    pub(super) fn first(&self) -> Arc<OnceLock<String>> {
        Arc::clone(&self.first)
    }

    /// Sends the lines from `from_line` on as chunks, until all is read or nobody takes them any more; gives the number of
    /// lines. What was read before an error is sent too.
    pub(super) async fn read(self, from_line: u64, as_user: bool, chunks: mpsc::Sender<Chunk>) -> io::Result<u64> {
        let chunk_bytes = if as_user { USER_CHUNK } else { LOG_CHUNK };
        let mut lines = Lines::new(self.reader, LINE_BYTES);
        let mut number = 1;
        let mut chunk = Chunk { first_line: from_line, ..Chunk::default() };
        let mut due = None;
        loop {
            while let Some(line) = lines.take() {
                if number == 1 {
                    self.first.get_or_init(|| digest(&line));
                }
                if number >= from_line {
                    due.get_or_insert_with(|| Instant::now() + CHUNK_TIME);
                    match line {
                        Line::Whole(line) => chunk.bytes.extend_from_slice(line),
                        Line::TooLong => chunk.too_long.push(number),
                    }
                    chunk.bytes.push(b'\n');
                    chunk.lines += 1;
                }
                number += 1;
                if chunk.bytes.len() >= chunk_bytes {
                    due = None;
                    let next = Chunk { first_line: number, ..Chunk::default() };
                    if chunks.send(std::mem::replace(&mut chunk, next)).await.is_err() {
                        return Ok(number - 1);
                    }
                }
            }
            let more = match due {
                Some(due) => timeout_at(due, lines.fill()).await,
                None => Ok(lines.fill().await),
            };
            match more {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => break,
                Ok(Err(error)) => {
                    if chunk.lines > 0 {
                        chunks.send(chunk).await.ok();
                    }
                    return Err(error);
                }
                Err(_) => {
                    due = None;
                    let next = Chunk { first_line: number, ..Chunk::default() };
                    if chunks.send(std::mem::replace(&mut chunk, next)).await.is_err() {
                        return Ok(number - 1);
                    }
                }
            }
        }
        if let Some(line) = lines.take() {
            if number == 1 {
                self.first.get_or_init(|| digest(&line));
            }
            if number >= from_line {
                match line {
                    Line::Whole(line) => chunk.bytes.extend_from_slice(line),
                    Line::TooLong => chunk.too_long.push(number),
                }
                chunk.lines += 1;
            }
            number += 1;
        }
        if chunk.lines > 0 {
            chunks.send(chunk).await.ok();
        }
        Ok(number - 1)
    }
}

fn digest(line: &Line<'_>) -> String {
    let bytes = if let Line::Whole(bytes) = line { bytes } else { &b"too long"[..] };
    STANDARD.encode(Sha256::digest(bytes))
}

/// The name of a file's lines: the same file on the same machine has the same. A pipe is always another one.
pub(super) fn name(file: &Path) -> String {
    if file.as_os_str() == "-" {
        return of_run("pipe");
    }
    let path = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let machine = rustix::system::uname();
    let whole = format!("{}:{}", machine.nodename().to_string_lossy(), path.display());
    // A long path is told apart by its end.
    let start = whole.char_indices().map(|(start, _)| start).find(|start| whole.len() - start <= 512);
    whole.get(start.unwrap_or_default()..).unwrap_or_default().to_owned()
}

/// A name that no other run has.
pub(super) fn of_run(kind: &str) -> String {
    format!("{kind} {}", uuid::Uuid::now_v7())
}

/// Counts what goes through.
struct Counted<R> {
    reader: R,
    read: Arc<AtomicU64>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.reader).poll_read(context, buffer);
        let read = u64::try_from(buffer.filled().len() - before).unwrap_or(0);
        self.read.fetch_add(read, Ordering::Relaxed);
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn chunks_of(text: Vec<u8>, from_line: u64) -> Vec<Chunk> {
        let (chunks, read) = read(text, from_line).await;
        read.unwrap();
        chunks
    }

    async fn read(bytes: Vec<u8>, from_line: u64) -> (Vec<Chunk>, io::Result<u64>) {
        let source = Source::of(io::Cursor::new(bytes), None).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let reading = source.read(from_line, false, sender);
        let taking = async {
            let mut chunks = Vec::new();
            while let Some(chunk) = receiver.recv().await {
                chunks.push(chunk);
            }
            chunks
        };
        let (read, chunks) = tokio::join!(reading, taking);
        (chunks, read)
    }

    #[tokio::test]
    async fn chunks_hold_whole_lines_and_know_their_numbers() {
        let line = format!("{}\n", "x".repeat(999));
        let chunks = chunks_of(line.repeat(10_000).into_bytes(), 1).await;
        let mut next = 1;
        for chunk in &chunks {
            assert_eq!((chunk.first_line, chunk.bytes.len() as u64), (next, chunk.lines * 1000));
            assert!(chunk.bytes.len() <= LOG_CHUNK + 1000);
            next += chunk.lines;
        }
        assert_eq!((next, chunks.len()), (10_001, 3));
    }

    #[tokio::test]
    async fn the_first_lines_are_passed_over_and_the_last_needs_no_end() {
        let chunks = chunks_of(b"one\ntwo\n\nfour\nfive".to_vec(), 3).await;
        assert_eq!((chunks.len(), chunks[0].first_line, chunks[0].lines), (1, 3, 3));
        assert_eq!(chunks[0].bytes, b"\nfour\nfive");
        assert!(chunks_of(b"one\n".to_vec(), 2).await.is_empty());
        assert_eq!(read(b"one\ntwo\n\nfour\nfive".to_vec(), 9).await.1.unwrap(), 5);
    }

    #[tokio::test]
    async fn what_stands_before_a_tear_is_given_out() {
        let mut gzip = async_compression::tokio::write::GzipEncoder::new(Vec::new());
        // So much that the first lines come out before the tear.
        let lines: Vec<String> = (0..100_000).map(|number| format!("{{\"number\":{number}}}\n")).collect();
        let text = lines.concat();
        gzip.write_all(text.as_bytes()).await.unwrap();
        gzip.shutdown().await.unwrap();
        let mut torn = gzip.into_inner();
        torn.truncate(torn.len() / 2);
        let (chunks, read) = read(torn, 1).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let given: u64 = chunks.iter().map(|chunk| chunk.lines).sum();
        assert!(given > 10_000, "{given}");
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_leaves_an_empty_one_in_its_place() {
        let text = [b"one\n".to_vec(), vec![b'x'; LINE_BYTES * 2], b"\nthree\n".to_vec()].concat();
        let chunks = chunks_of(text, 1).await;
        assert_eq!((&chunks[0].bytes[..], &chunks[0].too_long[..]), (&b"one\n\nthree\n"[..], &[2][..]));
    }

    #[test]
    fn the_rest_of_a_chunk_begins_with_the_line_to_go_on_with() {
        let chunk = || Chunk { first_line: 11, lines: 3, bytes: b"one\n\nthree".to_vec(), too_long: Vec::new() };
        for (line, left) in [(11, &b"one\n\nthree"[..]), (12, b"\nthree"), (13, b"three"), (14, b"")] {
            let mut chunk = chunk();
            chunk.cut(line);
            assert_eq!((&chunk.bytes[..], chunk.first_line, chunk.lines), (left, line, 14 - line));
        }
    }
}
