//! How far a shard's log has got, four ways. Each is its own type, so that what is merely appended cannot be passed for
//! what is safe. All are byte offsets in the shard's log: everything in front of the mark has got there.

use crate::options::FlushPolicy;

macro_rules! mark {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub(crate) u64);

        impl $name {
            /// The byte offset in the shard's log.
            pub const fn offset(self) -> u64 {
                self.0
            }

            /// Whether everything in front of `end` has got there.
            pub const fn covers(self, end: u64) -> bool {
                end <= self.0
            }
        }
    };
}

mark! {
    /// In memory, with its place in the log.
    Appended
}
mark! {
    /// The device has it: a killed process cannot take it back.
    Written
}
mark! {
    /// The device has made it durable: a power cut cannot take it back.
    Flushed
}
mark! {
    /// What the shard's policy calls safe, and all that readers see.
    Confirmed
}

/// The marks of one shard at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    pub appended: Appended,
    pub written: Written,
    pub flushed: Flushed,
    policy: FlushPolicy,
}

impl Watermarks {
    /// Everything up to `end` is durable, as after recovery.
    pub(crate) fn at(end: u64, policy: FlushPolicy) -> Self {
        Self { appended: Appended(end), written: Written(end), flushed: Flushed(end), policy }
    }

    /// What readers may see.
    pub fn confirmed(&self) -> Confirmed {
        match self.policy {
            FlushPolicy::Async => Confirmed(self.written.0),
            FlushPolicy::Sync => Confirmed(self.flushed.0),
        }
    }

    pub(crate) fn append_to(&mut self, end: u64) {
        self.appended.0 = self.appended.0.max(end);
        self.check();
    }

    pub(crate) fn write_to(&mut self, end: u64) {
        self.written.0 = self.written.0.max(end);
        self.check();
    }

    pub(crate) fn flush_to(&mut self, end: u64) {
        self.flushed.0 = self.flushed.0.max(end);
        self.check();
    }

    /// The one rule between the marks. It stays on in release: a shard that breaks it must stop.
    fn check(&self) {
        assert!(
            self.flushed.0 <= self.written.0 && self.written.0 <= self.appended.0,
            "watermarks out of order: flushed {} written {} appended {}",
            self.flushed.0,
            self.written.0,
            self.appended.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmed_follows_the_policy() {
        for (policy, expect) in [(FlushPolicy::Async, 200), (FlushPolicy::Sync, 100)] {
            let mut marks = Watermarks::at(100, policy);
            marks.append_to(300);
            marks.write_to(200);
            assert_eq!(marks.confirmed().offset(), expect);
            assert!(marks.confirmed().covers(expect) && !marks.confirmed().covers(expect + 1));
        }
    }

    #[test]
    #[should_panic(expected = "out of order")]
    fn nothing_is_flushed_that_was_not_written() {
        let mut marks = Watermarks::at(100, FlushPolicy::Sync);
        marks.append_to(300);
        marks.flush_to(200);
    }
}
