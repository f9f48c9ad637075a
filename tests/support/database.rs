//! A database that refuses a change for a time, as one on a full disk does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

/// A trigger in a service's own SQLite file. The service runs on; each such change of it fails.
pub(crate) struct Broken(PathBuf);

impl Broken {
    /// `change` is what fails, such as `INSERT ON points`.
    pub(crate) fn new(file: &Path, change: &str) -> Broken {
        let trigger =
            format!("CREATE TRIGGER broken BEFORE {change} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END");
        execute(file, &trigger);
        Broken(file.to_owned())
    }

    pub(crate) fn mend(self) {
        execute(&self.0, "DROP TRIGGER broken");
    }
}

fn execute(file: &Path, statement: &str) {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection.execute_batch(statement).unwrap();
}
