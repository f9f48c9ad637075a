//! The store's directory: who has it, how it was made, how it was left. One control shard opens it, hands a
//! [`StoreMeta`] to each log shard, and closes it when they are closed.

use std::io;
use std::path::{Path, PathBuf};

use ringmq_rt::fs::{self, DirLock};
use serde::{Deserialize, Serialize};

use crate::dir;
use crate::error::OpenError;
use crate::position::{Epoch, SHARDS_MAX, ShardId};
use crate::table;

/// Version of the format on disk.
pub const FORMAT_VERSION: u32 = 1;

/// How to open a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// The number of shards the operator asked for; it must be that of the store.
    pub shards: Option<u8>,
    /// The number for a new store, if the operator did not ask for one.
    pub default_shards: u8,
}

/// `store.json`: written once.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    version: u32,
    shards: u8,
    /// Number of this store, so that a file of another is never taken for one of this.
    id: u64,
}

/// `checkpoint`: how the store was left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Left {
    epoch: u32,
    clean: bool,
    /// By shard: the log was flushed at least up to here.
    flushed: Vec<u64>,
}

/// What a log shard has to know of its store.
#[derive(Debug, Clone)]
pub struct StoreMeta {
    id: u64,
    shards: u8,
    epoch: Epoch,
    flushed: Vec<u64>,
}

impl StoreMeta {
    /// Number of the store.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Number of log shards.
    pub fn shards(&self) -> u8 {
        self.shards
    }

    /// The term of this opening.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The log of `shard` is known to be flushed up to here.
    pub fn flushed(&self, shard: ShardId) -> u64 {
        self.flushed.get(usize::from(shard.get())).copied().unwrap_or(0)
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    meta: StoreMeta,
    was_clean: bool,
    _lock: DirLock,
}

impl Store {
    /// Opens the store at `root`, or makes one. From here on a crash is noticed, and no other process gets in.
    ///
    /// # Errors
    /// Another process has it, it has another number of shards, or it cannot be understood.
    pub async fn open(root: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        dir::make(root, root.parent().unwrap_or(root)).await?;
        let lock = fs::lock_dir(root).await.map_err(OpenError::io("lock", root))?;
        let lock = lock.map_err(|holder| OpenError::Locked { path: root.to_path_buf(), holder })?;
        let made = made(root, options).await?;
        let checkpoint = root.join("checkpoint");
        let left: Left = table::load(&checkpoint).await?.unwrap_or_default();
        let abort = root.join("abort");
        let aborted = fs::read(&abort, 64).await.map_err(OpenError::io("read", &abort))?.is_some();
        let was_clean = left.clean && !aborted;
        // The epoch is durable before anything is written under it.
        let now = Left { epoch: left.epoch + 1, clean: false, flushed: left.flushed.clone() };
        table::save(&checkpoint, &now).await.map_err(OpenError::io("write", &checkpoint))?;
        let marker = format!("{}\n", std::process::id()).into_bytes();
        fs::replace(&abort, marker, false).await.map_err(OpenError::io("write", &abort))?;
        let meta = StoreMeta { id: made.id, shards: made.shards, epoch: Epoch(now.epoch), flushed: now.flushed };
        Ok(Self { root: root.to_path_buf(), meta, was_clean, _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn meta(&self) -> &StoreMeta {
        &self.meta
    }

    /// Whether the last run was closed in order.
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Where RocketMQ's tables are.
    pub fn config_dir(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Notes that every shard was closed in order, with what each has flushed. A shard that is missing keeps what was
    /// known before, and the store does not count as left clean.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn close(self, flushed: &[(ShardId, u64)]) -> io::Result<()> {
        let mut all = self.meta.flushed.clone();
        all.resize(usize::from(self.meta.shards), 0);
        for &(shard, offset) in flushed {
            if let Some(known) = all.get_mut(usize::from(shard.get())) {
                *known = offset.max(*known);
            }
        }
        let clean = flushed.len() == usize::from(self.meta.shards);
        let left = Left { epoch: self.meta.epoch.0, clean, flushed: all };
        table::save(&self.root.join("checkpoint"), &left).await?;
        if clean {
            fs::remove(&self.root.join("abort")).await?;
            fs::sync_dir(&self.root).await?;
        }
        Ok(())
    }
}

/// How the store was made; makes it if there is none.
async fn made(root: &Path, options: StoreOptions) -> Result<Made, OpenError> {
    let path = root.join("store.json");
    if let Some(made) = table::load::<Made>(&path).await? {
        if made.version != FORMAT_VERSION {
            return Err(OpenError::Version { path, found: made.version, known: FORMAT_VERSION });
        }
        if let Some(asked) = options.shards.filter(|&asked| asked != made.shards) {
            return Err(OpenError::ShardCount { stored: made.shards, asked });
        }
        return Ok(made);
    }
    let shards = options.shards.unwrap_or(options.default_shards);
    if shards == 0 || shards > SHARDS_MAX {
        return Err(OpenError::BadShardCount(shards));
    }
    let logs = root.join("commitlog");
    dir::make(&logs, root).await?;
    if !fs::read_dir(&logs).await.map_err(OpenError::io("list", &logs))?.is_empty() {
        return Err(OpenError::NoMeta { path: root.to_path_buf() });
    }
    let made = Made { version: FORMAT_VERSION, shards, id: new_id(root) };
    table::save(&path, &made).await.map_err(OpenError::io("write", &path))?;
    Ok(made)
}

/// A number that no other store has, for all practical purposes: clocks, process and path, well mixed.
fn new_id(root: &Path) -> u64 {
    use std::hash::BuildHasher;
    let seed = (ringmq_rt::wall_ms(), ringmq_rt::now().0, std::process::id(), root);
    foldhash::quality::FixedState::with_seed(0x52_4d_51).hash_one(seed)
}

#[cfg(test)]
mod tests;
