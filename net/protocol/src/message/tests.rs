use proptest::prelude::*;

use super::*;
use crate::host::Host;
use crate::properties::{PROPERTIES_MAX, sys_flag};
use crate::value::Value;

fn v4() -> Host {
    Host::new("10.0.0.7".parse().unwrap(), 10911)
}

fn v6() -> Host {
    Host::new("2001:db8::7".parse().unwrap(), 10911)
}

fn spec<'a>(topic: &'a str, body: &'a [&'a [u8]], properties: &'a [Property<'a>]) -> RecordSpec<'a> {
    RecordSpec {
        topic,
        queue_id: 3,
        flag: 7,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: v4(),
        store_host: v4(),
        reconsume_times: 2,
        prepared_offset: 5,
        body,
        body_max: BODY_MAX_DEFAULT,
        properties,
    }
}

fn encode(spec: &RecordSpec<'_>) -> Vec<u8> {
    let mut out = vec![0xEE; spec.encoded_len().unwrap()];
    spec.encode_into(&mut out, 11, 22, 33).unwrap();
    out
}

#[test]
fn the_shortest_record_lies_as_documented() {
    let bytes = encode(&spec("", &[], &[]));
    assert_eq!(bytes.len(), RECORD_MIN);
    let mut expected = Vec::new();
    expected.extend_from_slice(&91_i32.to_be_bytes());
    expected.extend_from_slice(&(-626_843_481_i32).to_be_bytes());
    for number in [0, 3, 7_i32] {
        expected.extend_from_slice(&number.to_be_bytes());
    }
    expected.extend_from_slice(&11_i64.to_be_bytes());
    expected.extend_from_slice(&22_i64.to_be_bytes());
    expected.extend_from_slice(&0_i32.to_be_bytes());
    expected.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    expected.extend_from_slice(&[10, 0, 0, 7, 0, 0, 0x2A, 0x9F]);
    expected.extend_from_slice(&33_i64.to_be_bytes());
    expected.extend_from_slice(&[10, 0, 0, 7, 0, 0, 0x2A, 0x9F]);
    expected.extend_from_slice(&2_i32.to_be_bytes());
    expected.extend_from_slice(&5_i64.to_be_bytes());
    expected.extend_from_slice(&[0; 7]);
    assert_eq!(bytes, expected);
}

#[test]
fn the_checksum_is_that_of_the_whole_body() {
    let bytes = encode(&spec("T", &[b"1234", b"", b"56789"], &[]));
    let (record, len) = Record::parse(&bytes).unwrap();
    assert_eq!((record.body(), len), (b"123456789".as_slice(), bytes.len()));
    assert_eq!(record.body_crc(), 0xCBF4_3926 & 0x7FFF_FFFF);
    assert!(record.body_crc_matches());
    let mut damaged = bytes.clone();
    damaged[90] ^= 1;
    assert!(!Record::parse(&damaged).unwrap().0.body_crc_matches());
}

