//! Pulls whose answers a peer is not ready to take: it has not read its earlier ones. Only the request is kept; the messages
//! are read again when there is room. One at a time for each connection, so that however many pulls a slow reader has sent,
//! each is read again once for each time that it can be answered. Belongs to the executor of the connections.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use foldhash::HashMap;
use ringmq_net::{Conn, ConnId};
use ringmq_rt::spawn;
use ringmq_rt::sync::Event;
use ringmq_rt::time::timeout;

use crate::mail::{Mail, PullJob};
use crate::node::Node;

/// A read that was refused on the queue's shard is not told here: the next one goes on after this.
const UNTOLD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<PullJob>,
    answered: Rc<Event>,
}

/// The deferred pulls of one executor's connections. They count against `unanswered_max` of their connection.
#[derive(Debug, Default)]
pub struct Deferred {
    conns: RefCell<HashMap<ConnId, Waiting>>,
}

impl Deferred {
    /// The pull that was read again for this connection has its answer.
    pub fn answered(&self, conn: ConnId) {
        if let Some(waiting) = self.conns.borrow().get(&conn) {
            waiting.answered.notify();
        }
    }

    /// True when it is the connection's first, so that somebody has to see to it.
    fn push(&self, conn: ConnId, job: PullJob) -> bool {
        let mut conns = self.conns.borrow_mut();
        let is_first = !conns.contains_key(&conn);
        conns.entry(conn).or_default().jobs.push_back(job);
        is_first
    }

    /// The next pull of a connection; none ends its waiting, and so does a closed connection.
    fn pop(&self, conn: &Conn) -> Option<(PullJob, Rc<Event>)> {
        let mut conns = self.conns.borrow_mut();
        let waiting = conns.get_mut(&conn.id())?;
        let next = if conn.is_closed() { None } else { waiting.jobs.pop_front() };
        match next {
            Some(job) => Some((job, Rc::clone(&waiting.answered))),
            None => {
                conns.remove(&conn.id());
                None
            }
        }
    }
}

/// Answers `job` once `conn` has taken what waits for it.
pub fn defer(node: &Rc<Node>, conn: Rc<Conn>, mut job: PullJob) {
    job.hold_ms = 0;
    job.deferred = true;
    if node.deferred.push(conn.id(), job) {
        spawn("pulls of a slow reader", drain(Rc::clone(node), conn)).detach();
    }
}

async fn drain(node: Rc<Node>, conn: Rc<Conn>) {
    loop {
        conn.output_room().await;
        let Some((job, answered)) = node.deferred.pop(&conn) else { return };
        let executor = node.executor_of(job.log);
        node.forward(executor, job.to, Mail::Pull(Box::new(job)));
        // Told or not, whether there is room decides about the next.
        let _ = timeout(UNTOLD, answered.wait()).await;
    }
}
