//! The version of a nats-server, as its `--version` and its greeting write it.

use std::fmt;

/// The oldest nats-server that has what yalo relies on: batched direct get and consumers with many filters.
pub const OLDEST: Version = Version { major: 2, minor: 11, patch: 0 };

/// The oldest one that takes batches without ids (fast ingest): an upload that asks for one does not need to be possible.
pub const BATCHES: Version = Version { major: 2, minor: 14, patch: 0 };

/// Major, minor, patch; what stands behind a `-` or `+` is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// Reads `2.15.1`, `v2.9.10` or `2.12.0-RC.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let numbers = text.split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next().unwrap_or(Some(0))? };
        parts.next().is_none().then_some(version)
    }

    /// Reads what `nats-server --version` prints: `nats-server: v2.15.1`.
    pub fn parse_output(output: &str) -> Option<Self> {
        let (_, version) = output.lines().next()?.split_once("nats-server: ")?;
        Self::parse(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number_not_by_text() {
        let of = |text| Version::parse(text).unwrap();
        assert!(of("v2.9.10") < OLDEST);
        assert!(of("2.10.29") < OLDEST);
        assert!(of("2.11.0-preview.2") >= OLDEST);
        assert!(of("2.15.1") > OLDEST && of("3.0") > OLDEST);
        for bad in ["", "v", "2", "two.eleven", "2.11.0.1", "2.x.1"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
        assert_eq!(Version::parse_output("nats-server: v2.15.1\n"), Some(of("2.15.1")));
        assert_eq!(Version::parse_output("something else\n"), None);
    }
}
