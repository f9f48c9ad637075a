use ringmq_rt::sim::{CrashKind, Sim};

use super::*;

const ROOT: &str = "/srv/store";

async fn open(shards: Option<u8>) -> Result<Store, OpenError> {
    Store::open(Path::new(ROOT), StoreOptions { shards, default_shards: 2 }).await
}

fn shard(n: u8) -> ShardId {
    ShardId::new(n).unwrap()
}

#[test]
fn the_number_of_shards_is_fixed_and_the_epoch_grows() {
    let sim = Sim::new(1);
    sim.run(async {
        let store = open(None).await.unwrap();
        assert_eq!((store.meta().shards(), store.meta().epoch(), store.was_clean()), (2, Epoch(1), false));
        assert!(matches!(open(None).await, Err(OpenError::Locked { .. })));
        store.close(&[(shard(0), 4096), (shard(1), 8192)]).await.unwrap();
        let other = open(Some(3)).await;
        assert!(matches!(other, Err(OpenError::ShardCount { stored: 2, asked: 3 })), "{other:?}");
        let store = open(Some(2)).await.unwrap();
        assert_eq!((store.meta().epoch(), store.was_clean()), (Epoch(2), true));
        assert_eq!((store.meta().flushed(shard(0)), store.meta().flushed(shard(1))), (4096, 8192));
    });
}

#[test]
fn a_crash_is_noticed_and_what_was_flushed_is_not_forgotten() {
    let sim = Sim::new(2);
    sim.run(async {
        let store = open(Some(1)).await.unwrap();
        store.close(&[(shard(0), 4096)]).await.unwrap();
        std::mem::forget(open(None).await.unwrap());
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let store = open(None).await.unwrap();
        assert_eq!((store.was_clean(), store.meta().epoch(), store.meta().flushed(shard(0))), (false, Epoch(3), 4096));
        // One shard was not closed in order.
        store.close(&[]).await.unwrap();
        let store = open(None).await.unwrap();
        assert_eq!((store.was_clean(), store.meta().flushed(shard(0))), (false, 4096));
    });
}

#[test]
fn what_is_no_store_of_ours_is_left_alone() {
    let sim = Sim::new(3);
    let disk = sim.disk();
    sim.run(async {
        assert!(matches!(open(Some(129)).await, Err(OpenError::BadShardCount(129))));
        assert!(matches!(open(Some(0)).await, Err(OpenError::BadShardCount(0))));
        disk.write_all("/srv/store/store.json", br#"{"version":9,"shards":2,"id":1}"#).unwrap();
        assert!(matches!(open(None).await, Err(OpenError::Version { found: 9, .. })));
        fs::remove(Path::new("/srv/store/store.json")).await.unwrap();
        disk.write_all("/srv/store/commitlog/00000000000000000000", b"apache").unwrap();
        assert!(matches!(open(None).await, Err(OpenError::NoMeta { .. })));
    });
}
