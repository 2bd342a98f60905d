//! The temporary folder of `yalo all --fresh`: readable by its owner only, removed when it goes out of scope.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tracing::warn;
use uuid::Uuid;

#[derive(Debug)]
pub(super) struct FreshFolder(PathBuf);

impl FreshFolder {
    pub(super) fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("yalo-{}", Uuid::now_v7()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for FreshFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            let path = self.0.display();
            warn!("cannot remove the temporary folder {path}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_private_and_goes_away_with_all_that_is_in_it() {
        let folder = FreshFolder::create().unwrap();
        let path = folder.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(path.join("nats")).unwrap();
        fs::write(path.join("nats/file"), "text").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
