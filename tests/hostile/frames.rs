//! Bytes that are no frames: each connection that sends them is closed, or refused, and named in one log line.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::support::eventually;
use super::support::process::Process;
use super::support::server::Settings;
use super::support::wire::{self, Frame};
use super::{MIB, alone, cluster, strict, under};

/// How a connection ended for its client.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Closed,
    Refused(i32),
    Silence,
}

/// Whatever was sent, it was not taken for a request that could be served, and nobody waits for its end.
fn ended(outcome: &Outcome, name: &str) {
    assert_ne!(*outcome, Outcome::Refused(0), "{name}");
    assert!(*outcome != Outcome::Silence || !strict(), "{name}: no answer and no end");
}

/// Sends `bytes` on a fresh connection; with `finish` the client then says that nothing more will come.
fn send(address: &str, bytes: &[u8], finish: bool) -> (Outcome, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let me = stream.local_addr().unwrap().to_string();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    // The server may close while this is being written: that is an outcome, not a failure.
    let _cut_off = stream.write_all(bytes);
    if finish {
        let _already_closed = stream.shutdown(Shutdown::Write);
    }
    let mut first = [0; 1];
    let outcome = match stream.peek(&mut first) {
        Ok(0) => Outcome::Closed,
        Ok(_) => match Frame::read(&mut stream) {
            Ok(Some(frame)) => Outcome::Refused(frame.header.code),
            _ => Outcome::Closed,
        },
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Outcome::Closed,
        Err(_) => Outcome::Silence,
    };
    (outcome, me)
}

fn length(value: u32, rest: &[u8]) -> Vec<u8> {
    [&value.to_be_bytes()[..], rest].concat()
}

fn binary(header: &[u8]) -> Vec<u8> {
    let mut bytes = wire::frame(header, b"");
    bytes[4] = 1;
    bytes
}

/// A ROCKETMQ header up to its remark length.
fn binary_start() -> Vec<u8> {
    let mut header = Vec::new();
    header.extend_from_slice(&310_i16.to_be_bytes());
    header.push(0);
    header.extend_from_slice(&409_i16.to_be_bytes());
    header.extend_from_slice(&7_i32.to_be_bytes());
    header.extend_from_slice(&0_i32.to_be_bytes());
    header
}

/// What is wrong from the first bytes on, each by its name.
fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    let good = wire::request(wire::GET_MAX_OFFSET, 1, 0, &[("topic", "t".to_owned())], b"");
    let mut unknown_type = good.clone();
    unknown_type[4] = 7;
    let remark_too_long = [&binary_start()[..], &i32::MAX.to_be_bytes()].concat();
    let remark_negative = [&binary_start()[..], &(-5_i32).to_be_bytes(), &[0; 4]].concat();
    let ext_too_long = [&binary_start()[..], &[0; 4], &0x00ff_ffff_i32.to_be_bytes()].concat();
    let mut key_too_long = [&binary_start()[..], &[0; 4], &8_i32.to_be_bytes()].concat();
    key_too_long.extend_from_slice(&[0x7f, 0xff, b'k', b'e', b'y', 0, 0, 0]);
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    vec![
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec()),
        ("a length of 4 GiB", length(u32::MAX, &[0; 64])),
        ("a length of 2 GiB", length(i32::MAX as u32, &[0; 64])),
        ("a frame over 16 MiB", length(16 << 20, &[0; 64])),
        ("a length of zero", length(0, &good)),
        ("a length too short for a header length", length(3, &good)),
        ("a header longer than its frame", length(32, &[&1_000_u32.to_be_bytes()[..], &[b'{'; 28]].concat())),
        ("a header of the largest length", length(32, &[&0x00ff_ffff_u32.to_be_bytes()[..], &[b'{'; 28]].concat())),
        ("an unknown header type", unknown_type),
        ("a header that is no JSON", wire::frame(b"this is no header at all", b"")),
        ("a JSON array", wire::frame(b"[1,2,3]", b"")),
        ("a cut JSON header", wire::frame(b"{\"code\":310,\"extFields\":{\"a\":", b"")),
        ("an empty header", wire::frame(b"", b"")),
        ("a header that is no UTF-8", wire::frame(&[b'{', b'"', 0xff, 0xfe, b'"', b':', b'1', b'}'], b"")),
        ("a header of brackets", wire::frame(&deep, b"")),
        ("a code that is a text", wire::frame(br#"{"code":"many","opaque":1,"flag":0}"#, b"")),
        ("a remark longer than its header", binary(&remark_too_long)),
        ("a remark of negative length", binary(&remark_negative)),
        ("ext fields longer than their header", binary(&ext_too_long)),
        ("a key longer than the ext fields", binary(&key_too_long)),
        ("a binary header of two bytes", binary(&[1, 54])),
    ]
}

