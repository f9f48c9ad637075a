//! The format and the start-up rule of the small durable tables: topics, subscription groups, consumer offsets. Each is
//! one JSON file in RocketMQ's own shape with a `.bak` beside it, so that RocketMQ's tools read ours and a RocketMQ
//! store's `config/` directory can be taken over. Nothing here touches a file: the engine reads and atomically replaces
//! them; this module says what the bytes mean and which of the two files to believe.

use crate::limits::TABLE_FILE_MAX;
use ringmq_protocol::json::{Json, JsonError, parse};

/// The topic table's file name under the store's `config/`.
pub const TOPICS_FILE: &str = "topics.json";
/// The subscription group table's file name.
pub const GROUPS_FILE: &str = "subscriptionGroup.json";
/// The consumer offset table's file name.
pub const OFFSETS_FILE: &str = "consumerOffset.json";

/// The file of how far timers are delivered.
pub const TIMERS_FILE: &str = "timers.json";

/// Why one file of a table cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There is no such file.
    #[error("is missing")]
    Missing,
    /// The file has no content: a write was cut short by a crash.
    #[error("is empty")]
    Empty,
    /// The file is longer than any table may be.
    #[error("has {0} bytes, more than the {TABLE_FILE_MAX} that a table may have")]
    TooLong(usize),
    /// The text is not what RocketMQ or this broker writes.
    #[error("cannot be parsed: {reason}")]
    Malformed {
        /// What the parser met, and where.
        reason: String,
    },
    /// The table holds more than its bound.
    #[error("holds {count} {what}, more than the {max} that are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// The table was written for a store with another number of log shards, so its home shards name the wrong logs.
    #[error("was written for a store of {written} log shards, and this store has {actual}")]
    OtherShards {
        /// The number in the file.
        written: u16,
        /// The number of this store.
        actual: u16,
    },
}

/// Neither file of a table can be used. The broker must not start: it would silently forget what the files held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} {main}; {file}.bak {backup}")]
pub struct LoadError {
    /// The table's file name.
    pub file: &'static str,
    /// Why the main file cannot be used.
    pub main: TableError,
    /// Why the backup cannot be used.
    pub backup: TableError,
}

/// What the two files of a table hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded<T> {
    /// Neither file exists: a new store.
    Absent,
    /// The main file was read.
    Main(T),
    /// The main file cannot be used and the backup, an older state, was read instead. Worth a warning.
    Backup {
        /// What the backup holds.
        table: T,
        /// Why the main file was passed over.
        because: TableError,
    },
}

/// Decides between a table's main file and its backup; `None` is a file that does not exist.
///
/// A missing main file beside a sound backup is the trace of a crash between RocketMQ's two renames. A main file that is
/// there but unreadable is only ever replaced by a sound backup, never by an empty table.
pub fn load<T>(
    file: &'static str,
    main: Option<&[u8]>,
    backup: Option<&[u8]>,
    parse: impl Fn(&[u8]) -> Result<T, TableError>,
) -> Result<Loaded<T>, LoadError> {
    let read = |bytes: Option<&[u8]>| match bytes {
        None => Err(TableError::Missing),
        Some(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Err(TableError::Empty),
        Some(bytes) if bytes.len() > TABLE_FILE_MAX => Err(TableError::TooLong(bytes.len())),
        Some(bytes) => parse(bytes),
    };
    let because = match read(main) {
        Ok(table) => return Ok(Loaded::Main(table)),
        Err(because) => because,
    };
    match read(backup) {
        Ok(table) => Ok(Loaded::Backup { table, because }),
        Err(TableError::Missing) if because == TableError::Missing => Ok(Loaded::Absent),
        Err(backup) => Err(LoadError { file, main: because, backup }),
    }
}

/// Counts a table's changes against what the disk has, so that the flusher knows whether there is anything to write.
/// A write takes a while and changes go on meanwhile: the flusher notes the number it wrote, not "clean".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Revision {
    current: u64,
    saved: u64,
}

impl Revision {
    /// Notes a change.
    pub fn touch(&mut self) {
        self.current += 1;
    }

    /// The number of the present state, to be handed to [`Revision::saved`] once that state is on disk.
    pub fn current(&self) -> u64 {
        self.current
    }

    /// True while the disk lacks a change.
    pub fn is_dirty(&self) -> bool {
        self.current > self.saved
    }

    /// Notes that the state numbered `revision` is on disk. Reports may come late or out of order.
    pub fn saved(&mut self, revision: u64) {
        debug_assert!(revision <= self.current, "saved {revision} of {}", self.current);
        self.saved = self.saved.max(revision.min(self.current));
    }
}

impl From<JsonError> for TableError {
    fn from(error: JsonError) -> Self {
        TableError::Malformed { reason: error.to_string() }
    }
}

