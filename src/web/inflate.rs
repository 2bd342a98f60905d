//! Bodies that come packed: gzip and zstd, unpacked as a stream.

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use tokio::io::{AsyncBufRead, AsyncRead};

use super::problem::{ApiError, Code};

/// Largest window of a zstd stream, as a power of two: 8 MiB, what every level up to 19 needs and RFC 8878 asks for.
const WINDOW_LOG: u32 = 23;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// It is not.
    Plain,
    /// gzip, of one or several members.
    Gzip,
    /// zstd, of one or several frames.
    Zstd,
}

impl Packing {
    /// By the `Content-Encoding` of a request.
    pub fn of_header(encoding: Option<&str>) -> Result<Self, ApiError> {
        match encoding.map(|encoding| encoding.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Ok(Self::Plain),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some(_) => Err(ApiError::new(Code::UnsupportedMediaType, "the content encoding is not read here")
                .next("send it as gzip, as zstd, or without content-encoding")),
        }
    }

    /// By the first bytes of a file.
    pub fn of_magic(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// What was packed. A stream that ends too early is an error, and so is one whose check sum is wrong.
    pub fn unpack<'a>(self, packed: impl AsyncBufRead + Send + Unpin + 'a) -> Box<dyn AsyncRead + Send + Unpin + 'a> {
        match self {
            Self::Plain => Box::new(packed),
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(packed);
                decoder.multiple_members(true);
                Box::new(decoder)
            }
            Self::Zstd => {
                let mut decoder = ZstdDecoder::with_params(packed, &[DParameter::window_log_max(WINDOW_LOG)]);
                decoder.multiple_members(true);
                Box::new(decoder)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(text).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    async fn zstd(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZstdEncoder::new(Vec::new());
        encoder.write_all(text).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    #[tokio::test]
    async fn both_packings_come_back_also_in_several_parts() {
        let text = b"one\ntwo\n".repeat(10_000);
        for packed in [gzip(&text).await, zstd(&text).await, text.clone()] {
            let packing = Packing::of_magic(&packed);
            let twice = [packed.clone(), packed].concat();
            let mut back = Vec::new();
            packing.unpack(&twice[..]).read_to_end(&mut back).await.unwrap();
            assert_eq!(back.len(), 2 * text.len(), "{packing:?}");
        }
    }

    #[tokio::test]
    async fn a_torso_is_an_error() {
        let text: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        for packed in [gzip(&text).await, zstd(&text).await] {
            let torso = &packed[..packed.len() / 2];
            let read = Packing::of_magic(torso).unpack(torso).read_to_end(&mut Vec::new()).await;
            assert!(read.is_err(), "{:?}", Packing::of_magic(torso));
        }
    }

    #[test]
    fn an_unknown_encoding_is_refused() {
        assert_eq!(Packing::of_header(Some("GZIP")).unwrap(), Packing::Gzip);
        assert_eq!(Packing::of_header(Some("zstd")).unwrap(), Packing::Zstd);
        assert_eq!(Packing::of_header(None).unwrap(), Packing::Plain);
        assert!(Packing::of_header(Some("br")).is_err());
    }
}