/// The lines of the server's log that name this peer.
fn lines_about(process: &Process, peer: &str) -> Vec<String> {
    let lines = [process.out.all(), process.err.all()].concat();
    lines.into_iter().filter(|line| line.contains(peer)).collect()
}

#[test]
fn what_is_no_frame_closes_its_connection() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    under(&cluster, 64 * MIB, |cluster| {
        for (name, bytes) in wrong() {
            let (outcome, peer) = send(&cluster.broker.address, &bytes, false);
            println!("{name}: {outcome:?}");
            ended(&outcome, name);
            if strict() {
                let lines = eventually("a log line names the peer", Duration::from_secs(5), || {
                    let lines = lines_about(&cluster.broker.process, &peer);
                    (!lines.is_empty()).then_some(lines)
                });
                assert_eq!(lines.len(), 1, "{name}: {lines:?}");
            }
        }
    });
}

#[test]
fn the_name_server_closes_them_too() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    under(&cluster, 64 * MIB, |cluster| {
        for (name, bytes) in wrong() {
            let (outcome, _) = send(cluster.namesrv(), &bytes, false);
            ended(&outcome, name);
        }
    });
}

/// Bytes of a seed's choice, behind a length that lets a part of them pass as a frame.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes: Vec<u8> = (0..200 + seed % 3_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    let length = if seed.is_multiple_of(2) { 100 } else { u32::try_from(bytes.len()).unwrap() - 4 };
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes[4..6].copy_from_slice(&[(seed % 3) as u8, 0]);
    bytes
}

#[test]
fn noise_is_survived() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    under(&cluster, 64 * MIB, |cluster| {
        for seed in 0..500 {
            let (outcome, _) = send(&cluster.broker.address, &noise(seed), true);
            ended(&outcome, &format!("seed {seed}"));
        }
    });
}

#[test]
fn a_promised_frame_is_not_paid_for_in_advance() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    // 200 connections promise nearly 16 MiB each and send 1 KiB of it.
    under(&cluster, 64 * MIB, |cluster| {
        let start = length((16 << 20) - 8, &[&100_u32.to_be_bytes()[..], &[b'{'; 1_020]].concat());
        let half: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(&*cluster.broker.address).unwrap();
                let _cut_off = stream.write_all(&start);
                stream
            })
            .collect();
        // A request on another connection is answered after what was written before it has been read.
        let mut other = cluster.broker.connect();
        let ext = [("topic", super::bystander::TOPIC.to_owned()), ("queueId", "0".to_owned())];
        for _ in 0..50 {
            other.call(wire::GET_MAX_OFFSET, &ext, &[]).unwrap();
        }
        drop(half);
    });
}

#[test]
fn a_frame_in_many_pieces_is_a_frame() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    let ext = [("topic", super::bystander::TOPIC.to_owned()), ("queueId", "0".to_owned())];
    let one = wire::request(wire::GET_MAX_OFFSET, 5, 0, &ext, b"");
    let mut connection = cluster.broker.connect();
    for byte in &one {
        connection.stream().write_all(&[*byte]).unwrap();
    }
    assert_eq!(connection.next().unwrap().header.opaque, 5);
    // And a hundred of them in one piece are a hundred.
    let many: Vec<u8> = (0..100).flat_map(|n| wire::request(wire::GET_MAX_OFFSET, n, 0, &ext, b"")).collect();
    connection.stream().write_all(&many).unwrap();
    let mut opaques: Vec<_> = (0..100).map(|_| connection.next().unwrap().header.opaque).collect();
    opaques.sort_unstable();
    assert_eq!(opaques, (0..100).collect::<Vec<_>>());
    // A client that is cut off in the middle of a frame leaves nothing behind.
    let mut cut = cluster.broker.connect();
    cut.stream().write_all(&one[..one.len() / 2]).unwrap();
    cut.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(cut.stream().read(&mut [0; 16]).unwrap(), 0, "the server closes its side");
}
