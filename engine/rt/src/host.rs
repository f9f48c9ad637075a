//! Starting shards: one pinned executor a core, and the stop signal that reaches them all.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::uring::remote::{Remote, Wait};
use crate::uring::start::{World, explain};
use crate::{Backend, backend};

/// A shard could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring is forbidden or exhausted; the text says what to change.
    #[error("{0}")]
    Uring(String),
    /// The executor could not be built, or the core does not exist.
    #[error("shard on core {core:?} cannot be started: {why}")]
    Executor {
        /// The core asked for.
        core: Option<usize>,
        /// glommio's words.
        why: String,
    },
    /// The shard's main task panicked.
    #[error("the shard panicked")]
    Panicked,
}

/// A running shard.
#[derive(Debug)]
pub struct Shard<T: Send + 'static>(ExecutorJoinHandle<Result<T, StartError>>, Option<usize>);

impl<T: Send + 'static> Shard<T> {
    /// Waits for the shard's main task.
    ///
    /// # Errors
    /// Why it could not run to its end.
    pub fn join(self) -> Result<T, StartError> {
        let core = self.1;
        self.0.join().map_err(|e| StartError::Executor { core, why: e.to_string() })?
    }
}

/// glommio's preemption timer. A long one keeps clear of its parking fault (an executor whose timer fires between its look
/// at the rings and its look at the tasks parks although tasks are runnable); the driver gives way by itself.
const PREEMPT: Duration = Duration::from_secs(3600);

fn builder(core: Option<usize>) -> LocalExecutorBuilder {
    let placement = core.map_or(Placement::Unbound, Placement::Fixed);
    // glommio's own rings and buffers are not used for I/O: the smallest that it accepts.
    LocalExecutorBuilder::new(placement).name("ringmq-shard").preempt_timer(PREEMPT).ring_depth(16).io_memory(64 * 1024)
}

/// Starts a shard on a thread of its own, pinned to `core` if one is given, and runs what `main` makes there.
///
/// # Errors
/// When the executor cannot be built. A ring that cannot be opened is reported by [`Shard::join`].
pub fn start<T, F, Fut>(core: Option<usize>, main: F) -> Result<Shard<T>, StartError>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    probe()?;
    let spawned = builder(core).spawn(move || async move {
        let world = World::open().map_err(|e| StartError::Uring(explain(&e)))?;
        world.run(async move { main().await }).await.ok_or(StartError::Panicked)
    });
    match spawned {
        Ok(handle) => Ok(Shard(handle, core)),
        Err(e) => Err(StartError::Executor { core, why: e.to_string() }),
    }
}

/// Runs one shard, unpinned, and waits for it: for tools and tests.
///
/// # Errors
/// Why it could not run.
pub fn block_on<T, F, Fut>(main: F) -> Result<T, StartError>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    start(None, main)?.join()
}

/// Whether io_uring can be used by this process, with everything a shard needs.
///
/// # Errors
/// [`StartError::Uring`] with what to change.
pub fn probe() -> Result<(), StartError> {
    let ring = io_uring::IoUring::<io_uring::squeue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(8);
    match ring {
        Ok(_) => Ok(()),
        Err(e) => Err(StartError::Uring(explain(&e))),
    }
}

/// `io_uring_enter` calls of this shard's ring since it was opened.
pub fn enters() -> u64 {
    crate::uring::ring::enters()
}

/// A request to stop that any thread can make and every shard can await.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Default)]
struct StopState {
    stopped: AtomicBool,
    waiting: Mutex<Vec<(Arc<Remote>, usize)>>,
    /// Those who wait in a simulated world, which has no ring to be woken through.
    simulated: Mutex<Vec<Waker>>,
}

impl std::fmt::Debug for StopState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StopState({})", self.stopped.load(Ordering::Relaxed))
    }
}

impl Stop {
    /// Not requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody to stop.
    pub fn request(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for (remote, slot) in waiting {
            remote.finish(slot);
        }
        let simulated = std::mem::take(&mut *self.0.simulated.lock().unwrap_or_else(PoisonError::into_inner));
        simulated.into_iter().for_each(Waker::wake);
    }

    /// Whether stop was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Waits until stop is asked for.
    ///
    /// # Errors
    /// When called outside a shard.
    pub async fn requested(&self) -> io::Result<()> {
        if backend() == Backend::Sim {
            std::future::poll_fn(|cx| {
                if self.is_requested() {
                    return Poll::Ready(());
                }
                self.0.simulated.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
                Poll::Pending
            })
            .await;
            return Ok(());
        }
        let remote = Remote::current().ok_or_else(|| io::Error::other("not on a shard's thread"))?;
        let wait = Wait::new();
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((remote, wait.slot()));
        std::future::poll_fn(|cx| {
            wait.register(cx.waker());
            if self.is_requested() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        Ok(())
    }
}

/// The signals that ask a process to end.
fn termination() -> libc::sigset_t {
    // SAFETY: all-zero bytes are a valid set, which `sigemptyset` then makes an empty one.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is writable, and the numbers are signals.
    unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
    }
    set
}

/// Keeps SIGTERM and SIGINT for [`wait_termination`]. Threads started from now on inherit that, so it is to be called
/// before the first.
///
/// # Errors
/// What the operating system says.
pub fn block_termination() -> io::Result<()> {
    let set = termination();
    // SAFETY: a readable set, and nowhere to put the old one.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Waits for one of the signals that [`block_termination`] keeps.
///
/// # Errors
/// What the operating system says.
pub fn wait_termination() -> io::Result<()> {
    let set = termination();
    let mut signal = 0;
    // SAFETY: a readable set and a writable number.
    match unsafe { libc::sigwait(&raw const set, &raw mut signal) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Asks another process to end, with SIGTERM.
///
/// # Errors
/// What the operating system says; `NotFound` when there is no such process.
pub fn terminate(pid: u32) -> io::Result<()> {
    // Zero and negative numbers would name groups of processes.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: no memory is involved.
    if unsafe { libc::kill(pid, libc::SIGTERM) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error })
}

/// Whether the kernel holds the wall clock to be synchronised with others.
///
/// # Errors
/// What the operating system says.
pub fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: all-zero bytes are a valid structure: a question without a change.
    let mut question: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: a writable structure.
    match unsafe { libc::adjtimex(&raw mut question) } {
        -1 => Err(io::Error::last_os_error()),
        state => Ok(state != libc::TIME_ERROR),
    }
}

/// Lets this process open as many files and sockets as its hard limit allows, and gives that limit.
///
/// # Errors
/// What the operating system says.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a writable structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: a readable structure.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}
