//! The body of a batch send; a batch that is understood is the same when written again, but for magic and checksum.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_protocol::batch::{BatchReader, push_message};

fuzz_target!(|bytes: &[u8]| {
    let reader = BatchReader::new(bytes, 1000);
    let Ok(count) = reader.check() else { return };
    let mut out = Vec::new();
    for message in reader.clone() {
        push_message(&mut out, &message.expect("the batch was checked")).expect("what was read can be written");
    }
    assert_eq!(out.len(), bytes.len());
    assert_eq!(BatchReader::new(&out, 1000).check(), Ok(count));
});
