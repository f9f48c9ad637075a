//! What a test may do to a running broker from outside: end it at an exact step, move its wall clock, give it a disk with
//! room, one that is stuck, and one with bad sectors. With the feature `test-hooks` off, as in every build but that of tests, a step is no code
//! and the environment is not read.
//!
//! `RINGMQ_TEST_KILL=STEP@N` ends the whole process by SIGKILL when it passes the step for the n-th time, counted from 1,
//! and `RINGMQ_TEST_STOP=STEP@N` asks it to stop there, by SIGTERM.
//! `RINGMQ_TEST_CLOCK=FILE` adds to the wall clock what the file says, in milliseconds; no file is no shift.
//! `RINGMQ_TEST_ROOM=1` has every disk half free, however full the one is that the tests run on.
//! `RINGMQ_TEST_DISK=FILE` has every write and flush of the store's files wait as long as there is that file. Reads go on, and
//! so do the small files that are replaced as a whole.
//! `RINGMQ_TEST_UNREADABLE=FILE` has reads of the store's files fail with `EIO` that touch a range in that file: in each line the
//! end of a path, and the range's first byte and the one behind its last.

/// A step of which a test may want to see what a kill leaves: its name, as a format string and its arguments. A name says
/// what has just been done, and behind a colon to which topic or file.
#[macro_export]
macro_rules! step {
    ($($name:tt)+) => {
        $crate::hooks::passed(::std::format_args!($($name)+))
    };
}

/// A step was passed; for [`step!`](crate::step).
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub fn passed(_name: std::fmt::Arguments<'_>) {}

#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub(crate) fn clock_shift_ms() -> i64 {
    0
}

/// The room that a broker goes by, of the room there is.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub(crate) fn room(found: crate::fs::Space) -> crate::fs::Space {
    found
}

/// Completes when the disk may be written to.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub(crate) fn disk() -> std::future::Ready<()> {
    std::future::ready(())
}

/// Whether the disk reads `len` bytes of a file.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub(crate) fn readable(_path: &std::path::Path, _at: u64, _len: usize) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "test-hooks")]
pub use self::on::passed;
#[cfg(feature = "test-hooks")]
pub(crate) use self::on::{clock_shift_ms, disk, readable, room};

#[cfg(feature = "test-hooks")]
mod on {
    use std::ffi::OsString;
    use std::path::Path;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;
    use std::{env, fmt, fs, io};

    use crate::fs::Space;
    use crate::time::sleep;

    /// How often a stuck disk is looked at: that a file goes is no event of the ring.
    const LOOK: Duration = Duration::from_millis(5);

    /// The end of a process at a step.
    struct End {
        step: String,
        nth: u64,
        passes: AtomicU64,
    }

    impl End {
        fn asked(variable: &str) -> Option<Self> {
            let asked = env::var(variable).ok()?;
            let (step, nth) = asked.rsplit_once('@').unwrap_or((&asked, "1"));
            let nth = nth.parse().unwrap_or_else(|error| panic!("{variable}={asked}: {error}; write STEP@N"));
            Some(Self { step: step.to_owned(), nth, passes: AtomicU64::new(0) })
        }

        /// Whether this pass is the one that was asked for.
        fn is_now(&self, name: fmt::Arguments<'_>) -> bool {
            name.to_string() == self.step && self.passes.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
        }
    }

    static KILL: LazyLock<Option<End>> = LazyLock::new(|| End::asked("RINGMQ_TEST_KILL"));

    static STOP: LazyLock<Option<End>> = LazyLock::new(|| End::asked("RINGMQ_TEST_STOP"));

    static CLOCK: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("RINGMQ_TEST_CLOCK"));

    static DISK: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("RINGMQ_TEST_DISK"));

    static UNREADABLE: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("RINGMQ_TEST_UNREADABLE"));

    static ROOM: LazyLock<bool> = LazyLock::new(|| env::var_os("RINGMQ_TEST_ROOM").is_some_and(|asked| asked == "1"));

    /// A step was passed; for [`step!`](crate::step).
    pub fn passed(name: fmt::Arguments<'_>) {
        if let Some(stop) = STOP.as_ref().filter(|stop| stop.is_now(name)) {
            eprintln!("stopped at {}@{}", stop.step, stop.nth);
            // SAFETY: two calls without memory.
            unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        }
        let Some(kill) = KILL.as_ref().filter(|kill| kill.is_now(name)) else { return };
        eprintln!("killed at {}@{}", kill.step, kill.nth);
        // SAFETY: two calls without memory; the second does not return.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        loop {
            std::thread::park();
        }
    }

    pub(crate) fn room(found: Space) -> Space {
        if *ROOM { Space { free: found.total / 2, ..found } } else { found }
    }

    /// Completes when the disk may be written to.
    pub(crate) async fn disk() {
        let Some(file) = &*DISK else { return };
        while fs::exists(file).unwrap_or(false) {
            sleep(LOOK).await;
        }
    }

    /// Whether the disk reads `len` bytes of a file.
    pub(crate) fn readable(path: &Path, at: u64, len: usize) -> io::Result<()> {
        let Some(file) = &*UNREADABLE else { return Ok(()) };
        let end = at + len as u64;
        let is_bad = |line: &str| {
            let mut parts = line.split_whitespace();
            let (name, from, to) = (parts.next()?, parts.next()?.parse::<u64>().ok()?, parts.next()?.parse().ok()?);
            Some(path.ends_with(name) && from < end && at < to)
        };
        let bad = fs::read_to_string(file).unwrap_or_default();
        if bad.lines().any(|line| is_bad(line).unwrap_or_else(|| panic!("{line:?}: write PATH FROM TO"))) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    pub(crate) fn clock_shift_ms() -> i64 {
        let Some(file) = &*CLOCK else { return 0 };
        let shift = fs::read_to_string(file).unwrap_or_default();
        shift.trim().parse().unwrap_or(0)
    }
}
