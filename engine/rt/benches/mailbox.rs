//! What a hop to another core and back costs through the mailboxes, on two pinned executors of the real backend: alone,
//! when both sleep in between, and with so many under way that neither does.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq_rt::host::start;
use ringmq_rt::mesh::{Mesh, Post};

/// The last post of a run.
const END: u64 = u64::MAX;

/// Sends each post back to the first shard.
async fn echo(post: Post<u64>) {
    loop {
        let number = post.recv().await;
        if number == END {
            return;
        }
        post.send_answer(0, number);
    }
}

/// Makes `count` round trips with up to `window` under way; the time that they took.
fn round_trips(count: u64, window: u64) -> Duration {
    let mesh = Mesh::new(2, usize::try_from(window).unwrap() + 1);
    let (near, far) = (mesh.clone(), mesh);
    let echo = start(Some(1), move || async move { echo(far.bind(1)).await }).unwrap();
    let ask = start(Some(0), move || async move {
        let post = near.bind(0);
        // The other shard is there once it has answered.
        post.send_answer(1, 0);
        post.recv().await;
        let begin = Instant::now();
        let (mut sent, mut back) = (0, 0);
        while back < count {
            while sent < count && sent - back < window {
                post.send_answer(1, sent);
                sent += 1;
            }
            post.recv().await;
            back += 1;
            while post.try_recv().is_some() {
                back += 1;
            }
        }
        let took = begin.elapsed();
        post.send_answer(1, END);
        took
    })
    .unwrap();
    let took = ask.join().unwrap();
    echo.join().unwrap();
    took
}

fn hops(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox round trip");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(3));
    for window in [1, 16, 256] {
        group.bench_function(format!("{window} under way"), |b| b.iter_custom(|count| round_trips(count, window)));
    }
    group.finish();
}

criterion_group!(benches, hops);
criterion_main!(benches);
