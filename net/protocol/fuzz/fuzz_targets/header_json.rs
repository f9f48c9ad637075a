//! A JSON header, read in every way; what was understood has to survive being written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_protocol::command::{Command, HeaderView};
use ringmq_protocol::frame::Serialize;
use ringmq_protocol::header::{Names, PullHeader, SendHeader};

fuzz_target!(|bytes: &[u8]| {
    let Ok(view) = HeaderView::parse(Serialize::Json, bytes) else { return };
    for (_, value) in view.ext() {
        let text = value.to_string();
        assert_eq!(text.len(), value.len_unescaped());
        assert!(value.eq_str(&text));
    }
    for names in [Names::V1, Names::V2] {
        if let Ok(header) = SendHeader::parse(&view, names) {
            assert!(header.topic.get(bytes).len_unescaped() <= bytes.len());
        }
    }
    let _ = PullHeader::parse(&view, Names::V1);
    let mut command = view.to_command();
    // Languages beyond the table are written as OTHER.
    command.language = ringmq_protocol::code::Language::from_name(command.language.wire_name());
    let mut out = Vec::new();
    command.encode(Serialize::Json, &mut out).expect("JSON holds every command");
    assert_eq!(Command::decode(Serialize::Json, &out).as_ref(), Ok(&command));
});
