//! The file of an export while it is not complete: `FILE.part`, and beside it `FILE.part.json`, which says how far it is.
//!
//! What the second one says is on the disk: the text is synced before, and it is replaced as a whole. So whatever a crash
//! or a power cut leaves behind in `FILE.part`, half a line or a torn member, is cut off, and the export goes on from
//! there. Complete, it gets its name; `FILE` is never half of something.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cli::exit::CliError;
use crate::domain::{ConversationId, Cursor};
use crate::export::{End, Format, Holes, Order, Packing, Piece, Selection};

/// How often it is written down how far it is, in time or in pieces; at most so much is exported again.
const EVERY: Duration = Duration::from_millis(500);
const PIECES: u32 = 8;
/// The version of `FILE.part.json`.
const VERSION: u32 = 2;

/// How much has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) bytes: u64,
    pub(super) rows: u64,
    #[serde(with = "as_text")]
    pub(super) cursor: Option<Cursor>,
    pub(super) conversation: Option<ConversationId>,
    pub(super) holes: Option<Holes>,
}

impl Progress {
    pub(super) fn add(&mut self, piece: &Piece) {
        self.bytes += u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
        self.rows += piece.rows;
        if piece.cursor.is_some() {
            (self.cursor, self.conversation) = (piece.cursor, piece.conversation);
        }
        self.holes = Holes::join(self.holes, piece.holes);
    }
}

/// What `FILE.part` is to become, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    version: u32,
    selection: Selection,
    format: Format,
    packing: Packing,
    end: End,
    progress: Progress,
}

/// A file that is being written.
pub(super) struct PartFile {
    path: PathBuf,
    file: File,
    state: State,
    /// Its state was read: it goes on.
    is_old: bool,
    saved: Instant,
    /// Pieces since then.
    unsaved: u32,
}

/// What was found.
pub(super) enum Opened {
    /// One to write.
    Part(Box<PartFile>),
    /// The file is there, whole.
    Complete,
}

impl PartFile {
    /// Begins or, with `resume`, goes on. Never writes over anything.
    pub(super) fn open(path: &Path, resume: bool, order: &Order) -> anyhow::Result<Opened> {
        let (part, state) = (beside(path, ".part"), beside(path, ".part.json"));
        let usage = |text: String| Err(CliError::Usage(text).into());
        let is_begun = state.exists() && part.exists();
        if path.exists() {
            if resume && !is_begun {
                return Ok(Opened::Complete);
            }
            return usage(format!("{} is there already: name another file, or remove it", path.display()));
        }
        if is_begun && !resume {
            let part = part.display();
            return usage(format!("{part} is an interrupted export: go on with it by --resume, or remove it"));
        }
        let file = File::options().create(true).truncate(false).write(true).open(&part);
        let file = file.with_context(|| format!("open {}", part.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return usage(format!("another export writes to {}", part.display())),
            Err(TryLockError::Error(error)) => return Err(error).context(format!("lock {}", part.display())),
        }
        let wanted = State {
            version: VERSION,
            selection: order.selection.clone(),
            format: order.format,
            packing: order.packing,
            end: End::default(),
            progress: Progress::default(),
        };
        if !is_begun && file.metadata().with_context(|| format!("look at {}", part.display()))?.len() > 0 {
            let (part, state) = (part.display(), state.display());
            return usage(format!(
                "{part} is there already and is no export to go on with, since {state} is missing: move it away"
            ));
        }
        let found = if is_begun { Some(read(&state)?) } else { None };
        if let Some(found) = &found
            && *found != (State { end: found.end, progress: found.progress, ..wanted.clone() })
        {
            return usage(format!(
                "{} is an export of something else or in another form: repeat its flags, or remove it and {}",
                part.display(),
                state.display()
            ));
        }
        let is_old = found.is_some();
        let mut file = Self {
            path: path.to_owned(),
            file,
            state: found.unwrap_or(wanted),
            is_old,
            saved: Instant::now(),
            unsaved: 0,
        };
        file.cut()?;
        Ok(Opened::Part(Box::new(file)))
    }

    /// Cuts off what was not yet written down as written.
    fn cut(&mut self) -> anyhow::Result<()> {
        let bytes = self.state.progress.bytes;
        let is_there = self.file.metadata().context("look at the file")?.len();
        if is_there < bytes {
            let part = self.part();
            anyhow::bail!("{part} is {is_there} bytes long and has had {bytes} before: remove it and begin anew");
        }
        self.file.set_len(bytes).and_then(|()| self.file.seek(SeekFrom::End(0))).context("cut the file")?;
        Ok(())
    }

    /// Has an export begin where this file ends.
    pub(super) fn go_on(&self, order: &mut Order) {
        if self.is_old {
            order.end = Some(self.state.end);
        }
        if self.state.progress.bytes > 0 {
            order.after = self.state.progress.cursor;
            order.after_in = self.state.progress.conversation;
            order.is_begun = true;
        }
    }

    /// It is known now up to where the export goes.
    pub(super) fn begin(&mut self, end: End) -> anyhow::Result<()> {
        self.state.end = end;
        self.save()
    }

    pub(super) fn progress(&self) -> Progress {
        self.state.progress
    }

    /// The name for people.
    pub(super) fn part(&self) -> String {
        beside(&self.path, ".part").display().to_string()
    }

    pub(super) fn write(&mut self, piece: &Piece) -> anyhow::Result<()> {
        self.file.write_all(&piece.bytes).with_context(|| format!("write to {}", self.part()))?;
        self.state.progress.add(piece);
        self.unsaved += 1;
        if self.unsaved >= PIECES || self.saved.elapsed() >= EVERY { self.save() } else { Ok(()) }
    }

    /// Writes down how far it is, once that is on the disk.
    fn save(&mut self) -> anyhow::Result<()> {
        self.file.sync_data().with_context(|| format!("sync {}", self.part()))?;
        let (state, new) = (beside(&self.path, ".part.json"), beside(&self.path, ".part.json.new"));
        let saving = || -> anyhow::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&self.state)?)?;
            file.sync_all()?;
            Ok(fs::rename(&new, &state)?)
        };
        saving().with_context(|| format!("write {}", state.display()))?;
        (self.saved, self.unsaved) = (Instant::now(), 0);
        Ok(())
    }

    /// Gives the complete file its name.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        // If the name is taken, nothing has to be exported again.
        self.save()?;
        let part = beside(&self.path, ".part");
        let finishing = || -> io::Result<()> {
            self.file.sync_all()?;
            rename_new(&part, &self.path)?;
            fs::remove_file(beside(&self.path, ".part.json"))?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        };
        let (part, path) = (part.display(), self.path.display());
        finishing().map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!(
                "{path} was made by somebody else meanwhile; the export is complete in {part}: move {path} away, and \
                 --resume gives it its name"
            ),
            _ => anyhow::Error::new(error).context(format!("give {part} its name {path}")),
        })
    }
}

