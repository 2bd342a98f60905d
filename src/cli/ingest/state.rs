//! Where an upload of a file has got to: a small file beside it, replaced after each part.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The file `<name>.yalo-ingest`.
#[derive(Debug)]
pub(super) struct State(PathBuf);

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Where the lines were sent, and as what.
    pub(super) url: String,
    pub(super) as_user: bool,
    /// The name that the lines were sent under: another one would store them again.
    pub(super) source: String,
    /// SHA-256 of the first line, in base64: a file of the same name may be another one by now.
    pub(super) first: Option<String>,
    /// Everything before this line is dealt with.
    pub(super) next_line: u64,
    /// What is in the record from that line on lies behind this sequence.
    pub(super) after: u64,
    /// Whether the lines went in batches, without ids: then nothing else keeps from doubles than what stands here.
    #[serde(default)]
    pub(super) batch: bool,
    /// Batches that may not be over.
    #[serde(default)]
    pub(super) batches: Vec<Uuid>,
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

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Whole or not at all, also if the machine stops.
    pub(super) fn write(&self, place: &Place) -> anyhow::Result<()> {
        let mut fresh = self.0.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let text = serde_json::to_vec(place)?;
        let written = fs::File::create(&fresh).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.0)
        });
        written.with_context(|| format!("write {}", self.0.display()))
    }

    /// All of it is done. One that stays holds up the next run, which says so.
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
        let batch = Uuid::now_v7();
        let place = |next_line| Place {
            url: "http://here".to_owned(),
            as_user: false,
            source: "here".to_owned(),
            first: Some("00".to_owned()),
            next_line,
            after: 99,
            batch: true,
            batches: vec![batch],
        };
        state.write(&place(7)).unwrap();
        state.write(&place(8)).unwrap();
        assert_eq!(state.read().unwrap(), Some(place(8)));
        assert!(folder.path().join("messages.ndjson.yalo-ingest").exists());
        state.remove();
        assert_eq!(state.read().unwrap(), None);
        fs::write(folder.path().join("messages.ndjson.yalo-ingest"), "{").unwrap();
        assert!(format!("{:#}", state.read().unwrap_err()).contains("--from-line"));
    }
}
