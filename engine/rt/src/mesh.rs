//! Bounded mailboxes between shards. A post costs a push; the driver moves what has gathered and wakes a sleeping
//! neighbour once for all of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use crossbeam_queue::ArrayQueue;

use crate::uring::remote::Remote;
use crate::{Backend, backend};

/// A mailbox's driver side.
pub(crate) trait Port {
    /// Moves posts to their shards; true if some could not be moved because a neighbour's mailbox is full.
    fn flush(&self) -> bool;
    /// Wakes the reader if there is mail; true if it did.
    fn deliver(&self) -> bool;
    /// Whether there is mail that somebody waits for.
    fn has_mail(&self) -> bool;
}

/// The neighbour has more mail than it can hold. The caller refuses its client or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox of shard {0} is full")]
pub struct Full(pub usize);

struct Inbox<T> {
    queue: ArrayQueue<T>,
    owner: OnceLock<Arc<Remote>>,
}

/// The mailboxes of all shards, before each shard takes its own with [`bind`](Mesh::bind).
#[derive(Debug)]
pub struct Mesh<T> {
    inboxes: Arc<[Inbox<T>]>,
}

impl<T> std::fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({} of {})", self.queue.len(), self.queue.capacity())
    }
}

impl<T> Clone for Mesh<T> {
    fn clone(&self) -> Self {
        Self { inboxes: Arc::clone(&self.inboxes) }
    }
}

impl<T: Send + 'static> Mesh<T> {
    /// Mailboxes for `shards` shards, each holding up to `capacity` posts.
    pub fn new(shards: usize, capacity: usize) -> Self {
        let inbox = |_| Inbox { queue: ArrayQueue::new(capacity), owner: OnceLock::new() };
        Self { inboxes: (0..shards).map(inbox).collect() }
    }

    /// Takes the mailbox of shard `me` on that shard's thread. Each is taken once.
    pub fn bind(&self, me: usize) -> Post<T> {
        let shards = self.inboxes.len();
        let port = Rc::new(PortState {
            me,
            inboxes: Arc::clone(&self.inboxes),
            outgoing: (0..shards).map(|_| RefCell::new(VecDeque::new())).collect(),
            posted: Cell::new(0),
            reader: Cell::new(None),
        });
        match backend() {
            Backend::Uring => {
                if let Some(remote) = Remote::current() {
                    let _ = self.inboxes[me].owner.set(remote);
                }
                crate::uring::driver::add_port(Rc::<PortState<T>>::clone(&port));
            }
            Backend::Sim => crate::sim::add_port(Rc::<PortState<T>>::clone(&port)),
        }
        Post(port)
    }
}

struct PortState<T> {
    me: usize,
    inboxes: Arc<[Inbox<T>]>,
    outgoing: Vec<RefCell<VecDeque<T>>>,
    posted: Cell<usize>,
    reader: Cell<Option<Waker>>,
}

/// One shard's end of the mesh.
#[derive(Clone)]
pub struct Post<T>(Rc<PortState<T>>);

impl<T> std::fmt::Debug for Post<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Post(shard {})", self.0.me)
    }
}

impl<T: Send + 'static> Post<T> {
    /// Which shard this is.
    pub fn me(&self) -> usize {
        self.0.me
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.0.inboxes.len()
    }

    /// Posts to shard `to`; it arrives in the order of posting.
    ///
    /// # Errors
    /// [`Full`], with the post, when as many posts wait for that shard here as its mailbox holds.
    pub fn send(&self, to: usize, post: T) -> Result<(), (Full, T)> {
        if self.0.outgoing[to].borrow().len() >= self.0.inboxes[to].queue.capacity() {
            return Err((Full(to), post));
        }
        self.send_answer(to, post);
        Ok(())
    }

    /// Posts what must not be refused: answers, which the requests that caused them bound, and the few posts that change
    /// tables. They wait here when the mailbox is full.
    pub fn send_answer(&self, to: usize, post: T) {
        self.0.outgoing[to].borrow_mut().push_back(post);
        self.0.posted.set(self.0.posted.get() + 1);
        if backend() == Backend::Sim {
            // The simulated world has no driver that looks at every turn.
            crate::sim::mail_posted();
        }
    }

    /// The next post for this shard.
    pub async fn recv(&self) -> T {
        std::future::poll_fn(|cx| match self.0.inboxes[self.0.me].queue.pop() {
            Some(post) => Poll::Ready(post),
            None => {
                self.0.reader.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// The next post for this shard if it is here.
    pub fn try_recv(&self) -> Option<T> {
        self.0.inboxes[self.0.me].queue.pop()
    }
}

impl<T: Send + 'static> Port for PortState<T> {
    fn flush(&self) -> bool {
        if self.posted.get() == 0 {
            return false;
        }
        let mut left = 0;
        for (inbox, outgoing) in self.inboxes.iter().zip(&self.outgoing) {
            let mut outgoing = outgoing.borrow_mut();
            let mut moved = false;
            while let Some(post) = outgoing.pop_front() {
                if let Err(post) = inbox.queue.push(post) {
                    outgoing.push_front(post);
                    break;
                }
                moved = true;
            }
            left += outgoing.len();
            if moved && let Some(owner) = inbox.owner.get() {
                owner.wake();
            }
        }
        self.posted.set(left);
        left > 0
    }

    fn deliver(&self) -> bool {
        if self.inboxes[self.me].queue.is_empty() {
            return false;
        }
        match self.reader.take() {
            Some(reader) => {
                reader.wake();
                true
            }
            None => false,
        }
    }

    fn has_mail(&self) -> bool {
        let reader = self.reader.take();
        let waiting = reader.is_some();
        self.reader.set(reader);
        waiting && !self.inboxes[self.me].queue.is_empty()
    }
}
