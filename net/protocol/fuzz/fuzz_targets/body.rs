//! A JSON body in fastjson's dialect, and the bodies that peers send most.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_protocol::body::{HeartbeatData, RegisterBrokerBody, SubscriptionGroupConfig, TopicConfig};
use ringmq_protocol::json;

fuzz_target!(|bytes: &[u8]| {
    let _ = RegisterBrokerBody::decode(bytes, true, 0, 479);
    let Ok(tree) = json::parse(bytes) else { return };
    let text = json::to_vec(&tree);
    assert_eq!(json::parse(&text).as_ref(), Ok(&tree));
    if let Ok(heartbeat) = HeartbeatData::parse(bytes) {
        assert_eq!(HeartbeatData::parse(&heartbeat.to_vec()), Ok(heartbeat));
    }
    let _ = (TopicConfig::parse(bytes), SubscriptionGroupConfig::parse(bytes));
    let _ = RegisterBrokerBody::decode(bytes, false, 0, 479);
});
