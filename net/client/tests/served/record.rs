//! A message as a broker's answer to a pull has it. The bench's tests use it too.

use ringmq_protocol::host::Host;
use ringmq_protocol::message::{Property, RecordSpec};

/// One of topic `T`.
pub(crate) fn record(queue_id: i32, offset: i64, properties: &[Property<'_>], body: &[u8]) -> Vec<u8> {
    let host = Host::new([127, 0, 0, 1].into(), 10911);
    let spec = RecordSpec {
        topic: "T",
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: 0,
        body: &[body],
        body_max: 1 << 20,
        properties,
    };
    let mut bytes = vec![0; spec.encoded_len().unwrap()];
    spec.encode_into(&mut bytes, offset, 100 * offset, 2).unwrap();
    bytes
}
