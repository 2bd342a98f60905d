//! Keys that are made at the first start of a standalone yalo, and kept in its data folder for the owner alone.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

use crate::config::Secret;

/// Reads the key in `path`, or makes one of 256 random bits there.
pub(super) fn read_or_make(path: &Path) -> anyhow::Result<Secret> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(mut file) => {
            let key = random_key()?;
            file.write_all(key.as_bytes()).with_context(|| format!("write {}", path.display()))?;
            file.sync_all().with_context(|| format!("write {}", path.display()))?;
            Ok(Secret::new(key))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut key = String::new();
            let mut file =
                OpenOptions::new().read(true).open(path).with_context(|| format!("read {}", path.display()))?;
            file.read_to_string(&mut key).with_context(|| format!("read {}", path.display()))?;
            let key = key.trim();
            anyhow::ensure!(key.len() >= 32, "{} holds no key: remove it, and a new one is made", path.display());
            Ok(Secret::new(key))
        }
        Err(error) => Err(error).with_context(|| format!("write {}", path.display())),
    }
}

/// 64 characters from the system's randomness.
fn random_key() -> anyhow::Result<String> {
    let mut bytes = [0u8; 32];
    let mut random = std::fs::File::open("/dev/urandom").context("open the system's source of randomness")?;
    random.read_exact(&mut bytes).context("read the system's source of randomness")?;
    let number = |half: &[u8]| half.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    let (high, low) = bytes.split_at(16);
    Ok(format!("{:032x}{:032x}", number(high), number(low)))
}
