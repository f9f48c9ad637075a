//! The production backend on this machine's kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use ringmq_rt::net::{ListenOptions, Listener, Outbox, Stream};
use ringmq_rt::{AlignedBuf, BLOCK, CommitMethod, File, Slice, fs, host, mesh, now, sleep, spawn, timeout, yield_now};

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Answers every byte with itself until the peer finishes.
async fn echo(stream: Stream) {
    let mut out = Outbox::new();
    while let Ok(Some(chunk)) = stream.recv().await {
        out.push(chunk);
        let (sent, back) = stream.send(out).await;
        sent.unwrap();
        out = back;
    }
}

#[test]
fn bytes_come_back_in_order_over_many_buffers() {
    host::block_on(|| async {
        let listener = Listener::bind(any_port(), ListenOptions::default()).unwrap();
        let addr = listener.local_addr();
        spawn("server", async move { echo(listener.accept().await.unwrap()).await }).detach();
        let stream = Rc::new(Stream::connect(addr, Duration::from_secs(5)).await.unwrap());
        // More than the socket buffers and the receive buffers of the shard together.
        let total = 48 << 20;
        let sender = Rc::clone(&stream);
        let sending = spawn("client", async move {
            let mut sent = 0;
            let mut out = Outbox::new();
            while sent < total {
                let chunk: Vec<u8> = (sent..sent + 65536).map(|i| (i / 251) as u8).collect();
                sent += chunk.len();
                out.write(|b| b.extend_from_slice(&chunk[..1000]));
                out.push(Slice::from(chunk[1000..].to_vec()));
                let (result, back) = sender.send(out).await;
                result.unwrap();
                out = back;
            }
        });
        let mut got = 0;
        while got < total {
            let chunk = stream.recv().await.unwrap().expect("the peer finished early");
            for &b in &*chunk {
                assert_eq!(b, (got / 251) as u8, "byte {got}");
                got += 1;
            }
        }
        sending.await;
    })
    .unwrap();
}

#[test]
fn starved_receivers_go_on_when_buffers_come_back() {
    host::block_on(|| async {
        let listener = Listener::bind(any_port(), ListenOptions::default()).unwrap();
        let addr = listener.local_addr();
        let mut ends = Vec::new();
        for _ in 0..64 {
            let client = Stream::connect(addr, Duration::from_secs(5)).await.unwrap();
            ends.push((client, listener.accept().await.unwrap()));
        }
        // Every connection has a megabyte under way and nobody reads: together far more than the shard's receive buffers.
        // Whoever reads first must not wait for the others.
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        for (client, server) in ends {
            receivers.push(server);
            senders.push(spawn("sender", async move {
                let mut out = Outbox::new();
                out.push(Slice::from(vec![7_u8; 1 << 20]));
                client.send(out).await.0.unwrap();
                client
            }));
        }
        let mut firsts = Vec::new();
        for server in &receivers {
            firsts.push(server.recv().await.unwrap().unwrap());
        }
        for (server, first) in receivers.iter().zip(firsts) {
            let mut got = first.len();
            drop(first);
            while got < 1 << 20 {
                got += server.recv().await.unwrap().expect("finished early").len();
            }
            assert_eq!(got, 1 << 20);
        }
        for sender in senders {
            sender.await;
        }
    })
    .unwrap();
}

#[test]
fn what_lies_in_full_sockets_arrives_whole_and_more_follows() {
    host::block_on(|| async {
        let listener = Listener::bind(any_port(), ListenOptions::default()).unwrap();
        // Together more than the shard's receive buffers, so that none can be emptied in one go.
        let mut ends = Vec::new();
        let mut sent = 0;
        while sent < 24 << 20 {
            let mut client = TcpStream::connect(listener.local_addr()).unwrap();
            client.set_nonblocking(true).unwrap();
            let mut of_this = 0;
            loop {
                match client.write(&[7; 65536]) {
                    Ok(n) => of_this += n,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => panic!("{e}"),
                }
            }
            sent += of_this;
            ends.push((client, listener.accept().await.unwrap(), of_this));
        }
        for (client, server, sent) in &mut ends {
            let mut got = 0;
            while got < *sent {
                got += server.recv().await.unwrap().expect("finished early").len();
            }
            assert_eq!(got, *sent);
            client.write_all(b"more").unwrap();
            assert_eq!(&*server.recv().await.unwrap().unwrap(), b"more");
        }
    })
    .unwrap();
}

#[test]
fn a_peer_that_leaves_ends_the_receive() {
    host::block_on(|| async {
        let listener = Listener::bind(any_port(), ListenOptions::default()).unwrap();
        let client = Stream::connect(listener.local_addr(), Duration::from_secs(5)).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert_eq!(server.peer_addr(), client.local_addr());
        drop(client);
        assert!(server.recv().await.unwrap().is_none());
    })
    .unwrap();
}

