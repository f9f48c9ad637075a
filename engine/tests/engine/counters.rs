//! What a shard says of its writes and flushes is what it did.

use std::time::Duration;

use ringmq_engine::{FlushPolicy, Shard, ShardOptions};
use ringmq_rt::sim::Sim;

use super::support::{Message, append, open, small};

/// Flushes come only when asked for.
fn patient(flush: FlushPolicy) -> ShardOptions {
    ShardOptions { flush_interval: Duration::from_secs(3600), ..small(flush) }
}

/// Appends in one turn, so that one write takes all.
async fn burst(shard: &Shard, messages: usize) -> u64 {
    let ends: Vec<u64> = (0..messages).map(|_| Message::new("t", 0, vec![1; 100]).append(shard).unwrap().end).collect();
    let end = ends[messages - 1];
    shard.confirmed(end).await.unwrap();
    end
}

#[test]
fn each_write_is_a_flush_under_sync_flush() {
    Sim::new(1).run(async {
        let (_store, shard) = open(patient(FlushPolicy::Sync)).await.unwrap();
        for messages in [5, 1, 2] {
            burst(&shard, messages).await;
        }
        let counters = shard.stats().counters;
        assert_eq!((counters.appends, counters.writes.operations, counters.writes.messages), (8, 3, 8));
        assert_eq!(counters.writes.sizes.counts()[..4], [1, 1, 1, 0]);
        assert_eq!(counters.flushes, counters.writes);
        assert_eq!(counters.flushes.bytes, 3 * 4096, "a batch fills its block");
    });
}

#[test]
fn a_flush_covers_the_writes_before_it_under_async_flush() {
    Sim::new(1).run(async {
        let (_store, shard) = open(patient(FlushPolicy::Async)).await.unwrap();
        burst(&shard, 5).await;
        let end = burst(&shard, 4).await;
        let counters = shard.stats().counters;
        assert_eq!((counters.writes.operations, counters.writes.messages), (2, 9));
        assert_eq!(counters.flushes.operations, 0);
        shard.hurry_flush();
        shard.flushed(end).await.unwrap();
        let counters = shard.stats().counters;
        assert_eq!((counters.flushes.operations, counters.flushes.messages, counters.flushes.bytes), (1, 9, 8192));
        assert_eq!(counters.flushes.sizes.counts()[..5], [0, 0, 0, 1, 0]);
        assert_eq!(counters.writes.sizes.counts()[..5], [0, 0, 2, 0, 0]);
    });
}

#[test]
fn the_oldest_message_is_known_once_it_is_safe() {
    Sim::new(1).run(async {
        let (_store, shard) = open(patient(FlushPolicy::Sync)).await.unwrap();
        assert_eq!(shard.oldest_store_time().await.unwrap(), None);
        let first = Message::new("t", 0, vec![1; 100]).append(&shard).unwrap();
        assert_eq!(shard.oldest_store_time().await.unwrap(), None, "no reader sees it yet");
        shard.confirmed(first.end).await.unwrap();
        // The log rolls on through segments while its buffers are let go: the first record comes from the disk.
        for _ in 0..40 {
            let end = append(&shard, &Message::new("t", 0, vec![2; 30_000])).await.unwrap().end;
            shard.confirmed(end).await.unwrap();
        }
        assert_eq!(shard.oldest_store_time().await.unwrap(), Some(first.store_ms));
    });
}
