use ringmq_protocol::batch::BatchReader;
use ringmq_protocol::command::Command;
use ringmq_protocol::frame::Serialize;

use super::*;
use crate::shape::{Bodies, BodyShape, Sizes};

const AT: u64 = 1_700_000_000_123;
/// 2023-11-14T22:13:20.123Z, from the beginning of November on.
const OF_MONTH: u64 = ((13 * 24 + 22) * 60 + 13) * 60_000 + 20_123;

fn java(keys: bool, more: &[(String, String)]) -> Properties {
    Properties::new(&PropertiesShape { java: true, keys, due: false, more })
}

fn shape(kind: HeaderKind, properties: &Properties) -> SendShape<'_> {
    SendShape {
        kind,
        group: "PG",
        topic: "T",
        topics: 1,
        queues: 12,
        batch: false,
        compressed: false,
        one_way: false,
        half: false,
        properties,
        tags: 1,
    }
}

fn bodies(payload: &[u8], batch: u32, properties: &Properties, stamped: bool) -> Bodies {
    let sizes = Sizes::default();
    let payload = Some(payload);
    Bodies::new(&BodyShape { sizes: &sizes, payload, batch, properties, compress: false, stamped, seed: 1 }).unwrap()
}

/// The requests that a shape makes, decoded by the protocol's own codec.
fn decoded(shape: &SendShape<'_>, bodies: &Bodies, requests: &[SendRequest]) -> Vec<(Command, Vec<u8>)> {
    let mut templates = SendTemplates::new(shape);
    templates.set_time(AT);
    let mut out = Vec::new();
    let mut all = Vec::new();
    for (n, request) in requests.iter().enumerate() {
        out.clear();
        templates.append(request, bodies.get(n as u64), &mut out);
        let word = |at: usize| u32::from_be_bytes(out[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(word(0), out.len() - 4);
        let (kind, header_len) = (out[4], word(4) & 0xff_ffff);
        let serialize = if kind == 0 { Serialize::Json } else { Serialize::RocketMq };
        let command = Command::decode(serialize, &out[8..8 + header_len]).unwrap();
        all.push((command, out[8 + header_len..].to_vec()));
    }
    all
}

#[test]
fn a_json_send_is_what_the_java_client_writes() {
    let properties = java(false, &[]);
    let bodies = bodies(b"body", 1, &properties, false);
    let mut templates = SendTemplates::new(&shape(HeaderKind::Json, &properties));
    templates.set_time(AT);
    let mut out = Vec::new();
    let request = SendRequest { opaque: OPAQUE_BASE + 5, queue: 11, connection: 7, ..SendRequest::default() };
    templates.append(&request, bodies.get(0), &mut out);
    let header_len = u32::from_be_bytes(out[4..8].try_into().unwrap()) as usize;
    assert_eq!(u32::from_be_bytes(out[..4].try_into().unwrap()) as usize, out.len() - 4);
    let uniq = format!("7F000001{:04X}00000007{OF_MONTH:08X}0001", std::process::id() & 0xffff);
    let want = format!(
        "{{\"code\":310,\"extFields\":{{\"a\":\"PG\",\"b\":\"T\",\"c\":\"TBW102\",\"d\":\"4\",\"e\":\"11\",\"f\":\"0\",\
         \"g\":\"1700000000123\",\"h\":\"0\",\"i\":\"UNIQ_KEY\\u0001{uniq}\\u0002WAIT\\u0001true\\u0002TAGS\\u0001TagA\",\
         \"j\":\"0\",\"k\":\"false\",\"m\":\"false\"}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":1000000005,\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}}"
    );
    assert_eq!(std::str::from_utf8(&out[8..8 + header_len]).unwrap(), want);
    assert_eq!(&out[8 + header_len..], b"body");
}