#[test]
fn every_commit_method_writes_what_a_read_returns() {
    host::block_on(|| async {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("log");
        let file = File::create(&path).await.unwrap();
        file.allocate(1 << 20).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 1 << 20);
        let methods = [CommitMethod::RingDsync, CommitMethod::RingWriteThenSync, CommitMethod::Thread];
        for (i, method) in methods.into_iter().enumerate() {
            let mut block = AlignedBuf::new(2 * BLOCK).unwrap();
            block.fill(i as u8 + 1);
            let block = block.freeze();
            let parts = [block.cut(0..BLOCK), block.cut(BLOCK..2 * BLOCK)];
            file.commit(&parts, (i * 2 * BLOCK) as u64, method).await.unwrap();
        }
        file.write_at(&[AlignedBuf::new(BLOCK).unwrap().freeze()], 0).await.unwrap();
        file.sync().await.unwrap();
        let (back, n) = file.read_at(AlignedBuf::new(8 * BLOCK).unwrap(), 0).await.unwrap();
        assert_eq!(n, 8 * BLOCK);
        let firsts: Vec<u8> = back.chunks(BLOCK).map(|b| b[0]).collect();
        assert_eq!(firsts, [0, 1, 2, 2, 3, 3, 0, 0]);
        let (_, n) = file.read_at(AlignedBuf::new(2 * BLOCK).unwrap(), (1 << 20) - BLOCK as u64).await.unwrap();
        assert_eq!(n, BLOCK, "a read ends at the end of the file");
    })
    .unwrap();
}

#[test]
fn small_files_are_replaced_and_the_old_one_kept() {
    host::block_on(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topics.json");
        assert_eq!(fs::read(&path, 10).await.unwrap(), None);
        fs::replace(&path, b"one".to_vec(), true).await.unwrap();
        fs::replace(&path, b"two".to_vec(), true).await.unwrap();
        assert_eq!(fs::read(&path, 10).await.unwrap().unwrap(), b"two");
        assert_eq!(fs::read(&dir.path().join("topics.json.bak"), 10).await.unwrap().unwrap(), b"one");
        assert!(fs::read(&path, 2).await.is_err(), "longer than allowed");
        let names = fs::read_dir(dir.path()).await.unwrap();
        assert_eq!(names, ["topics.json", "topics.json.bak"].map(std::path::PathBuf::from));
        let lock = fs::lock_dir(dir.path()).await.unwrap().unwrap();
        assert_eq!(fs::lock_dir(dir.path()).await.unwrap().unwrap_err(), std::process::id().to_string());
        drop(lock);
        assert!(fs::lock_dir(dir.path()).await.unwrap().is_ok());
        let space = fs::space(dir.path()).await.unwrap();
        let [used, free] = df(dir.path());
        // Others use the disk meanwhile.
        let near = |a: u64, b: u64| a.abs_diff(b) <= (used + free) / 50;
        assert!(near(space.total, used + free) && near(space.free, free), "{space:?}, df: {used} used, {free} free");
    })
    .unwrap();
}

/// Used and free bytes by the word of `df`.
fn df(at: &std::path::Path) -> [u64; 2] {
    let output = std::process::Command::new("df").args(["-B1", "--output=used,avail"]).arg(at).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.lines().nth(1).unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// glommio parks an executor whose preemption timer fires at the wrong moment although tasks are runnable. The shard must
/// make progress with runnable tasks only, for longer than the default timer needs to fire many times.
#[test]
fn an_executor_with_runnable_tasks_only_goes_on() {
    host::block_on(|| async {
        let rounds = Rc::new(Cell::new(0_u64));
        let stop = Rc::new(Cell::new(false));
        for _ in 0..8 {
            let (rounds, stop) = (Rc::clone(&rounds), Rc::clone(&stop));
            spawn("spinner", async move {
                while !stop.get() {
                    rounds.set(rounds.get() + 1);
                    yield_now().await;
                }
            })
            .detach();
        }
        let start = now();
        let mut last = 0;
        while now().since(start) < Duration::from_secs(3) {
            sleep(Duration::from_millis(50)).await;
            let n = rounds.get();
            assert!(n > last, "no task ran for 50 ms");
            last = n;
        }
        stop.set(true);
    })
    .unwrap();
}

#[test]
fn timers_fire_in_order_and_dropped_ones_do_not() {
    host::block_on(|| async {
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let tasks: Vec<_> = [30, 10, 20]
            .into_iter()
            .map(|ms| {
                let order = Rc::clone(&order);
                spawn("timer", async move {
                    sleep(Duration::from_millis(ms)).await;
                    order.borrow_mut().push(ms);
                })
            })
            .collect();
        assert!(timeout(Duration::from_millis(1), sleep(Duration::from_secs(60))).await.is_err());
        for task in tasks {
            task.await;
        }
        assert_eq!(*order.borrow(), [10, 20, 30]);
    })
    .unwrap();
}

#[test]
fn mail_crosses_shards_in_order_while_they_sleep() {
    let mesh = mesh::Mesh::<u64>::new(2, 64);
    let peer = mesh.clone();
    let shard = host::start(Some(0), move || async move {
        let post = peer.bind(1);
        for expected in 0..10_000 {
            let n = post.recv().await;
            assert_eq!(n, expected);
            let mut mail = n;
            while let Err((_, back)) = post.send(0, mail) {
                mail = back;
                yield_now().await;
            }
        }
    })
    .unwrap();
    host::block_on(move || async move {
        let post = mesh.bind(0);
        let mut got = 0;
        for n in 0..10_000 {
            let mut mail = n;
            while let Err((_, back)) = post.send(1, mail) {
                mail = back;
                assert_eq!(post.recv().await, got);
                got += 1;
            }
            // A pause now and then, so that both sides fall asleep.
            if n % 1000 == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        }
        while got < 10_000 {
            assert_eq!(post.recv().await, got);
            got += 1;
        }
    })
    .unwrap();
    shard.join().unwrap();
}

#[test]
fn stop_reaches_a_sleeping_shard_from_a_plain_thread() {
    let stop = host::Stop::new();
    let waiting = stop.clone();
    let shard = host::start(None, move || async move { waiting.requested().await }).unwrap();
    std::thread::spawn(move || stop.request()).join().unwrap();
    shard.join().unwrap().unwrap();
}
