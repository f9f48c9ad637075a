//! A binary header; what was understood has to survive being written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_protocol::command::{Command, HeaderView};
use ringmq_protocol::frame::Serialize;
use ringmq_protocol::header::{Names, SendHeader};

fuzz_target!(|bytes: &[u8]| {
    let Ok(view) = HeaderView::parse(Serialize::RocketMq, bytes) else { return };
    let _ = SendHeader::parse(&view, Names::V2);
    let command = view.to_command();
    let mut out = Vec::new();
    command.encode(Serialize::RocketMq, &mut out).expect("what was read can be written");
    assert_eq!(Command::decode(Serialize::RocketMq, &out), Ok(command));
});
