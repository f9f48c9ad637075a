//! A wall clock that a test sets.

use std::fs;
use std::path::PathBuf;

/// A broker's wall clock apart from the test's: a file of which the broker reads by how much.
pub(crate) struct Shifted {
    folder: tempfile::TempDir,
}

impl Default for Shifted {
    fn default() -> Shifted {
        let shifted = Shifted { folder: tempfile::tempdir().unwrap() };
        shifted.by(0);
        shifted
    }
}

impl Shifted {
    /// The environment of its broker.
    pub(crate) fn env(&self) -> (&'static str, String) {
        ("RINGMQ_TEST_CLOCK", self.file().display().to_string())
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Sets the clock to this much ahead of the test's.
    pub(crate) fn by(&self, ms: i64) {
        let new = self.folder.path().join("new");
        fs::write(&new, ms.to_string()).unwrap();
        fs::rename(new, self.file()).unwrap();
    }
}
