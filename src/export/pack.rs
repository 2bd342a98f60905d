//! Packing: a piece of text becomes one whole member of gzip or one whole frame of zstd.

use std::io;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// How the text is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// Not at all.
    #[default]
    None,
    /// As `gzip` does.
    Gzip,
    /// As `zstd` does.
    Zstd,
}

impl Packing {
    /// Back from the word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What a file's name ends with.
    pub fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

/// Work for the processor: not for a thread of the runtime.
pub(super) fn pack(packing: Packing, text: Vec<u8>) -> io::Result<Vec<u8>> {
    match packing {
        Packing::None => Ok(text),
        Packing::Gzip => whole(GzipEncoder::new(Vec::new()), &text).map(GzipEncoder::into_inner),
        Packing::Zstd => whole(ZstdEncoder::new(Vec::new()), &text).map(ZstdEncoder::into_inner),
    }
}

fn whole<E: AsyncWrite + Unpin>(mut encoder: E, text: &[u8]) -> io::Result<E> {
    let writing = async {
        encoder.write_all(text).await?;
        encoder.shutdown().await
    };
    // Memory takes everything at once: there is nothing to wait for.
    writing.now_or_never().unwrap_or_else(|| Err(io::Error::other("memory was not ready")))?;
    Ok(encoder)
}
