//! A stored record: a log or a pull reply full of anything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_protocol::message::{Property, RECORD_MAX, Record, RecordError, RecordSpec};
use ringmq_protocol::value::Value;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    loop {
        match Record::parse(rest) {
            Ok((record, len)) => {
                rewrite(&record);
                rest = &rest[len..];
            }
            Err(RecordError::Filler(len)) if len <= rest.len() => rest = &rest[len..],
            Err(_) => return,
        }
    }
});

/// A record written anew from what was read is the same, but for its checksum.
fn rewrite(record: &Record<'_>) {
    let body = [record.body()];
    let properties = [Property::Encoded(Value::plain(record.properties()))];
    let spec = RecordSpec {
        topic: record.topic(),
        queue_id: record.queue_id(),
        flag: record.flag(),
        sys_flag: record.sys_flag(),
        born_timestamp: record.born_timestamp(),
        born_host: record.born_host(),
        store_host: record.store_host(),
        reconsume_times: record.reconsume_times(),
        prepared_offset: record.prepared_offset(),
        body: &body,
        body_max: RECORD_MAX,
        properties: &properties,
    };
    let mut out = vec![0; spec.encoded_len().expect("a record that was read can be written")];
    let offsets = (record.queue_offset(), record.position(), record.store_timestamp());
    spec.encode_into(&mut out, offsets.0, offsets.1, offsets.2).expect("the length was asked for");
    let (again, _) = Record::parse(&out).expect("what was written can be read");
    assert!(again.body_crc_matches());
    assert_eq!((again.topic(), again.body(), again.properties()), (record.topic(), record.body(), record.properties()));
    assert_eq!((again.born_host(), again.store_host()), (record.born_host(), record.store_host()));
    assert_eq!((again.queue_offset(), again.position(), again.store_timestamp()), offsets);
}
