//! The simulated world keeps its own promises: the seed is the run, the disk loses what it may and nothing else.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/shards.rs"]
mod shards;
#[path = "sim/world.rs"]
mod world;

use ringmq_rt::{AlignedBuf, BLOCK, File, Slice};

/// One block of `byte`s.
fn block(byte: u8) -> Slice {
    blocks(byte, 1)
}

fn blocks(byte: u8, count: usize) -> Slice {
    let mut buf = AlignedBuf::new(count * BLOCK).unwrap();
    buf.fill(byte);
    buf.freeze()
}

async fn read_block(file: &File, number: u64) -> Vec<u8> {
    let (buf, len) = file.read_at(AlignedBuf::new(BLOCK).unwrap(), number * BLOCK as u64).await.unwrap();
    buf[..len].to_vec()
}
