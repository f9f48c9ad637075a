//! The host as recorded elsewhere: what is found, what is advised, what is set and taken back.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

mod tuning {
    mod apply;
    mod hosts;
    mod support;
}
