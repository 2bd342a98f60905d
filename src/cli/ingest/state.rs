//! Where an upload of a file has got to: a small file beside it, replaced after each part.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The file `<name>.yalo-ingest`.
#[derive(Debug)]
pub(super) struct State(PathBuf);

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The name that the lines were sent under: another one would store them again.
    pub(super) source: String,
    /// Everything before this line is dealt with.
    pub(super) next_line: u64,
}

impl State {
    pub(super) fn beside(file: &Path) -> Self {
        let mut path = file.as_os_str().to_owned();
        path.push(".yalo-ingest");
        Self(path.into())
    }

    /// `None` if no earlier run has left off.
    pub(super) fn read(&self) -> anyhow::Result<Option<Place>> {
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", self.0.display())),
        };
        let place = serde_json::from_slice(&text);
        place.map(Some).with_context(|| format!("read {}: remove it, and use --from-line", self.0.display()))
    }

    /// Whole or not at all, also if the machine stops.
    pub(super) fn write(&self, source: &str, next_line: u64) -> anyhow::Result<()> {
        let mut fresh = self.0.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let text = serde_json::to_vec(&Place { source: source.to_owned(), next_line })?;
        let written = fs::File::create(&fresh).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.0)
        });
        written.with_context(|| format!("write {}", self.0.display()))
    }

    /// All of it is done. One that stays costs a repeated upload, whose lines are known.
    pub(super) fn remove(&self) {
        fs::remove_file(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::beside(&folder.path().join("messages.ndjson"));
        assert_eq!(state.read().unwrap(), None);
        state.write("here", 7).unwrap();
        state.write("here", 8).unwrap();
        assert_eq!(state.read().unwrap(), Some(Place { source: "here".to_owned(), next_line: 8 }));
        assert!(folder.path().join("messages.ndjson.yalo-ingest").exists());
        state.remove();
        assert_eq!(state.read().unwrap(), None);
        fs::write(folder.path().join("messages.ndjson.yalo-ingest"), "{").unwrap();
        assert!(format!("{:#}", state.read().unwrap_err()).contains("--from-line"));
    }
}
