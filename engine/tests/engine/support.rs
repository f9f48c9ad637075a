//! What the engine's tests share: messages, a small shard on a simulated disk, and reading a queue out.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ringmq_engine::{
    AppendError, Draft, FlushPolicy, Keys, OpenError, QueueOffset, ReadBatch, ReadPlan, ReadRequest, ReadStatus, Shard,
    ShardId, ShardOptions, Store, StoreOptions, Ticket,
};
use ringmq_protocol::host::Host;
use ringmq_protocol::message::{Property, RecordSpec, tags_code};

pub(crate) const ROOT: &str = "/store";

/// A message with everything that a test varies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) queue: i32,
    pub(crate) body: Vec<u8>,
    pub(crate) tags: String,
    /// Business keys, separated by blanks.
    pub(crate) keys: String,
    pub(crate) unique: Option<String>,
}

impl Message {
    pub(crate) fn new(topic: &str, queue: i32, body: Vec<u8>) -> Self {
        Self { topic: topic.to_owned(), queue, body, tags: "red".to_owned(), keys: "k".to_owned(), unique: None }
    }

    pub(crate) fn with<R>(&self, use_it: impl FnOnce(Draft<'_>) -> R) -> R {
        let host = Host::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10911);
        let mut properties = vec![Property::Pair("KEYS", &self.keys), Property::Pair("TAGS", &self.tags)];
        properties.extend(self.unique.as_deref().map(|unique| Property::Pair("UNIQ_KEY", unique)));
        let body = [self.body.as_slice()];
        let spec = RecordSpec {
            topic: &self.topic,
            queue_id: self.queue,
            flag: 7,
            sys_flag: 0,
            born_timestamp: 1_000,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: 0,
            body: &body,
            body_max: 64 << 20,
            properties: &properties,
        };
        let keys = Keys { unique: self.unique.as_deref(), business: Some(&self.keys) };
        use_it(Draft { spec: &spec, tags_code: tags_code(&self.tags), keys, due_ms: None, promised: false })
    }

    pub(crate) fn append(&self, shard: &Shard) -> Result<Ticket, AppendError> {
        self.with(|draft| shard.append(&draft, ringmq_rt::wall_ms()))
    }

    /// The record as it must be stored.
    pub(crate) fn bytes(&self, ticket: &Ticket) -> Vec<u8> {
        self.with(|draft| {
            let mut out = vec![0; draft.spec.encoded_len().unwrap()];
            let (offset, position) = (ticket.queue_offset.0.cast_signed(), ticket.position.to_wire());
            draft.spec.encode_into(&mut out, offset, position, ticket.store_ms).unwrap();
            out
        })
    }
}

/// Appends, waiting while the shard is busy.
pub(crate) async fn append(shard: &Shard, message: &Message) -> Result<Ticket, AppendError> {
    loop {
        match message.append(shard) {
            Err(AppendError::Busy { .. }) => {
                let _ = ringmq_rt::timeout(std::time::Duration::from_millis(1), std::future::pending::<()>()).await;
            }
            other => return other,
        }
    }
}

/// A shard that rolls, snapshots and spills soon.
pub(crate) fn small(flush: FlushPolicy) -> ShardOptions {
    ShardOptions {
        flush,
        segment_size: 128 << 10,
        record_max: 64 << 10,
        tail_cache_bytes: 64 << 10,
        cold_cache_bytes: 1 << 20,
        unwritten_max: 256 << 10,
        snapshot_bytes: 256 << 10,
        ..ShardOptions::default()
    }
}

pub(crate) fn first() -> ShardId {
    ShardId::new(0).unwrap()
}

pub(crate) async fn open_at(root: &Path, options: ShardOptions) -> Result<(Store, Shard), OpenError> {
    let store = Store::open(root, StoreOptions { shards: None, default_shards: 1 }).await?;
    let shard = Shard::open(root, first(), store.meta(), options).await?;
    Ok((store, shard))
}

pub(crate) async fn open(options: ShardOptions) -> Result<(Store, Shard), OpenError> {
    open_at(Path::new(ROOT), options).await
}

pub(crate) async fn close(store: Store, shard: &Shard) {
    let flushed = shard.close().await.unwrap();
    store.close(&[(first(), flushed)]).await.unwrap();
}

pub(crate) fn request(topic: &str, queue_id: i32, offset: u64) -> ReadRequest<'_> {
    ReadRequest { topic, queue_id, offset: QueueOffset(offset), max_messages: 32, max_bytes: 256 << 10 }
}

/// From memory if it is there, otherwise with the disk.
pub(crate) async fn read(shard: &Shard, request: ReadRequest<'_>) -> ReadBatch {
    match shard.read(request, &mut |_| true).unwrap() {
        ReadPlan::Ready(batch) => batch,
        ReadPlan::Cold => shard.read_cold(request, &mut |_| true).await.unwrap(),
    }
}

/// All records of a queue, from its first to its last.
pub(crate) async fn all(shard: &Shard, topic: &str, queue: i32) -> Vec<Vec<u8>> {
    let mut at = shard.first_offset(topic, queue).await.unwrap().map_or(0, |first| first.0);
    let mut records = Vec::new();
    loop {
        let batch = read(shard, request(topic, queue, at)).await;
        if batch.status != ReadStatus::Found {
            return records;
        }
        records.extend(batch.records.iter().map(|r| r.to_vec()));
        at = batch.next.0;
    }
}
