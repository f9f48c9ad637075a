//! The machine's clocks.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::hooks;
use crate::time::Instant;

static START: OnceLock<std::time::Instant> = OnceLock::new();

pub(crate) fn monotonic() -> Instant {
    let start = START.get_or_init(std::time::Instant::now);
    Instant(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

pub(crate) fn wall_ms() -> i64 {
    let wall_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
        Err(_) => 0,
    };
    wall_ms.saturating_add(hooks::clock_shift_ms())
}
