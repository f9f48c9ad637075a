//! Where a log starts once its oldest segments were dropped: a small file beside the segments. It is durable before the
//! first of their files goes, so what lies in front of it is a leftover and no loss, and what is missing behind it is a loss.
//!
//! It also names the queues whose messages may all be gone, with the offset that each goes on with. A snapshot knows that
//! too; but a snapshot may be lost, and the log cannot tell of records that it no longer has.

use std::path::{Path, PathBuf};

use ringmq_rt::fs;

use crate::codec::{BadFile, Decoder, Encoder, Kind};
use crate::error::OpenError;
use crate::limits;
use crate::position::{Epoch, ShardId};
use crate::queue::{Queue, Queues};
use crate::segment::Segments;

const KIND: Kind = Kind { magic: b"RMqSTART", version: 1 };

/// Where a log starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogStart {
    /// First byte that is kept; a segment begins there.
    pub(crate) offset: u64,
    /// No batch from there on was written in an earlier term.
    pub(crate) epoch: Epoch,
    /// First block of the index log that is kept.
    pub(crate) index: u32,
    pub(crate) queues: Vec<Quiet>,
}

/// A queue without messages from the start on, or with none that was flushed by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quiet {
    pub(crate) topic: Box<str>,
    pub(crate) id: i32,
    pub(crate) born: u64,
    pub(crate) next: u64,
}

/// Writes the file piece by piece, so that many queues do not keep the core.
pub(crate) struct Note(Encoder);

impl Note {
    pub(crate) fn new(shard: ShardId, store: u64, start: &LogStart) -> Self {
        let mut encoder = Encoder::new(KIND, shard, store);
        encoder.u64(start.offset);
        encoder.u32(start.epoch.0);
        encoder.u32(start.index);
        Self(encoder)
    }

    pub(crate) fn queue(&mut self, queue: &Queue) {
        self.0.text(&queue.topic);
        self.0.u32(queue.id.cast_unsigned());
        self.0.u64(queue.born);
        self.0.u64(queue.next());
    }

    pub(crate) async fn save(self, path: &Path) -> std::io::Result<()> {
        fs::replace(path, self.0.finish(), false).await
    }
}

pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join("start")
}

/// Reads where the log starts; zero for a log of which nothing was dropped.
pub(crate) async fn load(root: &Path, shard: ShardId, store: u64) -> Result<LogStart, OpenError> {
    let path = path_in(&Segments::dir(root, shard));
    let bytes = fs::read(&path, limits::SNAPSHOT_MAX).await.map_err(OpenError::io("read", &path))?;
    let Some(bytes) = bytes else { return Ok(LogStart::default()) };
    decode(&bytes, shard, store).map_err(|why| OpenError::Start { path, why })
}

fn decode(bytes: &[u8], shard: ShardId, store: u64) -> Result<LogStart, BadFile> {
    let mut input = Decoder::open(bytes, KIND, shard, store)?;
    let (offset, epoch, index) = (input.u64()?, Epoch(input.u32()?), input.u32()?);
    let mut queues = Vec::new();
    while !input.0.is_empty() {
        let topic = input.text()?.into();
        queues.push(Quiet { topic, id: input.u32()?.cast_signed(), born: input.u64()?, next: input.u64()? });
    }
    Ok(LogStart { offset, epoch, index, queues })
}

impl LogStart {
    /// The queues that the log alone would not give.
    pub(crate) fn quiet_queues(&self) -> Queues {
        let mut queues = Queues::default();
        for quiet in &self.queues {
            queues.find_or_create(&quiet.topic, quiet.id, quiet.born, quiet.next);
        }
        queues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> ShardId {
        ShardId::new(1).unwrap()
    }

    #[test]
    fn a_start_reads_back_and_no_damaged_or_foreign_one_is_believed() {
        let quiet = Quiet { topic: "t".into(), id: -3, born: 7, next: 900 };
        let start = LogStart { offset: 1 << 40, epoch: Epoch(3), index: 16_384, queues: vec![quiet] };
        let mut note = Note::new(shard(), 99, &start);
        note.queue(&Queue::new("t".into(), -3, 7, 900));
        let bytes = note.0.finish();
        assert_eq!(decode(&bytes, shard(), 99).unwrap(), start);
        for byte in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[byte] ^= 4;
            assert!(decode(&bad, shard(), 99).is_err(), "byte {byte}");
            assert!(decode(&bytes[..byte], shard(), 99).is_err(), "{byte} bytes");
        }
        assert_eq!(decode(&bytes, shard(), 98), Err(BadFile::Stranger));
        let queues = start.quiet_queues();
        assert_eq!(queues.get(queues.find("t", -3).unwrap()).unwrap().next(), 900);
    }
}
