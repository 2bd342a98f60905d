//! The digest of one record: alteration of any of its four parts shows.

use sha2::{Digest, Sha256};

use crate::domain::Timestamp;

/// SHA-256 over subject, NUL, sequence and time as big-endian 64-bit numbers, and the payload. A subject cannot hold a
/// NUL, so no two different records feed the same bytes.
pub fn digest(subject: &str, seq: u64, at: Timestamp, payload: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(subject.as_bytes());
    hasher.update([0]);
    hasher.update(seq.to_be_bytes());
    hasher.update(at.ns().to_be_bytes());
    hasher.update(payload);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_record_changes_its_digest() {
        let at = Timestamp::from_ns(7);
        let base = digest("a.b", 1, at, b"x");
        assert_ne!(base, digest("a.c", 1, at, b"x"));
        assert_ne!(base, digest("a.b", 2, at, b"x"));
        assert_ne!(base, digest("a.b", 1, Timestamp::from_ns(8), b"x"));
        assert_ne!(base, digest("a.b", 1, at, b"y"));
    }
}
