//! Directories that are there after a power cut: a new name is durable only once the directory that holds it is synced.

use std::path::Path;

use ringmq_rt::fs;

use crate::error::OpenError;

/// Makes `path` and what is missing above it, and makes every name between `top` and `path` durable.
pub(crate) async fn make(path: &Path, top: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(path).await.map_err(OpenError::io("create", path))?;
    for above in path.ancestors().skip(1).take_while(|above| above.starts_with(top)) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        fs::sync_dir(above).await.map_err(OpenError::io("flush", above))?;
    }
    Ok(())
}
