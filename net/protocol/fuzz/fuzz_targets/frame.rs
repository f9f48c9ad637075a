//! A whole frame from a peer: prefix, header of the codec it names, body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_protocol::command::HeaderView;
use ringmq_protocol::frame::{FRAME_MAX, FrameHead, PREFIX_LEN};

fuzz_target!(|bytes: &[u8]| {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_LEN>() else { return };
    let Ok(head) = FrameHead::parse(prefix) else { return };
    assert!(head.frame_len() <= FRAME_MAX);
    assert_eq!(head.body_start() + head.body_len(), head.frame_len());
    if let Some(header) = rest.get(..head.header_len as usize) {
        let _ = HeaderView::parse(head.serialize, header);
    }
});
