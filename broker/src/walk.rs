//! Reading along a queue of the broker's own in batches. A message that cannot be read keeps back those that would be read with
//! it, so from there on they are read one at a time, until the one that it is about is known and passed.

use ringmq_engine::{QueueOffset, ReadBatch, ReadError, ReadRequest, ReadStatus, Shard};

/// Messages that are read at once.
pub const BATCH: usize = 128;

/// A reader of one queue.
#[derive(Debug)]
pub struct Walk<'a> {
    topic: &'a str,
    queue_id: i32,
    max_bytes: u64,
    /// Messages in front of this queue offset are read one at a time.
    singly: u64,
}

impl<'a> Walk<'a> {
    /// Reads at most so many bytes at once, but always one message.
    pub fn new(topic: &'a str, queue_id: i32, max_bytes: u64) -> Self {
        Self { topic, queue_id, max_bytes, singly: 0 }
    }

    /// The messages from a queue offset on.
    ///
    /// # Errors
    /// Damage, and bytes that the disk does not read, are those of the message at the offset, or of what leads to it.
    pub async fn read(&mut self, shard: &Shard, offset: QueueOffset) -> Result<ReadBatch, ReadError> {
        let Self { topic, queue_id, max_bytes, .. } = *self;
        loop {
            let is_single = offset.0 < self.singly;
            let max_messages = if is_single { 1 } else { BATCH };
            let request = ReadRequest { topic, queue_id, offset, max_messages, max_bytes };
            match shard.read_cold(request, &mut |_| true).await {
                Err(error) if is_about_one(&error) && !is_single => {
                    let (shard, queue, from) = (shard.id(), queue_id, offset.0);
                    tracing::warn!(%shard, topic, queue, from, %error, "messages cannot be read together, they are read one at a time");
                    self.singly = offset.0.saturating_add(BATCH as u64);
                }
                read => return read,
            }
        }
    }
}

/// Whether another read might get others than the one that this error is about.
pub fn is_about_one(error: &ReadError) -> bool {
    matches!(error, ReadError::Damaged { .. } | ReadError::Io { .. })
}

/// Where there is more behind what was read from a queue offset on; `None` at the end.
pub fn behind(batch: &ReadBatch, offset: QueueOffset) -> Option<QueueOffset> {
    let is_more = match batch.status {
        ReadStatus::Found => true,
        ReadStatus::OffsetTooSmall => batch.next > offset,
        _ => false,
    };
    is_more.then_some(batch.next)
}
