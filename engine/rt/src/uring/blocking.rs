//! Work that blocks, beside the shard: one thread a shard for names and metadata, one more that commits log batches. Both
//! start when first needed and inherit the shard's core, so that a pinned broker stays on its cores.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::uring::remote::{Remote, Wait};

type Job = Box<dyn FnOnce() + Send>;

/// Which of the shard's two blocking threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Metadata = 0,
    Commit = 1,
}

thread_local! {
    static LANES: RefCell<[Option<Sender<Job>>; 2]> = const { RefCell::new([None, None]) };
}

/// Ends this shard's blocking threads once their jobs are done.
pub(super) fn clear() {
    LANES.set([None, None]);
}

/// Runs `work` on the lane's thread and waits for it without holding the shard. Dropping the future does not stop the work.
///
/// # Errors
/// When the thread cannot be started, or `work` panicked.
pub(crate) async fn run<T, F>(lane: Lane, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let Some(remote) = Remote::current() else {
        // Not a shard: nothing to keep free.
        return Ok(work());
    };
    let wait = Wait::new();
    let slot = wait.slot();
    let result = Arc::new(Mutex::new(None));
    let put = Arc::clone(&result);
    // Tells the shard even when `work` panics, with the result still empty.
    let guard = Finish { remote, slot };
    let job: Job = Box::new(move || {
        let value = work();
        *put.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        drop(put);
        drop(guard);
    });
    send(lane, job)?;
    Running { result, wait }.await
}

struct Finish {
    remote: Arc<Remote>,
    slot: usize,
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.remote.finish(self.slot);
    }
}

fn send(lane: Lane, job: Job) -> io::Result<()> {
    LANES.with_borrow_mut(|lanes| {
        let slot = &mut lanes[lane as usize];
        let sender = match slot {
            Some(sender) => sender,
            None => {
                let (sender, jobs) = channel::<Job>();
                let name = match lane {
                    Lane::Metadata => "ringmq-meta",
                    Lane::Commit => "ringmq-commit",
                };
                std::thread::Builder::new().name(name.into()).stack_size(256 * 1024).spawn(move || {
                    while let Ok(job) = jobs.recv() {
                        job();
                    }
                })?;
                slot.insert(sender)
            }
        };
        sender.send(job).map_err(|_| io::Error::other("the shard's blocking thread has ended"))
    })
}

struct Running<T> {
    result: Arc<Mutex<Option<T>>>,
    wait: Wait,
}

impl<T> Future for Running<T> {
    type Output = io::Result<T>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.wait.register(cx.waker());
        // Looked at before the result: a worker lets go of its clone only once the result is in place, or when it panics.
        let ended = Arc::strong_count(&self.result) == 1;
        let value = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        match value {
            Some(value) => Poll::Ready(Ok(value)),
            None if ended => Poll::Ready(Err(io::Error::other("the shard's blocking thread panicked"))),
            None => Poll::Pending,
        }
    }
}
