//! A shard's sign of life: a task that calls somebody again and again. What it proves is that the shard still takes
//! turns; a thread beside the shards could not.

use std::sync::Arc;
use std::time::Duration;

use crate::{sleep, spawn};

/// Who is called, and how often.
#[derive(Clone)]
pub struct Heartbeat {
    period: Duration,
    beat: Arc<dyn Fn(usize) + Send + Sync>,
}

impl Heartbeat {
    /// `beat` is called with a shard's number, on that shard: it must not block.
    pub fn new(period: Duration, beat: impl Fn(usize) + Send + Sync + 'static) -> Heartbeat {
        Heartbeat { period, beat: Arc::new(beat) }
    }

    /// Begins on this shard, and ends with it.
    pub fn start(&self, shard: usize) {
        let Heartbeat { period, beat } = self.clone();
        spawn("heartbeat", async move {
            loop {
                beat(shard);
                sleep(period).await;
            }
        })
        .detach();
    }
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Heartbeat({:?})", self.period)
    }
}
