//! The stores of runs of one shard, as the log feeds them: what a record is found by, and when it is due. All of them are
//! derived from the log and are built again from it where they are not on disk.

use std::io;
use std::rc::Rc;

use ringmq_protocol::names;

use crate::keys::Keys;
use crate::record::Head;
use crate::runs::{Runs, Vouched};

/// The stores.
#[derive(Debug, Clone)]
pub(crate) struct Indexes {
    /// The key index; `None` when it is switched off.
    pub(crate) keys: Option<Rc<Runs>>,
    /// Due time, in milliseconds since 1970 → record.
    pub(crate) timers: Rc<Runs>,
}

/// What a snapshot vouches for of each store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Vouchers {
    /// Nothing when the key index is switched off.
    pub(crate) keys: Vouched,
    pub(crate) timers: Vouched,
}

/// What a record has for the stores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) topic: &'a str,
    pub(crate) keys: Keys<'a>,
    pub(crate) due_ms: Option<u64>,
}

impl<'a> Terms<'a> {
    pub(crate) fn of(head: &Head<'a>) -> Self {
        let due_ms = if head.topic == names::TIMER_TOPIC { head.due_ms() } else { None };
        Self { topic: head.topic, keys: head.keys(), due_ms }
    }
}

impl Indexes {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Rc<Runs>> {
        self.keys.iter().chain([&self.timers])
    }

    /// Adds what the record at `offset` has, which is in the batch that begins at `batch`.
    pub(crate) fn insert(&self, terms: &Terms<'_>, offset: u64, batch: u64) {
        if let Some(runs) = &self.keys {
            terms.keys.hashes(terms.topic, |key| runs.insert(key, offset, batch));
        }
        if let Some(due_ms) = terms.due_ms {
            self.timers.insert(due_ms, offset, batch);
        }
    }

    /// The same while the log is replayed: those that have the batch already are left as they are.
    pub(crate) fn insert_missing(&self, terms: &Terms<'_>, offset: u64, batch: u64) {
        if let Some(runs) = self.keys.as_ref().filter(|runs| batch >= runs.covered()) {
            terms.keys.hashes(terms.topic, |key| runs.insert(key, offset, batch));
        }
        if let Some(due_ms) = terms.due_ms.filter(|_| batch >= self.timers.covered()) {
            self.timers.insert(due_ms, offset, batch);
        }
    }

    /// Whether more may be inserted.
    pub(crate) fn have_room(&self) -> bool {
        self.all().all(|runs| runs.has_room())
    }

    /// All that records in front of this log offset have is in runs.
    pub(crate) fn covered(&self) -> u64 {
        self.all().map(|runs| runs.covered()).min().unwrap_or(0)
    }

    /// Up to where the runs claim the log to be flushed.
    pub(crate) fn claimed(&self) -> u64 {
        self.all().map(|runs| runs.covered()).max().unwrap_or(0)
    }

    /// Asks for everything in front of `batch`, where the open batch begins, to be written out.
    pub(crate) fn want(&self, batch: u64) {
        for runs in self.all() {
            runs.want(batch);
        }
    }

    /// What a snapshot that is written from here on may vouch for.
    pub(crate) async fn vouch(&self) -> io::Result<Vouchers> {
        let keys = match &self.keys {
            Some(keys) => keys.vouch().await?,
            None => Vouched::default(),
        };
        Ok(Vouchers { keys, timers: self.timers.vouch().await? })
    }

    pub(crate) fn drop_in_front_of(&self, start: u64) {
        for runs in self.all() {
            runs.drop_in_front_of(start);
        }
    }

    pub(crate) fn wake_everyone(&self) {
        for runs in self.all() {
            runs.wake_everyone();
        }
    }
}
