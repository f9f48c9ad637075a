//! Requests that may wait for a disk and that nothing else bounds: those that have the broker store a message of its own (a
//! message that is sent back, the end of a transaction, a recall, a dead letter, a reply), sends that wait for their topic to
//! be made, one-way requests to the tables, and the bodies of others. A connection is slowed by the answers that it waits for,
//! so one-way requests do not slow it; and some hold a message, of which a count says little. Each is admitted here, by number
//! and by bytes, or refused before anything is done. The bounds belong to the executor.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use ringmq_rt::Slice;
use ringmq_rt::sync::Semaphore;
use ringmq_rt::time::{now, timeout};

use crate::limits::{UNDER_WAY_BYTES_MAX, UNDER_WAY_MAX, UNDER_WAY_READS_MAX};
use crate::refusal::Refusal;

/// The requests that were admitted and are not done.
#[derive(Debug)]
pub struct Underway {
    count: Cell<usize>,
    bytes: Cell<usize>,
    reads: Rc<Semaphore>,
    refused: Cell<u64>,
}

impl Default for Underway {
    fn default() -> Self {
        let reads = Semaphore::new(UNDER_WAY_READS_MAX);
        Self { count: Cell::new(0), bytes: Cell::new(0), reads, refused: Cell::new(0) }
    }
}

/// A request that was admitted, until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    underway: Rc<Underway>,
    /// Of the message that it holds.
    bytes: usize,
}

impl Underway {
    /// Admits a request that holds a message of so many bytes from the start.
    ///
    /// # Errors
    /// Too much is under way.
    pub fn admit(self: &Rc<Self>, bytes: usize) -> Result<Admitted, Refusal> {
        if self.count.get() >= UNDER_WAY_MAX {
            return Err(self.no_room());
        }
        self.admit_answered(bytes)
    }

    /// The same for a request that is answered: its connection counts it.
    ///
    /// # Errors
    /// The requests under way hold too many bytes.
    pub fn admit_answered(self: &Rc<Self>, bytes: usize) -> Result<Admitted, Refusal> {
        self.count.set(self.count.get() + 1);
        let mut admitted = Admitted { underway: Rc::clone(self), bytes: 0 };
        admitted.hold(bytes)?;
        Ok(admitted)
    }

    /// How many were refused.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    fn no_room(&self) -> Refusal {
        self.refuse(Refusal::no_room_to_wait(self.count.get()))
    }

    fn refuse(&self, refusal: Refusal) -> Refusal {
        self.refused.set(self.refused.get() + 1);
        refusal
    }
}

impl Admitted {
    /// It holds a message of so many bytes from here on, and no other.
    ///
    /// # Errors
    /// The requests under way hold too many.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.let_go();
        let others = self.underway.bytes.get();
        if others > 0 && bytes > 0 && others + bytes > UNDER_WAY_BYTES_MAX {
            return Err(self.underway.no_room());
        }
        self.underway.bytes.set(others + bytes);
        self.bytes = bytes;
        Ok(())
    }

    /// It holds no message any more.
    pub fn let_go(&mut self) {
        self.underway.bytes.set(self.underway.bytes.get() - self.bytes);
        self.bytes = 0;
    }

    /// The record that `read` gives, which it holds from here on. How long it is shows only once it is in memory, so few are
    /// read at a time.
    ///
    /// # Errors
    /// What `read` says; that the requests under way hold too much; that it was not its turn within `wait_max`.
    pub async fn read<E: Into<Refusal>>(
        &mut self,
        wait_max: Duration,
        read: impl Future<Output = Result<Option<Slice>, E>>,
    ) -> Result<Option<Slice>, Refusal> {
        let _turn = self.in_time(wait_max, Rc::clone(&self.underway.reads).acquire()).await?;
        let record = read.await.map_err(Into::into)?;
        self.hold(record.as_ref().map_or(0, |record| record.len()))?;
        Ok(record)
    }

    /// Waits for `future`, as long as a request may wait before anything of it is done.
    ///
    /// # Errors
    /// The time was up first.
    pub async fn in_time<T>(&self, wait_max: Duration, future: impl Future<Output = T>) -> Result<T, Refusal> {
        let since = now();
        let waited = timeout(wait_max, future).await;
        waited.map_err(|_| self.underway.refuse(Refusal::overdue(now().since(since))))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.let_go();
        self.underway.count.set(self.underway.count.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_bounded_by_number_and_given_back() {
        let underway = Rc::<Underway>::default();
        let mut all: Vec<_> = (0..UNDER_WAY_MAX).map(|_| underway.admit(0).unwrap()).collect();
        let refusal = underway.admit(0).unwrap_err();
        assert!(refusal.is_busy() && refusal.remark.starts_with("[OVERLOAD]"), "{refusal}");
        assert_eq!(underway.refused(), 1);
        all.pop();
        assert!(underway.admit(0).is_ok());
        all.clear();
        assert_eq!((underway.count.get(), underway.bytes.get()), (0, 0));
    }

    #[test]
    fn what_is_held_is_bounded_by_bytes() {
        let underway = Rc::<Underway>::default();
        let huge = underway.admit(2 * UNDER_WAY_BYTES_MAX).unwrap();
        assert!(underway.admit(1).unwrap_err().remark.starts_with("[OVERLOAD]"), "it is not the only one");
        let mut small = underway.admit(0).unwrap();
        assert!(small.hold(1).is_err());
        assert!(underway.admit_answered(1).is_err());
        drop(huge);
        small.hold(UNDER_WAY_BYTES_MAX).unwrap();
        small.hold(1).unwrap();
        assert_eq!((underway.count.get(), underway.bytes.get()), (1, 1));
        let other = underway.admit(UNDER_WAY_BYTES_MAX - 1).unwrap();
        assert!(underway.admit(1).is_err());
        small.let_go();
        drop((other, small));
        assert_eq!((underway.count.get(), underway.bytes.get()), (0, 0));
    }
}
