//! Timed messages that are set aside are tried again, by a task that is there as long as there are any.

use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{Position, ReadError, Timed};
use ringmq_rt::time::sleep_until;
use ringmq_rt::{Slice, now, spawn};

use super::{AGAIN, damaged, release, released, tell};
use crate::aside::is_unread;
use crate::log::Log;
use crate::node::Node;

/// Sets a message aside that is due; false when too many are.
pub(super) fn add(node: &Rc<Node>, log: &Rc<Log>, message: Timed) -> bool {
    let asides = &log.timers.asides;
    let is_first = asides.borrow().is_empty();
    let added = asides.borrow_mut().add(message, now(), now());
    if added && is_first {
        spawn("try timed messages again", run(Rc::clone(node), Rc::clone(log))).detach();
    }
    added
}

async fn run(node: Rc<Node>, log: Rc<Log>) {
    let asides = &log.timers.asides;
    loop {
        // No await from the last one's end to here: whoever sets another aside finds none, and starts this anew.
        let next = asides.borrow().next_try();
        let Some(next) = next else { return };
        sleep_until(next).await;
        if log.shard.poisoned().is_some() {
            return;
        }
        let message = asides.borrow().to_try(now());
        if let Some(message) = message {
            again(&node, &log, message).await;
        }
    }
}

async fn again(node: &Rc<Node>, log: &Rc<Log>, message: Timed) {
    let (shard, Timed { due_ms, offset }) = (log.shard.id(), message);
    match log.shard.record_at(Position::new(shard, offset)).await {
        Ok(Some(record)) => return deliver(node, log, message, &record).await,
        Ok(None) if offset < log.shard.start() => {
            // Retention has counted it.
            tracing::warn!(%shard, offset, due_ms, "a timed message that could not be read was dropped with its segment");
        }
        Ok(None) => damaged(node, log, offset, &"there is no record"),
        Err(error) if is_unread(&error) => {
            if !log.timers.asides.borrow_mut().failed(message, now()) {
                return;
            }
            node.served.delayed_dropped(1);
            tracing::error!(%shard, offset, due_ms, %error, "a timed message cannot be read for so long that it is given up");
        }
        Err(error @ ReadError::Damaged { .. }) => damaged(node, log, offset, &error),
        Err(error) => {
            tracing::error!(%shard, offset, due_ms, %error, "a timed message cannot be read");
            return log.timers.asides.borrow_mut().wait(message, AGAIN, now());
        }
    }
    end(node, log, message);
}

async fn deliver(node: &Rc<Node>, log: &Rc<Log>, message: Timed, record: &Slice) {
    let (shard, Timed { due_ms, offset }) = (log.shard.id(), message);
    let due = released(node, log, &message, record).into_iter().collect();
    match release(node, log, due).await {
        Ok(()) => {
            let aside = end(node, log, message);
            tracing::info!(%shard, offset, due_ms, ?aside, "a timed message that was set aside was read and is done");
        }
        Err(error) => {
            tracing::error!(%shard, offset, due_ms, %error, "a timed message is not delivered");
            log.timers.asides.borrow_mut().wait(message, AGAIN, now());
        }
    }
}

/// Progress is no longer held by this one; for how long it was.
fn end(node: &Rc<Node>, log: &Log, message: Timed) -> Duration {
    let aside = log.timers.asides.borrow_mut().remove(message, now());
    tell(node, log);
    aside
}