#[test]
fn every_part_that_changes_is_patched_in_either_header() {
    let more = [("a \"name\"".to_owned(), "v".to_owned())];
    let properties = Properties::new(&PropertiesShape { java: true, keys: true, due: true, more: &more });
    for kind in [HeaderKind::Json, HeaderKind::Rocketmq] {
        let shape = SendShape { topics: 300, queues: 1000, tags: 3, one_way: true, ..shape(kind, &properties) };
        let bodies = bodies(b"twenty-four bytes and more", 1, &properties, true);
        let stamp = |n: u32| Some(Stamp { run: 9, at: u64::from(n), number: 3 });
        let requests = [4, 5].map(|n| SendRequest {
            opaque: OPAQUE_BASE + n,
            topic: n * 50,
            queue: n * 30,
            connection: 0xAB,
            key: u64::from(n) * 1_000_000,
            due_ms: AT + u64::from(n),
            stamp: stamp(n),
        });
        for (n, (command, body)) in decoded(&shape, &bodies, &requests).iter().enumerate() {
            let request = &requests[n];
            assert_eq!((command.code, command.opaque, command.is_oneway()), (310, request.opaque as i32, true));
            assert_eq!(command.ext("b"), Some(&*format!("T-{:05}", request.topic)));
            assert_eq!(command.ext("e"), Some(&*request.queue.to_string()));
            assert_eq!(command.ext("g"), Some("1700000000123"));
            let uniq = format!("7F000001{:04X}000000AB{OF_MONTH:08X}{:04X}", std::process::id() & 0xffff, n + 1);
            let tag = ["TagA", "TagB"][n];
            let want = format!(
                "UNIQ_KEY\u{1}{uniq}\u{2}WAIT\u{1}true\u{2}TAGS\u{1}{tag}\u{2}KEYS\u{1}key-{:010}\u{2}TIMER_DELIVER_MS\u{1}{}\u{2}a \"name\"\u{1}v",
                request.key, request.due_ms
            );
            assert_eq!(command.ext("i"), Some(&*want));
            assert_eq!(Stamp::read(body), request.stamp);
            assert_eq!(body.len(), 26);
        }
    }
}

#[test]
fn each_message_of_a_batch_has_a_key_of_its_own() {
    let properties = java(true, &[]);
    let shape = SendShape { batch: true, ..shape(HeaderKind::Json, &properties) };
    let bodies = bodies(b"a body with room for a stamp", 3, &properties, true);
    let stamp = Some(Stamp { run: 1, at: 2, number: 3 });
    let requests = [SendRequest { opaque: OPAQUE_BASE, key: 77, stamp, ..SendRequest::default() }];
    let (command, body) = decoded(&shape, &bodies, &requests).remove(0);
    assert_eq!((command.code, command.ext("m"), command.ext("f")), (320, Some("true"), Some("0")));
    assert!(!command.ext("i").unwrap().contains("KEYS"));
    let messages: Vec<_> = BatchReader::new(&body, 9).map(Result::unwrap).collect();
    let mut uniq: Vec<&str> = messages.iter().map(|one| &one.properties[9..41]).collect();
    uniq.dedup();
    assert_eq!(uniq.len(), 3);
    for message in messages {
        assert_eq!(Stamp::read(message.body), stamp);
        assert!(message.properties.ends_with("KEYS\u{1}key-0000000077"), "{:?}", message.properties);
    }
}

#[test]
fn a_compressed_body_is_announced_as_zlib() {
    let none = Properties::default();
    let shape = SendShape { compressed: true, ..shape(HeaderKind::Rocketmq, &none) };
    let (command, _) = decoded(&shape, &bodies(b"x", 1, &none, false), &[SendRequest::default()]).remove(0);
    let sys_flag: i32 = command.ext("f").unwrap().parse().unwrap();
    assert_eq!(ringmq_protocol::compress::Codec::of(sys_flag).unwrap().name(), "ZLIB");
    assert_eq!(command.ext("i").unwrap_or_default(), "");
}
