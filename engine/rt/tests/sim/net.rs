//! What the network in memory promises: bytes in order, in any pieces, and the faults that a test asks for.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringmq_rt::net::{ListenOptions, Listener, Outbox, Stream};
use ringmq_rt::sim::net::{Fragments, NetModel};
use ringmq_rt::sim::{Cache, CrashKind, Disk, NodeId, Sim};
use ringmq_rt::{Slice, now, sleep, spawn, timeout};

const SECOND: Duration = Duration::from_secs(1);
const SERVER: &str = "127.0.0.1:9876";

fn listen(addr: &str) -> Listener {
    Listener::bind(addr.parse().unwrap(), ListenOptions::default()).unwrap()
}

async fn connect(addr: &str) -> io::Result<Stream> {
    Stream::connect(addr.parse().unwrap(), 5 * SECOND).await
}

/// Two ends of one connection on the first node.
async fn pair() -> (Stream, Stream) {
    let listener = listen(SERVER);
    let client = connect(SERVER).await.unwrap();
    (client, listener.accept().await.unwrap())
}

fn outbox(bytes: &[u8]) -> Outbox {
    let mut out = Outbox::new();
    let (own, shared) = bytes.split_at(bytes.len() / 2);
    out.write(|buf| buf.extend_from_slice(own));
    out.push(Slice::from(shared.to_vec()));
    out
}

/// Everything until the peer finished, and how many pieces it came in.
async fn read_to_end(stream: &Stream) -> (Vec<u8>, usize) {
    let (mut bytes, mut pieces) = (Vec::new(), 0);
    while let Some(piece) = stream.recv().await.unwrap() {
        assert!(!piece.is_empty());
        bytes.extend_from_slice(&piece);
        pieces += 1;
    }
    (bytes, pieces)
}

