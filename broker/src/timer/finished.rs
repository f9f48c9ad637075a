//! How far the timers of each log shard are delivered, and its file: `timers.json`, an object of shard and milliseconds
//! since 1970. The control shard owns it. A file that is behind costs repetitions, never a message.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;

use ringmq_protocol::json::Json;

use crate::table::{TableError, parse_table};

/// The one member of the file.
const MEMBER: &str = "finishedMs";

/// The table.
#[derive(Debug, Default)]
pub struct Finished {
    logs: RefCell<BTreeMap<u16, u64>>,
    changed: Cell<bool>,
}

impl Finished {
    /// The table of a broker that starts: what its file held, if it held anything.
    pub fn open(file: Option<BTreeMap<u16, u64>>) -> Self {
        Self { logs: RefCell::new(file.unwrap_or_default()), changed: Cell::new(false) }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(bytes: &[u8]) -> Result<BTreeMap<u16, u64>, TableError> {
        let json = parse_table(bytes, MEMBER)?;
        let malformed = |reason: String| TableError::Malformed { reason };
        let Some(Json::Object(logs)) = json.get(MEMBER) else {
            return Err(malformed(format!("{MEMBER} is no object")));
        };
        let pair = |(log, ms): &(String, Json)| match (log.parse(), ms) {
            (Ok(log), Json::Int(ms)) => u64::try_from(*ms).ok().map(|ms| (log, ms)),
            _ => None,
        };
        let read = |entry| pair(entry).ok_or_else(|| malformed(format!("{} is no log shard's time", entry.0)));
        logs.iter().map(read).collect()
    }

    /// Timers of a log shard are delivered up to here.
    pub fn finished(&self, log: u16, finished_ms: u64) {
        self.logs.borrow_mut().insert(log, finished_ms);
        self.changed.set(true);
    }

    /// All shards.
    pub fn all(&self) -> BTreeMap<u16, u64> {
        self.logs.borrow().clone()
    }

    /// The file as it is to be written, if something changed since it was last taken.
    pub fn take_file(&self) -> Option<Vec<u8>> {
        if !self.changed.replace(false) {
            return None;
        }
        let mut text = format!("{{\"{MEMBER}\":{{");
        for (at, (log, ms)) in self.logs.borrow().iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}\"{log}\":{ms}");
        }
        text.push_str("}}\n");
        Some(text.into_bytes())
    }

    /// The file could not be written.
    pub fn not_saved(&self) {
        self.changed.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_what_was_said() {
        let table = Finished::open(None);
        assert_eq!(table.take_file(), None);
        table.finished(1, 1_700_000_000_123);
        table.finished(0, 5);
        let file = table.take_file().unwrap();
        assert_eq!(table.take_file(), None, "nothing new");
        let read = Finished::parse(&file).unwrap();
        assert_eq!(read, BTreeMap::from([(0, 5), (1, 1_700_000_000_123)]));
        assert_eq!(Finished::open(Some(read)).all(), table.all());
    }

    #[test]
    fn another_file_is_told() {
        for bad in ["{}", "{\"finishedMs\":[]}", "{\"finishedMs\":{\"x\":1}}", "{\"finishedMs\":{\"0\":-1}}"] {
            assert!(Finished::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
