//! What the managed server is started with: its folder, its configuration file, its password.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ServerOptions;
use super::lock::{LockError, private_folder};

/// The one user of the managed server.
pub(super) const USER: &str = "yalo";
/// Never less than this for `max_file`: each stream carries its own limit and this server has no other user, so this one
/// is kept out of the way. (By default a server takes three quarters of the free disk, and refuses a larger stream.)
const FILE_BYTES: i64 = 1 << 40;
/// Room beside the chat stream, for dead letters and members.
const OTHER_BYTES: i64 = 16 << 30;

/// The folder of the managed server and what lies in it.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// `<data>/nats`, absolute, made for the owner alone.
    pub(super) fn make(data_dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::NotWritable { dir: data_dir.to_owned(), action: "find", source };
        let folder = std::path::absolute(data_dir.join("nats")).map_err(failed)?;
        private_folder(&folder)?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.0.join("nats.conf")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.0.join("server.lock")
    }

    /// Removes ports files that a killed server left: a reused process id would make one of them look like ours.
    pub(super) fn remove_ports_files(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ports") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The client port, once the server `pid` has written it.
    pub(super) fn port(&self, pid: u32) -> Option<u16> {
        let ending = format!("_{pid}.ports");
        let entries = std::fs::read_dir(&self.0).ok()?;
        let ours = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(&ending));
        let path = entries.flatten().map(|entry| entry.path()).find(ours)?;
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
    }

    /// The password of [`USER`]: made once from 32 random bytes, kept for the owner's eyes.
    pub(super) fn password(&self) -> io::Result<String> {
        let path = self.0.join("password");
        let whole = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(known) = std::fs::read_to_string(&path).ok().filter(whole) {
            return Ok(known);
        }
        let mut random = [0u8; 32];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let mut password = String::with_capacity(64);
        for byte in random {
            write!(password, "{byte:02x}").map_err(io::Error::other)?;
        }
        write_private(&path, &password)?;
        Ok(password)
    }

    /// Writes `nats.conf` for `port`; `None` lets the system choose one.
    pub(super) fn configure(&self, options: &ServerOptions, password: &str, port: Option<u16>) -> io::Result<()> {
        write_private(&self.configuration(), &self.text(options, password, port)?)
    }

    fn text(&self, options: &ServerOptions, password: &str, port: Option<u16>) -> io::Result<String> {
        let folder = self.0.to_str().ok_or_else(|| io::Error::other("the path of the data folder is not UTF-8"))?;
        let (folder, sync) = (quoted(folder), quoted(&options.sync_interval));
        let port = port.map_or(-1, i32::from);
        let file_bytes = options.max_bytes.saturating_add(OTHER_BYTES).max(FILE_BYTES);
        let monitoring = options.monitor_port.map_or(String::new(), |port| format!("http: \"127.0.0.1:{port}\"\n"));
        // ping_interval x ping_max: a dead link is found before the duplicate window (120 s) ends, so that no publish
        // can lie in it for longer and be stored a second time.
        Ok(format!(
            "# Written by yalo at each start; changes are lost.\n\
             server_name: \"yalo-managed\"\n\
             listen: \"127.0.0.1:{port}\"\n\
             ports_file_dir: \"{folder}\"\n\
             {monitoring}\
             max_payload: 1MB\n\
             ping_interval: \"20s\"\n\
             ping_max: 2\n\
             write_deadline: \"10s\"\n\
             logtime: false\n\
             authorization {{ user: \"{USER}\", password: \"{password}\", timeout: 3 }}\n\
             jetstream {{\n\
             \x20 store_dir: \"{folder}\"\n\
             \x20 max_mem: 64MB\n\
             \x20 max_file: {file_bytes}\n\
             \x20 sync_interval: \"{sync}\"\n\
             }}\n"
        ))
    }
}

/// The `sync_interval` that the managed server of a data folder was started with last.
pub fn sync_interval_of(data_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join("nats").join("nats.conf")).ok()?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("sync_interval: "))?;
    Some(line.trim_matches('"').to_owned())
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Written beside and renamed, so that a crash leaves the old file or the new one, and readable by the owner only.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_made_once_and_lies_with_the_configuration_in_private_files() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::make(dir.path()).unwrap();
        let password = folder.password().unwrap();
        assert_eq!(password.len(), 64);
        assert_eq!(folder.password().unwrap(), password);
        folder.configure(&ServerOptions::new(dir.path()), &password, None).unwrap();
        assert_eq!(sync_interval_of(dir.path()).as_deref(), Some("100ms"));
        for file in ["password", "nats.conf"] {
            let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        std::fs::write(folder.path().join("password"), "cut off").unwrap();
        assert_eq!(folder.password().unwrap().len(), 64);
    }

    #[test]
    fn the_port_is_read_from_the_ports_file_of_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::make(dir.path()).unwrap();
        let ports = folder.path().join("nats-server_77.ports");
        assert_eq!(folder.port(77), None);
        std::fs::write(&ports, "{\"nats\":[\"nats://127.0").unwrap();
        assert_eq!(folder.port(77), None, "half written");
        std::fs::write(&ports, "{\"nats\":[\"nats://127.0.0.1:4711\"]}").unwrap();
        assert_eq!((folder.port(77), folder.port(7)), (Some(4711), None));
        folder.remove_ports_files().unwrap();
        assert_eq!(folder.port(77), None);
    }
}
