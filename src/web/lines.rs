//! Lines of any stream of bytes, one after the other, in memory that does not grow: a line that is too long is told of
//! and passed over, not kept.

use std::io;
use std::ops::Range;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its bytes.
    Whole(&'a [u8]),
    /// It has more bytes than are taken.
    TooLong,
}

/// Reads lines: take those that are there with [`Lines::take`] until none is left, then [`Lines::fill`].
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// What has been read and not handed out.
    filled: Range<usize>,
    /// Up to here there is no end of a line.
    searched: usize,
    most: usize,
    /// Within a line that is too long.
    skipping: bool,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `most` bytes.
    pub fn new(reader: R, most: usize) -> Self {
        let buffer = vec![0; most + CHUNK];
        Self { reader, buffer, filled: 0..0, searched: 0, most, skipping: false, ended: false }
    }

    /// The next line that has been read whole. The last one needs no end.
    pub fn take(&mut self) -> Option<Line<'_>> {
        let found = memchr::memchr(b'\n', self.buffer.get(self.searched..self.filled.end)?);
        let line = match found {
            Some(at) => {
                let line = self.filled.start..self.searched + at;
                self.filled.start = line.end + 1;
                line
            }
            None if self.ended && (self.skipping || !self.filled.is_empty()) => {
                let line = self.filled.clone();
                self.filled.start = line.end;
                line
            }
            None => {
                self.searched = self.filled.end;
                if self.filled.len() > self.most {
                    self.skipping = true;
                    self.filled.start = self.filled.end;
                }
                return None;
            }
        };
        self.searched = self.filled.start;
        if std::mem::take(&mut self.skipping) || line.len() > self.most {
            return Some(Line::TooLong);
        }
        let line = self.buffer.get(line)?;
        Some(Line::Whole(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Reads more; `false` at the end. What was read stays good if this is dropped halfway.
    pub async fn fill(&mut self) -> io::Result<bool> {
        if self.filled.start > 0 {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.searched -= self.filled.start;
            self.filled = 0..self.filled.len();
        }
        let room = self.buffer.get_mut(self.filled.end..).unwrap_or_default();
        let read = self.reader.read(room).await?;
        self.filled.end += read;
        self.ended = read == 0;
        Ok(!self.ended)
    }

    /// What is read from; for what is left when nothing more is wanted.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of `text`, read in pieces of `piece` bytes.
    async fn lines_of(text: &[u8], piece: usize, most: usize) -> Vec<Option<Vec<u8>>> {
        let pieces: Vec<io::Result<bytes::Bytes>> =
            text.chunks(piece).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
        let mut lines = Lines::new(tokio_util::io::StreamReader::new(futures_util::stream::iter(pieces)), most);
        let mut found = Vec::new();
        loop {
            while let Some(line) = lines.take() {
                found.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            }
            if !lines.fill().await.unwrap() {
                found.extend(lines.take().map(|line| match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                }));
                assert_eq!(lines.take(), None);
                return found;
            }
        }
    }

    fn some(lines: &[&str]) -> Vec<Option<Vec<u8>>> {
        lines.iter().map(|line| Some(line.as_bytes().to_vec())).collect()
    }

    #[tokio::test]
    async fn lines_come_out_whole_however_they_came_in() {
        for piece in [1, 2, 3, 7, 100] {
            assert_eq!(lines_of(b"one\n\ntwo\r\nthree", piece, 10).await, some(&["one", "", "two", "three"]));
            assert_eq!(lines_of(b"one\n", piece, 10).await, some(&["one"]));
            assert_eq!(lines_of(b"", piece, 10).await, some(&[]));
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over_and_the_next_one_is_whole() {
        for piece in [1, 5, 4096, CHUNK * 4] {
            let long = [b"short\n".to_vec(), vec![b'x'; CHUNK * 3], b"\nagain\n".to_vec()].concat();
            let found = lines_of(&long, piece, 10).await;
            assert_eq!(found, [some(&["short"]), vec![None], some(&["again"])].concat());
            let unended = lines_of(&[b'x'; 11], piece, 10).await;
            assert_eq!(unended, [None]);
            assert_eq!(lines_of(b"0123456789\n", piece, 10).await, some(&["0123456789"]));
        }
    }

    #[tokio::test]
    async fn the_buffer_never_grows() {
        let long = vec![b'x'; 1 << 20];
        let mut lines = Lines::new(&long[..], 1000);
        while lines.fill().await.unwrap() {
            assert_eq!(lines.take(), None);
            assert_eq!(lines.buffer.len(), 1000 + CHUNK);
        }
        assert_eq!(lines.take(), Some(Line::TooLong));
    }
}