/// Renames a file, but never over another one.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems, such as NFS, can't; there a second name is as good.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from),
            // Some can't do that either: then by looking first, which leaves a moment.
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !to.exists() => fs::rename(from, to),
            linked => linked,
        },
        renamed => Ok(renamed?),
    }
}

fn read(path: &Path) -> anyhow::Result<State> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let next = || format!("read {}; remove it and the part beside it, and begin anew", path.display());
    let state: State = serde_json::from_slice(&text).with_context(next)?;
    anyhow::ensure!(state.version == VERSION, "{} was written by another release: begin anew", path.display());
    Ok(state)
}

/// A file next to the one that is to be.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// A cursor as the text that everybody knows.
mod as_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::domain::Cursor;

    #[expect(clippy::ref_option, reason = "serde's form")]
    pub(super) fn serialize<S: Serializer>(cursor: &Option<Cursor>, serializer: S) -> Result<S::Ok, S::Error> {
        cursor.map(|cursor| cursor.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cursor>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| Cursor::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn open(folder: &TempDir, resume: bool) -> anyhow::Result<Opened> {
        let (selection, format, packing) = (Selection::default(), Format::Ndjson, Packing::None);
        let (after, after_in, end) = (None, None, None);
        let order = Order { selection, format, packing, after, after_in, end, is_begun: false };
        PartFile::open(&folder.path().join("x"), resume, &order)
    }

    fn part(opened: anyhow::Result<Opened>) -> PartFile {
        match opened.unwrap() {
            Opened::Part(file) => *file,
            Opened::Complete => panic!("it is complete"),
        }
    }

    #[test]
    fn a_file_that_was_made_meanwhile_stays_and_so_does_the_export() {
        let folder = tempfile::tempdir().unwrap();
        let (path, part_path) = (folder.path().join("x"), folder.path().join("x.part"));
        let mut file = part(open(&folder, false));
        file.begin(End { upto: 1, next: 2 }).unwrap();
        let cursor = Some(Cursor { at_ms: 1, seq: 1 });
        let piece = Piece { bytes: "ours\n".into(), rows: 1, cursor, conversation: None, holes: None };
        file.write(&piece).unwrap();
        fs::write(&path, "theirs").unwrap();
        let said = file.finish().unwrap_err().to_string();
        assert!(said.contains("x.part") && said.contains("--resume"), "{said}");
        assert_eq!((fs::read(&path).unwrap(), fs::read(&part_path).unwrap()), (b"theirs".to_vec(), b"ours\n".to_vec()));
        fs::remove_file(&path).unwrap();
        let file = part(open(&folder, true));
        assert_eq!((file.progress().rows, file.progress().cursor), (1, cursor));
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_part_of_something_else_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let part_path = folder.path().join("x.part");
        fs::write(&part_path, "theirs").unwrap();
        for resume in [false, true] {
            let said = open(&folder, resume).err().unwrap().to_string();
            assert!(said.contains("x.part.json is missing"), "{said}");
            assert_eq!(fs::read(&part_path).unwrap(), b"theirs");
        }
        // So an export leaves it that is killed before it has written a word.
        fs::write(&part_path, "").unwrap();
        part(open(&folder, false));
    }
}