/// Reads a table's text, which must hold the member that makes it this table: any other object, an empty one too,
/// would otherwise pass for a table that lost everything.
pub(crate) fn parse_table(bytes: &[u8], member: &'static str) -> Result<Json, TableError> {
    let json = parse(bytes)?;
    match json.get(member) {
        Some(Json::Object(_)) => Ok(json),
        Some(_) => Err(JsonError::Type(member).into()),
        None => Err(JsonError::Missing(member).into()),
    }
}

pub(crate) fn check_count(what: &'static str, count: usize, max: usize) -> Result<(), TableError> {
    if count > max { Err(TableError::TooMany { what, count, max }) } else { Ok(()) }
}

/// Breaks compact JSON into lines, indented by tabs as RocketMQ writes its files, because operators read and compare
/// them.
pub(crate) fn indent(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut escaped = false;
    for (at, &byte) in compact.iter().enumerate() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        let is_empty = |close: u8| compact.get(at + 1) == Some(&close);
        match byte {
            b'{' | b'[' => {
                depth += 1;
                out.push(byte);
                if !is_empty(byte + 2) {
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = usize::saturating_sub(depth, 1);
                if !matches!(out.last(), Some(b'{' | b'[')) {
                    new_line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
    out
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + depth, b'\t');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<u32, TableError> {
        let text = String::from_utf8_lossy(bytes);
        text.trim().parse().map_err(|e| TableError::Malformed { reason: format!("{e}") })
    }

    fn run(main: Option<&str>, backup: Option<&str>) -> Result<Loaded<u32>, LoadError> {
        load("topics.json", main.map(str::as_bytes), backup.map(str::as_bytes), parse)
    }

    #[test]
    fn a_sound_main_file_is_believed_whatever_the_backup_holds() {
        for backup in [None, Some(""), Some("x"), Some("2")] {
            assert_eq!(run(Some("1"), backup), Ok(Loaded::Main(1)));
        }
    }

    #[test]
    fn a_new_store_has_neither_file() {
        assert_eq!(run(None, None), Ok(Loaded::Absent));
    }

    #[test]
    fn the_backup_stands_in_for_a_missing_empty_or_damaged_main_file() {
        assert_eq!(run(None, Some("2")), Ok(Loaded::Backup { table: 2, because: TableError::Missing }));
        assert_eq!(run(Some(" \n"), Some("2")), Ok(Loaded::Backup { table: 2, because: TableError::Empty }));
        assert!(matches!(
            run(Some("{"), Some("2")),
            Ok(Loaded::Backup { table: 2, because: TableError::Malformed { .. } })
        ));
    }

    #[test]
    fn damage_without_a_sound_backup_is_an_error_that_names_both_reasons() {
        let error = run(Some("{"), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "topics.json cannot be parsed: invalid digit found in string; topics.json.bak is missing"
        );
        let error = run(None, Some("")).unwrap_err();
        assert_eq!(error.to_string(), "topics.json is missing; topics.json.bak is empty");
        assert!(run(Some(""), None).is_err());
    }

    #[test]
    fn text_is_indented_and_means_the_same() {
        let compact = br#"{"a":{},"b":[1,{"c":"x,{\"y\\"}],"d":[]}"#;
        let indented = indent(compact);
        let expected =
            "{\n\t\"a\":{},\n\t\"b\":[\n\t\t1,\n\t\t{\n\t\t\t\"c\":\"x,{\\\"y\\\\\"\n\t\t}\n\t],\n\t\"d\":[]\n}";
        assert_eq!(String::from_utf8(indented.clone()).unwrap(), expected);
        assert_eq!(parse_json(&indented), parse_json(compact));
    }

    fn parse_json(bytes: &[u8]) -> Json {
        ringmq_protocol::json::parse(bytes).unwrap()
    }

    #[test]
    fn an_object_that_is_not_the_table_is_damage() {
        assert!(parse_table(b"{}", "offsetTable").is_err());
        assert!(parse_table(b"[]", "offsetTable").is_err());
        assert!(parse_table(br#"{"offsetTable":3}"#, "offsetTable").is_err());
        assert!(parse_table(br#"{"offsetTable":{}}"#, "offsetTable").is_ok());
    }

    #[test]
    fn a_change_during_a_write_keeps_the_table_dirty() {
        let mut revision = Revision::default();
        assert!(!revision.is_dirty());
        revision.touch();
        let written = revision.current();
        revision.touch();
        revision.saved(written);
        assert!(revision.is_dirty());
        revision.saved(revision.current());
        assert!(!revision.is_dirty());
        revision.saved(written);
        assert!(!revision.is_dirty());
    }
}
