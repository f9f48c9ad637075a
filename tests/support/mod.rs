//! What the black-box tests stand on: real processes, real Java clients, raw frames.
//!
//! Nothing here uses RingMQ's own crates. A fault in them must not hide itself by being on both sides of a test, so
//! the frames, headers and records are read and written a second time in `wire`, in the plainest way.

pub(crate) mod clock;
pub(crate) mod database;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod java;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod server;
pub(crate) mod turn;
pub(crate) mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// True where a skipped test would be a lie: the check script sets `CI`.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Says why a test does not run, or fails it in CI.
pub(crate) fn skip(reason: &str) {
    assert!(!in_ci(), "this test must run in CI, but {reason}");
    eprintln!("skipped: {reason}");
}

/// Asks `look` until it has an answer. The pause is not what is waited for; it only keeps the asking cheap.
pub(crate) fn eventually<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
