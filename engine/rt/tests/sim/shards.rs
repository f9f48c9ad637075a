//! Shards of one simulated process: posts between them, and the stop signal.

use std::time::Duration;

use ringmq_rt::host::Stop;
use ringmq_rt::mesh::Mesh;
use ringmq_rt::sim::{CrashKind, Sim};
use ringmq_rt::{sleep, spawn};

#[test]
fn posts_reach_the_other_shard_in_order() {
    for seed in 0..50 {
        Sim::new(seed).run(async {
            let mesh = Mesh::<u64>::new(2, 4);
            let (here, there) = (mesh.bind(0), mesh.bind(1));
            spawn("answering shard", async move {
                for number in 0..100 {
                    assert_eq!(there.recv().await, number);
                    there.send(0, number).unwrap();
                }
            })
            .detach();
            for number in 0..100 {
                here.send(1, number).unwrap();
                assert_eq!(here.recv().await, number, "seed {seed}");
            }
        });
    }
}

#[test]
fn a_full_mailbox_holds_back_and_then_refuses() {
    Sim::new(1).run(async {
        let mesh = Mesh::<u64>::new(2, 4);
        let (here, there) = (mesh.bind(0), mesh.bind(1));
        let mut sent = 0;
        while here.send(1, sent).is_ok() {
            sent += 1;
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(sent, 8, "four in the mailbox and four on their way");
        for number in 0..sent {
            assert_eq!(there.recv().await, number);
        }
    });
}

#[test]
fn a_crash_takes_the_mailboxes_along() {
    let sim = Sim::new(2);
    let mesh = Mesh::<u64>::new(1, 4);
    sim.run(async {
        let post = mesh.bind(0);
        post.send(0, 1).unwrap();
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(sleep(Duration::from_secs(1)));
    let mesh = Mesh::<u64>::new(1, 4);
    let got = sim.run(async {
        let post = mesh.bind(0);
        post.send(0, 2).unwrap();
        post.recv().await
    });
    assert_eq!(got, 2);
}

#[test]
fn a_stop_reaches_everybody_who_waits() {
    Sim::new(3).run(async {
        let stop = Stop::new();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let stop = stop.clone();
                spawn("waiting", async move { stop.requested().await })
            })
            .collect();
        sleep(Duration::from_millis(1)).await;
        stop.request();
        for task in waiting {
            task.await.unwrap();
        }
        stop.requested().await.unwrap();
    });
}
