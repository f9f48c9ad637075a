//! Messages of a delay level that are set aside are tried again, by a task that is there as long as there are any.

use std::rc::Rc;

use ringmq_engine::{Position, ReadError};
use ringmq_rt::time::sleep_until;
use ringmq_rt::{Instant, Slice, now, spawn};

use super::{AGAIN, Level, Place};
use crate::aside::is_unread;

/// Sets a message aside that is due at `due` at the latest; false when too many are.
pub(super) fn add(level: &Rc<Level>, place: Place, due: Instant) -> bool {
    let is_first = level.open.asides.borrow().is_empty();
    let added = level.open.asides.borrow_mut().add(place, due, now());
    if added && is_first {
        spawn("try delayed messages again", run(Rc::clone(level))).detach();
    }
    added
}

async fn run(level: Rc<Level>) {
    loop {
        // No await from the last one's end to here: whoever sets another aside finds none, and starts this anew.
        let next = level.open.asides.borrow().next_try();
        let Some(next) = next else { return };
        sleep_until(next).await;
        if level.log.shard.poisoned().is_some() {
            return;
        }
        let place = level.open.asides.borrow().to_try(now());
        if let Some(place) = place {
            level.again(place).await;
        }
    }
}

impl Level {
    async fn again(&self, place: Place) {
        let (shard, queue, at) = (self.log.shard.id(), self.queue_id, place.at);
        let position = Position::new(shard, place.offset);
        match self.log.shard.record_at(position).await {
            Ok(Some(record)) => self.release(place, &record).await,
            Ok(None) if place.offset < self.log.shard.start() => {
                tracing::warn!(%position, queue, at, "a delayed message that could not be read was dropped with its segment");
                self.lost(place);
            }
            Ok(None) => {
                tracing::error!(%position, queue, at, "a delayed message is damaged and is not delivered: there is no record");
                self.lost(place);
            }
            Err(error) if is_unread(&error) => {
                let is_given_up = self.open.asides.borrow_mut().failed(place, now());
                if is_given_up {
                    tracing::error!(%position, queue, at, %error, "a delayed message cannot be read for so long that it is given up");
                    self.lost(place);
                }
            }
            Err(error @ ReadError::Damaged { .. }) => {
                tracing::error!(%position, queue, at, %error, "a delayed message is damaged and is not delivered");
                self.lost(place);
            }
            Err(error) => {
                tracing::error!(%position, queue, at, %error, "a delayed message cannot be read");
                self.open.asides.borrow_mut().wait(place, AGAIN, now());
            }
        }
    }

    async fn release(&self, place: Place, record: &Slice) {
        let left = self.left(record).min(self.open.asides.borrow().left(place, now()));
        if !left.is_zero() {
            return self.open.asides.borrow_mut().wait(place, left, now());
        }
        let position = Position::new(self.log.shard.id(), place.offset);
        match self.store(std::slice::from_ref(record)).await {
            Ok(()) => {
                let aside = self.end(place);
                tracing::info!(%position, queue = self.queue_id, at = place.at, ?aside, "a delayed message that was set aside was read and is done");
            }
            Err(error) => {
                tracing::error!(%position, queue = self.queue_id, at = place.at, %error, "a delayed message is not delivered");
                self.open.asides.borrow_mut().wait(place, AGAIN, now());
            }
        }
    }

    fn lost(&self, place: Place) {
        self.node.served.delayed_dropped(1);
        self.end(place);
    }

    /// Progress is no longer held by this one; for how long it was.
    fn end(&self, place: Place) -> std::time::Duration {
        let aside = self.open.asides.borrow_mut().remove(place, now());
        self.note();
        aside
    }
}