/// Sends a pattern over one connection; the pieces it was received in, and the trace.
fn transfer(seed: u64, fragments: Fragments, len: usize) -> (usize, u64) {
    let sim = Sim::new(seed);
    sim.net().set_model(NetModel { fragments, window: 10_000, ..NetModel::default() });
    let pattern: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
    let sent = pattern.clone();
    let pieces = sim.run(async {
        let (client, server) = pair().await;
        let sender = spawn("sender", async move {
            for part in sent.chunks(3000) {
                let (result, out) = client.send(outbox(part)).await;
                result.unwrap();
                assert!(out.is_empty());
            }
            client.shutdown();
            assert_eq!(client.send(outbox(b"x")).await.0.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
        let (bytes, pieces) = read_to_end(&server).await;
        assert!(bytes == pattern, "seed {seed}: bytes are lost or out of order");
        sender.await;
        pieces
    });
    (pieces, sim.trace())
}

#[test]
fn bytes_arrive_in_order_in_pieces_of_any_size() {
    for seed in 0..100 {
        transfer(seed, Fragments::Seeded, 50_000);
    }
    let whole = transfer(1, Fragments::Whole, 50_000).0;
    let tiny = transfer(1, Fragments::Tiny, 50_000).0;
    assert!(whole < 100 && tiny > 50_000 / 3, "{whole} {tiny}");
}

#[test]
fn the_seed_is_the_transfer() {
    for seed in 0..30 {
        assert_eq!(transfer(seed, Fragments::Seeded, 20_000), transfer(seed, Fragments::Seeded, 20_000));
    }
    assert_ne!(transfer(1, Fragments::Seeded, 20_000).1, transfer(2, Fragments::Seeded, 20_000).1);
}

#[test]
fn a_reader_that_stands_still_holds_the_sender() {
    let sim = Sim::new(2);
    sim.net().set_model(NetModel { window: 1000, ..NetModel::default() });
    sim.run(async {
        let (client, server) = pair().await;
        timeout(SECOND, client.send(outbox(&[1; 1001]))).await.unwrap_err();
        let mut read = 0;
        while let Some(piece) = server.try_recv() {
            read += piece.len();
        }
        assert_eq!(read, 1000);
        timeout(SECOND, client.send(outbox(&[1; 500]))).await.unwrap().0.unwrap();
    });
}

#[test]
fn shutdown_ends_what_waits_and_a_drop_finishes() {
    let sim = Sim::new(3);
    sim.run(async {
        let (client, server) = pair().await;
        let (client, server) = (Rc::new(client), Rc::new(server));
        let waiting = Rc::clone(&client);
        let pending = spawn("pending", async move { waiting.recv().await });
        sleep(SECOND).await;
        client.shutdown();
        assert!(pending.await.unwrap().is_none());
        assert!(server.recv().await.unwrap().is_none());

        let (client, server) = pair().await;
        client.send(outbox(b"last")).await.0.unwrap();
        drop(client);
        assert_eq!(read_to_end(&server).await.0, b"last");
        // Whoever sends to a peer that is gone learns it a little later.
        let _ = server.send(outbox(b"anybody?")).await;
        sleep(SECOND).await;
        assert_eq!(server.send(outbox(b"no")).await.0.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
    assert_eq!(sim.net().open_connections(), 0);
}

#[test]
fn closing_with_unread_bytes_resets_the_peer() {
    let sim = Sim::new(4);
    sim.run(async {
        let (client, server) = pair().await;
        client.send(outbox(b"unread")).await.0.unwrap();
        sleep(SECOND).await;
        drop(server);
        assert_eq!(client.recv().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn ports_are_refused_shared_and_freed() {
    let sim = Sim::new(5);
    sim.run(async {
        assert_eq!(connect(SERVER).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let any = listen("0.0.0.0:0");
        let port = any.local_addr().port();
        let at = format!("127.0.0.1:{port}");
        let client = connect(&at).await.unwrap();
        let server = any.accept().await.unwrap();
        assert_eq!((client.peer_addr(), client.local_addr()), (server.local_addr(), server.peer_addr()));

        let alone = ListenOptions { reuse_port: false, ..ListenOptions::default() };
        let taken = Listener::bind(at.parse().unwrap(), alone).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let shards = [any, listen(&at)];
        let hits = [Rc::new(Cell::new(0)), Rc::new(Cell::new(0))];
        for (shard, hit) in shards.into_iter().zip(&hits) {
            let hit = Rc::clone(hit);
            spawn("acceptor", async move {
                loop {
                    shard.accept().await.unwrap();
                    hit.set(hit.get() + 1);
                }
            })
            .detach();
        }
        for _ in 0..100 {
            connect(&at).await.unwrap();
        }
        sleep(SECOND).await;
        assert!(hits.iter().all(|hit| hit.get() > 20) && hits[0].get() + hits[1].get() == 100);
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async { drop(listen(SERVER)) });
}

#[test]
fn a_full_descriptor_table_is_reported_once() {
    let sim = Sim::new(6);
    sim.run(async {
        let listener = listen(SERVER);
        let _client = connect(SERVER).await.unwrap();
        assert!(sim.net().fail_next_accept(NodeId::FIRST, 9876));
        assert!(listener.accept().await.is_err());
        listener.accept().await.unwrap();
    });
}

/// A world with a second node that answers each piece with itself, at the address in the result.
fn with_echo(seed: u64) -> (Sim, NodeId, String) {
    let sim = Sim::new(seed);
    let node = sim.add_node(Disk::new(seed));
    start_echo(&sim, node);
    let at = SocketAddr::new(node.ip(), 9876).to_string();
    (sim, node, at)
}

fn start_echo(sim: &Sim, node: NodeId) {
    sim.spawn_on(node, async {
        let listener = listen("0.0.0.0:9876");
        loop {
            let stream = listener.accept().await.unwrap();
            spawn("echo", async move {
                while let Ok(Some(piece)) = stream.recv().await {
                    if stream.send(outbox(&piece)).await.0.is_err() {
                        break;
                    }
                }
            })
            .detach();
        }
    });
}

async fn echo(stream: &Stream, bytes: &[u8]) {
    stream.send(outbox(bytes)).await.0.unwrap();
    let mut back = Vec::new();
    while back.len() < bytes.len() {
        back.extend_from_slice(&stream.recv().await.unwrap().unwrap());
    }
    assert_eq!(back, bytes);
}

#[test]
fn a_partition_delays_and_loses_nothing() {
    for seed in 0..20 {
        let (sim, node, at) = with_echo(seed);
        sim.run(async {
            let stream = connect(&at).await.unwrap();
            echo(&stream, b"before").await;
            sim.net().partition_one_way(node, NodeId::FIRST);
            assert!(timeout(10 * SECOND, echo(&stream, b"during")).await.is_err());
            let start = now();
            assert_eq!(connect(&at).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(now().since(start) >= 5 * SECOND);
            sim.net().heal();
            let mut late = Vec::new();
            while late.len() < 6 {
                late.extend_from_slice(&timeout(SECOND, stream.recv()).await.unwrap().unwrap().unwrap());
            }
            assert_eq!(late, b"during");
            echo(&stream, b"after").await;
        });
    }
}

#[test]
fn a_reset_is_seen_at_both_ends() {
    let (sim, node, at) = with_echo(7);
    sim.run(async {
        let stream = connect(&at).await.unwrap();
        echo(&stream, b"x").await;
        sim.net().reset_between(node, NodeId::FIRST);
        assert_eq!(stream.recv().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stream.send(outbox(b"x")).await.0.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        drop(stream);
        sleep(SECOND).await;
        assert_eq!(sim.net().open_connections(), 0);
        echo(&connect(&at).await.unwrap(), b"again").await;
    });
}

#[test]
fn a_killed_process_closes_and_a_dark_machine_is_silent() {
    for seed in 0..20 {
        let (sim, node, at) = with_echo(seed);
        sim.run(async {
            let stream = connect(&at).await.unwrap();
            echo(&stream, b"x").await;
            sim.crash_node(node, CrashKind::ProcessKill);
            let end = timeout(SECOND, stream.recv()).await.expect("the kernel closes what a killed process held");
            assert!(matches!(end, Ok(None) | Err(_)));
            assert_eq!(connect(&at).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            sim.restart_node(node);
            start_echo(&sim, node);
            sleep(SECOND).await;

            let stream = connect(&at).await.unwrap();
            echo(&stream, b"x").await;
            sim.crash_node(node, CrashKind::PowerCut(Cache::Random));
            stream.send(outbox(b"hello?")).await.0.unwrap();
            assert!(timeout(60 * SECOND, stream.recv()).await.is_err(), "a dark machine says nothing");
            assert_eq!(connect(&at).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            sim.restart_node(node);
            let reset = timeout(60 * SECOND, stream.recv()).await.expect("it knows nothing of the connection");
            assert_eq!(reset.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            start_echo(&sim, node);
            sleep(SECOND).await;
            echo(&connect(&at).await.unwrap(), b"again").await;
        });
    }
}
