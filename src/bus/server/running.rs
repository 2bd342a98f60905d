//! The managed server of a yalo that runs now, for tools beside it.

use std::io;
use std::path::Path;

use super::lock;
use super::settings::{Folder, USER};

/// How to reach it.
pub struct Running {
    /// `nats://127.0.0.1:<port>`.
    pub url: String,
    /// The user that it lets in.
    pub user: String,
    /// That user's password. Never log it.
    pub password: String,
}

/// The server that holds the store of `data_dir` now; `None` if nobody does.
pub fn running(data_dir: &Path) -> io::Result<Option<Running>> {
    let folder = Folder::make(data_dir).map_err(io::Error::other)?;
    let mut file = lock::open(&folder.lock())?;
    if lock::try_lock(&file)? {
        return Ok(None);
    }
    let holder = lock::holder(&mut file);
    let pid = holder.strip_prefix("process ").and_then(|rest| rest.split(',').next()?.parse().ok());
    let port = pid.and_then(|pid| folder.port(pid));
    let port = port.ok_or_else(|| io::Error::other(format!("{holder} holds the store and is not ready yet")))?;
    let url = format!("nats://127.0.0.1:{port}");
    Ok(Some(Running { url, user: USER.to_owned(), password: folder.password()? }))
}
