//! The engine through its door, on the simulated world and on the real disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod engine {
    mod ahead;
    mod copies;
    mod counters;
    mod crash;
    mod damage;
    mod faults;
    mod keys;
    mod model;
    mod real;
    mod retention;
    mod scale;
    mod select;
    mod support;
}
