//! A property string: every pair found is a legal one, and writing the pairs again finds the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_protocol::properties;

fuzz_target!(|text: &str| {
    let pairs: Vec<_> = properties::iter(text).collect();
    let written = properties::without(text, &[]);
    assert_eq!(properties::iter(&written).collect::<Vec<_>>(), pairs);
    for (name, _) in &pairs {
        let last = pairs.iter().rev().find(|(found, _)| found == name).map(|(_, value)| *value);
        assert_eq!(properties::get(text, name), last);
        assert_eq!(properties::get(&properties::without(text, &[name]), name), None);
    }
});
