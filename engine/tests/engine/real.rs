//! The same door on the real backend, in a temporary directory.

use std::path::Path;

use ringmq_engine::{FlushPolicy, OpenError, ShardOptions, Store, StoreOptions};
use ringmq_rt::host::block_on;

use super::support::{Message, all, append, close, open_at, small};

#[test]
fn append_flush_close_and_recover_on_the_real_disk() {
    for policy in [FlushPolicy::Sync, FlushPolicy::Async] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        block_on(move || async move {
            let options = ShardOptions { segment_size: 1 << 20, ..small(policy) };
            let (store, shard) = open_at(&root, options.clone()).await.unwrap();
            let mut expect = Vec::new();
            let mut end = 0;
            for n in 0..3_000_u32 {
                let message = Message::new("real", 0, vec![n as u8; (n % 1500) as usize]);
                let ticket = append(&shard, &message).await.unwrap();
                expect.push(message.bytes(&ticket));
                end = ticket.end;
            }
            shard.confirmed(end).await.unwrap();
            assert_eq!(all(&shard, "real", 0).await, expect);
            close(store, &shard).await;
            let (store, shard) = open_at(&root, options.clone()).await.unwrap();
            assert!(store.was_clean() && shard.recovery().replayed_records == 0);
            let ticket = append(&shard, &Message::new("real", 0, vec![7; 10])).await.unwrap();
            assert_eq!(ticket.queue_offset.0, 3_000);
            shard.flushed(ticket.end).await.unwrap();
            assert_eq!(all(&shard, "real", 0).await.len(), 3_001);
            second_opener_is_refused(&root).await;
            close(store, &shard).await;
        })
        .unwrap();
    }
}

async fn second_opener_is_refused(root: &Path) {
    let options = StoreOptions { shards: None, default_shards: 1 };
    let second = Store::open(root, options).await;
    assert!(matches!(second, Err(OpenError::Locked { .. })), "{second:?}");
}