#[test]
fn properties_join_whatever_their_separators() {
    let open = Value::plain("KEYS\u{1}k");
    let cases: [(&[Property<'_>], &str); 4] = [
        (&[Property::Encoded(open), Property::Pair("A", "1")], "KEYS\u{1}k\u{2}A\u{1}1\u{2}"),
        (&[Property::Encoded(Value::plain("K\u{1}k\u{2}")), Property::Number("N", -5)], "K\u{1}k\u{2}N\u{1}-5\u{2}"),
        (&[Property::Encoded(Value::plain("")), Property::Pair("A", "1")], "A\u{1}1\u{2}"),
        (&[Property::Encoded(open), Property::Encoded(open)], "KEYS\u{1}k\u{2}KEYS\u{1}k"),
    ];
    for (properties, text) in cases {
        let bytes = encode(&spec("T", &[b"x"], properties));
        assert_eq!(Record::parse(&bytes).unwrap().0.properties(), text);
    }
}

#[test]
fn long_retry_topics_take_the_second_version() {
    for (len, magic) in [(127, MAGIC_V1), (128, MAGIC_V2), (255, MAGIC_V2)] {
        let topic = "t".repeat(len);
        let bytes = encode(&spec(&topic, &[b"x"], &[Property::Pair("TAGS", "a")]));
        let (record, _) = Record::parse(&bytes).unwrap();
        assert_eq!((record.magic(), record.topic()), (magic, topic.as_str()));
        assert_eq!(record.tags_code(), 97);
    }
    let topic = "t".repeat(256);
    assert_eq!(spec(&topic, &[], &[]).encoded_len(), Err(RecordError::TopicTooLong(256)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let long = "p".repeat(PROPERTIES_MAX);
    let fits = [Property::Encoded(Value::plain(&long))];
    assert!(spec("T", &[b"x"], &fits).encoded_len().is_ok());
    let over = [fits[0], Property::Pair("a", "b")];
    let error = spec("T", &[b"x"], &over).encoded_len();
    assert_eq!(error, Err(RecordError::PropertiesTooLong(PROPERTIES_MAX + 5)));
    let mut small = spec("T", &[b"1234", b"5"], &[]);
    small.body_max = 4;
    assert_eq!(small.encoded_len(), Err(RecordError::BodyTooLarge { len: 5, max: 4 }));
    let mut out = vec![0; 10];
    let room = spec("T", &[], &[]).encode_into(&mut out, 0, 0, 0);
    assert_eq!(room, Err(RecordError::Room { need: 92, have: 10 }));
}

#[test]
fn fillers_are_told_from_records_and_garbage() {
    let mut filler = [0; 16];
    filler[..4].copy_from_slice(&16_i32.to_be_bytes());
    filler[4..8].copy_from_slice(&MAGIC_FILLER.to_be_bytes());
    assert_eq!(peek(&filler), Ok(Peek::Filler(16)));
    assert_eq!(Record::parse(&filler).unwrap_err(), RecordError::Filler(16));
    assert_eq!(peek(&[0; 8]), Err(RecordError::Magic(0)));
    assert_eq!(peek(&[0; 7]), Err(RecordError::Short { need: 8, have: 7 }));
    filler[..4].copy_from_slice(&(-1_i32).to_be_bytes());
    assert!(matches!(peek(&filler), Err(RecordError::Length { .. })));
}

#[test]
fn hash_codes_are_javas() {
    assert_eq!(java_hash(""), 0);
    assert_eq!(java_hash("TagA"), 2_598_919);
    assert_eq!(tags_code("polygenelubricants"), i64::from(i32::MIN));
    assert_eq!(java_hash("😀"), 0xD83D * 31 + 0xDE00);
}

#[test]
fn an_encoded_record_can_be_stamped() {
    for born_host in [v4(), v6()] {
        let mut bytes = encode(&RecordSpec { born_host, ..spec("T", &[b"x"], &[]) });
        set_queue_offset(&mut bytes, -1).unwrap();
        set_position(&mut bytes, 1 << 60).unwrap();
        set_store_timestamp(&mut bytes, 99).unwrap();
        let (record, _) = Record::parse(&bytes).unwrap();
        assert_eq!((record.queue_offset(), record.position(), record.store_timestamp()), (-1, 1 << 60, 99));
        assert_eq!(record.body(), b"x");
    }
    for len in 0..36 {
        assert!(set_position(&mut vec![0; len], 1).is_err() && set_store_timestamp(&mut vec![0; len], 1).is_err());
    }
}

proptest! {
    #[test]
    fn every_record_comes_back(
        topic in "[a-zA-Z%_-]{0,255}",
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        user in "[^\u{1}\u{2}]{0,40}",
        number: i64,
        flags in (any::<i32>(), any::<i32>(), any::<i32>(), any::<bool>(), any::<bool>()),
        numbers in (any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>()),
    ) {
        let json = serde_json::to_string(&format!("U\u{1}{user}\u{2}")).unwrap();
        let mut scanner = crate::scan::Scanner::new(&json);
        let encoded = scanner.string().unwrap();
        let properties = [Property::Encoded(encoded), Property::Number("N", number), Property::Pair("P", "v")];
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        let (queue_id, flag, sys, born_v6, store_v6) = flags;
        let spec = RecordSpec {
            queue_id,
            flag,
            sys_flag: sys,
            born_host: if born_v6 { v6() } else { v4() },
            store_host: if store_v6 { v6() } else { v4() },
            born_timestamp: numbers.0,
            ..spec(&topic, &parts, &properties)
        };
        let mut bytes = vec![0xEE; spec.encoded_len().unwrap()];
        spec.encode_into(&mut bytes, numbers.1, numbers.2, numbers.3).unwrap();
        bytes.push(0);
        let (record, len) = Record::parse(&bytes).unwrap();
        prop_assert_eq!(len, bytes.len() - 1);
        prop_assert_eq!(record.bytes(), &bytes[..len]);
        prop_assert_eq!((record.queue_id(), record.flag(), record.reconsume_times(), record.prepared_offset()), (queue_id, flag, 2, 5));
        prop_assert_eq!((record.born_timestamp(), record.queue_offset(), record.position(), record.store_timestamp()), numbers);
        prop_assert_eq!((record.born_host(), record.store_host()), (spec.born_host, spec.store_host));
        let hosts = sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6;
        prop_assert_eq!(record.sys_flag() & !hosts, sys & !hosts);
        prop_assert_eq!(record.topic(), &topic);
        prop_assert_eq!(record.body(), parts.concat());
        prop_assert!(record.body_crc_matches());
        prop_assert_eq!(record.properties(), format!("U\u{1}{user}\u{2}N\u{1}{number}\u{2}P\u{1}v\u{2}"));
    }

    #[test]
    fn cut_or_damaged_records_are_an_answer(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = encode(&RecordSpec { born_host: v6(), ..spec("Topic", &[b"body"], &[Property::Pair("TAGS", "a")]) });
        let cut = cut.index(bytes.len());
        prop_assert!(Record::parse(&bytes[..cut]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((record, len)) = Record::parse(&bytes) {
            prop_assert!(len <= bytes.len());
            let _ = (record.store_host(), record.tags_code(), record.body_crc_matches(), record.prepared_offset());
        }
    }

    #[test]
    fn any_bytes_behind_a_magic_are_an_answer(total in 0..200u32, v2: bool, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut record = total.to_be_bytes().to_vec();
        record.extend_from_slice(&(if v2 { MAGIC_V2 } else { MAGIC_V1 }).to_be_bytes());
        record.extend_from_slice(&bytes);
        let _ = Record::parse(&record);
    }
}
