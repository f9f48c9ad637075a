//! Small JSON tables: read from the file or, if that is torn, from its `.bak`; replaced at once or not at all.

use std::io;
use std::path::{Path, PathBuf};

use ringmq_rt::fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::OpenError;

/// The largest table that is read.
pub const TABLE_MAX: u64 = 256 << 20;

/// Where the former content of a table is kept.
pub fn backup_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bak");
    PathBuf::from(name)
}

/// The text of a table, without reading its meaning; `None` if neither the file nor its copy exists. `usable` says
/// whether a text can be understood; a copy is taken only if the file itself cannot.
///
/// # Errors
/// What the operating system says, or that neither text can be understood.
pub async fn load_with<T>(
    path: &Path,
    usable: impl Fn(&[u8]) -> Result<T, serde_json::Error>,
) -> Result<Option<T>, OpenError> {
    let main = fs::read(path, TABLE_MAX).await.map_err(OpenError::io("read", path))?;
    let first = match main.as_deref().map(&usable) {
        Some(Ok(table)) => return Ok(Some(table)),
        Some(Err(error)) => Some(error),
        None => None,
    };
    let copy = backup_path(path);
    let bytes = fs::read(&copy, TABLE_MAX).await.map_err(OpenError::io("read", &copy))?;
    match (bytes.as_deref().map(&usable), first) {
        (Some(Ok(table)), _) => {
            tracing::warn!(path = %path.display(), "the table cannot be used; its former content is taken from .bak");
            Ok(Some(table))
        }
        (None, None) => Ok(None),
        (_, Some(error)) | (Some(Err(error)), None) => Err(OpenError::Table { path: path.to_path_buf(), error }),
    }
}

/// Reads a table; `None` if there is none.
///
/// # Errors
/// As [`load_with`].
pub async fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, OpenError> {
    load_with(path, |bytes| serde_json::from_slice(bytes)).await
}

/// Replaces a table, durably; the former content is kept as `.bak`.
///
/// # Errors
/// What the operating system says; the former content is still there then.
pub async fn save<T: Serialize + Sync>(path: &Path, table: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(table).map_err(io::Error::other)?;
    fs::replace(path, bytes, true).await
}

#[cfg(test)]
mod tests;
