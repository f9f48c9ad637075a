//! Reading ahead: a reader of old messages gets the same records however far ahead is read, and waits less for the disk
//! the further it is, up to a quarter of the cache. Time is the simulated world's.

use std::time::Duration;

use ringmq_engine::{FlushPolicy, ShardOptions};
use ringmq_rt::now;
use ringmq_rt::sim::Sim;

use super::support::{Message, all, append, close, open, small};

const MESSAGES: usize = 256;
const BODY: usize = 16 << 10;

/// Reads a queue of 4 MiB that is no longer in memory: its records, and the time that it took.
fn read_cold(read_ahead: usize, cold_cache_bytes: u64) -> (Vec<Vec<u8>>, Duration) {
    Sim::new(5).run(async move {
        let options = ShardOptions { segment_size: 2 << 20, read_ahead, cold_cache_bytes, ..small(FlushPolicy::Async) };
        let (store, shard) = open(options).await.unwrap();
        let mut end = 0;
        for n in 0..MESSAGES {
            end = append(&shard, &Message::new("old", 0, vec![n as u8; BODY])).await.unwrap().end;
        }
        shard.flushed(end).await.unwrap();
        let start = now();
        let records = all(&shard, "old", 0).await;
        let took = now().since(start);
        close(store, &shard).await;
        (records, took)
    })
}

#[test]
fn reading_further_ahead_waits_less_and_gives_the_same() {
    let (expected, none) = read_cold(0, 4 << 20);
    assert_eq!(expected.len(), MESSAGES);
    let mut before = none;
    for read_ahead in [1, 4] {
        let (records, took) = read_cold(read_ahead, 4 << 20);
        assert!(records == expected, "other records with {read_ahead} blocks ahead");
        assert!(took < before, "{read_ahead} blocks ahead: {took:?} after {before:?}");
        before = took;
    }
    let (_, quarter) = read_cold(1, 1 << 20);
    let (records, bounded) = read_cold(usize::MAX, 1 << 20);
    assert!(records == expected && bounded == quarter, "{bounded:?} for {quarter:?}: more than a quarter of the cache");
}
