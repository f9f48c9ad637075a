//! The offsets of a broadcasting consumer, in a file of its own: a line a queue, with topic, broker, queue id and offset.
//! The file is replaced as a whole, so that a crash leaves the old one or the new one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ringmq_protocol::body::MessageQueue;

use crate::error::{Error, Result};

#[derive(Debug)]
pub(super) struct LocalOffsets {
    path: PathBuf,
    offsets: BTreeMap<MessageQueue, i64>,
}

impl LocalOffsets {
    /// A file that does not exist yet is an empty one; its folder is made.
    pub(super) fn open(path: &Path) -> Result<LocalOffsets> {
        let failed = |reason| Error::OffsetFile { path: path.to_owned(), reason };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(failed(e)),
        };
        let parsed = text
            .lines()
            .enumerate()
            .map(|(at, line)| parse(line).ok_or_else(|| Error::OffsetLine { path: path.to_owned(), line: at + 1 }));
        Ok(LocalOffsets { path: path.to_owned(), offsets: parsed.collect::<Result<_>>()? })
    }

    pub(super) fn get(&self, queue: &MessageQueue) -> Option<i64> {
        self.offsets.get(queue).copied()
    }

    pub(super) fn set(&mut self, offsets: impl IntoIterator<Item = (MessageQueue, i64)>) -> Result<()> {
        self.offsets.extend(offsets);
        let mut text = String::new();
        for (queue, offset) in &self.offsets {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\t{}\t{}\t{offset}", queue.topic, queue.broker_name, queue.queue_id);
        }
        self.replace(&text).map_err(|reason| Error::OffsetFile { path: self.path.clone(), reason })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let mut file = File::create(&name)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&name, &self.path)
    }
}

fn parse(line: &str) -> Option<(MessageQueue, i64)> {
    let mut parts = line.split('\t');
    let (topic, broker, queue_id, offset) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let queue = MessageQueue::new(topic, broker, queue_id.parse().ok()?);
    parts.next().is_none().then_some((queue, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_outlive_the_consumer_and_damage_is_named() {
        let folder = std::env::temp_dir().join(format!("ringmq-client-offsets-{}", std::process::id()));
        let path = folder.join("deep").join("offsets");
        let (one, two) = (MessageQueue::new("T", "a", 0), MessageQueue::new("T", "b", 1));
        let mut offsets = LocalOffsets::open(&path).unwrap();
        assert_eq!(offsets.get(&one), None);
        offsets.set([(one.clone(), 7), (two.clone(), 9)]).unwrap();
        offsets.set([(one.clone(), 8)]).unwrap();
        let again = LocalOffsets::open(&path).unwrap();
        assert_eq!((again.get(&one), again.get(&two)), (Some(8), Some(9)));
        fs::write(&path, "T\ta\t0\t8\nT\ta\n").unwrap();
        assert!(matches!(LocalOffsets::open(&path), Err(Error::OffsetLine { line: 2, .. })));
        fs::remove_dir_all(&folder).unwrap();
    }
}
