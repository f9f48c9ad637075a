//! The receive buffers that a ring hands to the kernel (a provided-buffer ring) and gets back when the last slice of one is
//! dropped, on whichever shard that happens.

use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;
use io_uring::{IoUring, types::BufRingEntry};

use crate::BLOCK;
use crate::buf::Slice;
use crate::uring::remote::Remote;

/// Buffers of a shard. Their memory is touched only when the kernel fills them.
pub(super) const BUFFERS: u16 = 512;
/// Bytes of one. Small enough that a peer that trickles wastes little, large enough for a dozen 1 KiB messages.
pub(super) const BUFFER: usize = 16 * 1024;
/// The buffer group's number; a ring has one.
pub(super) const GROUP: u16 = 0;
/// Below this many free buffers a connection that waits gives back what it holds.
const SCARCE: u32 = BUFFERS as u32 / 2;

/// One ring's receive buffers. It lives as long as the process, because slices may outlive the ring.
pub(crate) struct Pool {
    memory: NonNull<u8>,
    ring: NonNull<BufRingEntry>,
    refs: Box<[AtomicU32]>,
    /// Buffers whose last slice was dropped on another thread.
    returned: ArrayQueue<u16>,
    free: AtomicU32,
    /// A connection waits for a buffer.
    starved: AtomicBool,
    open: AtomicBool,
    owner: u64,
    /// How other threads wake the owner.
    remote: OnceLock<Arc<Remote>>,
    tail: Cell<u16>,
}

// SAFETY: `tail` and the buffer ring are touched by the owning thread only (`owner` is compared first); everything else is
// atomic or immutable.
unsafe impl Sync for Pool {}
// SAFETY: as above.
unsafe impl Send for Pool {}

fn thread_id() -> u64 {
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static ID: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    ID.with(|id| *id)
}

fn map(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: an anonymous private mapping at an address of the kernel's choice.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap returned null"))
}

impl Pool {
    pub(super) fn register(uring: &IoUring) -> io::Result<&'static Self> {
        let memory = map(BUFFERS as usize * BUFFER)?;
        let ring = map((BUFFERS as usize * size_of::<BufRingEntry>()).next_multiple_of(BLOCK))?.cast::<BufRingEntry>();
        let pool: &'static Self = Box::leak(Box::new(Self {
            memory,
            ring,
            refs: (0..BUFFERS).map(|_| AtomicU32::new(0)).collect(),
            returned: ArrayQueue::new(BUFFERS as usize),
            free: AtomicU32::new(0),
            starved: AtomicBool::new(false),
            open: AtomicBool::new(true),
            owner: thread_id(),
            remote: OnceLock::new(),
            tail: Cell::new(0),
        }));
        // SAFETY: the ring's memory is page-aligned, large enough, and lives as long as the process.
        unsafe { uring.submitter().register_buf_ring_with_flags(ring.as_ptr() as u64, BUFFERS, GROUP, 0)? };
        for id in 0..BUFFERS {
            pool.give(id);
        }
        Ok(pool)
    }

    /// Tells other threads how to wake the owner.
    pub(super) fn set_remote(&self, remote: Arc<Remote>) {
        let _ = self.remote.set(remote);
    }

    pub(super) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// The ring is closed; buffers that come back have nowhere to go.
    pub(super) fn retire(&self) {
        self.open.store(false, Ordering::Release);
    }

    pub(super) fn scarce(&self) -> bool {
        self.free.load(Ordering::Relaxed) < SCARCE
    }

    /// A connection could not receive for want of a buffer; the driver retries it when one is back.
    pub(super) fn set_starved(&self) {
        self.starved.store(true, Ordering::Release);
    }

    /// Hands one buffer to the kernel. Owner only.
    fn give(&self, id: u16) {
        let tail = self.tail.get();
        let at = usize::from(tail & (BUFFERS - 1));
        // SAFETY: the index is inside the ring's mapping, and only the owning thread writes entries.
        let entry = unsafe { &mut *self.ring.as_ptr().add(at) };
        entry.set_addr(self.memory.as_ptr() as u64 + u64::from(id) * BUFFER as u64);
        entry.set_len(BUFFER as u32);
        entry.set_bid(id);
        let tail = tail.wrapping_add(1);
        self.tail.set(tail);
        // SAFETY: the tail lies in the first entry's reserved field, as the kernel defines it; it is written with release
        // order so that the entry is seen before it.
        unsafe {
            let kernel_tail = BufRingEntry::tail(self.ring.as_ptr()).cast::<AtomicU16>();
            (*kernel_tail).store(tail, Ordering::Release);
        }
        self.free.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes in what other threads gave back; true if a starved connection can go on.
    pub(super) fn collect(&self) -> bool {
        while let Some(id) = self.returned.pop() {
            self.give(id);
        }
        self.free.load(Ordering::Relaxed) > 0 && self.starved.swap(false, Ordering::AcqRel)
    }

    /// The kernel filled buffer `id` with `len` bytes.
    pub(super) fn taken(&'static self, id: u16, len: usize) -> Slice {
        self.free.fetch_sub(1, Ordering::Relaxed);
        self.refs[usize::from(id)].store(1, Ordering::Relaxed);
        // SAFETY: the kernel names only ids that it was given, so the address is inside the mapping.
        let at = unsafe { self.memory.add(usize::from(id) * BUFFER) };
        Slice::from_chunk(ChunkRef { pool: self, id }, at, len.min(BUFFER))
    }

    fn put_back(&self, id: u16) {
        if !self.open.load(Ordering::Acquire) {
            return;
        }
        if thread_id() == self.owner {
            self.give(id);
            return;
        }
        // There is room: a buffer is in the queue at most once.
        let _ = self.returned.push(id);
        if self.starved.load(Ordering::Acquire)
            && let Some(remote) = self.remote.get()
        {
            remote.wake();
        }
    }
}

/// One reference to a receive buffer.
pub(crate) struct ChunkRef {
    pool: &'static Pool,
    id: u16,
}

impl Clone for ChunkRef {
    fn clone(&self) -> Self {
        self.pool.refs[usize::from(self.id)].fetch_add(1, Ordering::Relaxed);
        Self { pool: self.pool, id: self.id }
    }
}

impl Drop for ChunkRef {
    fn drop(&mut self) {
        if self.pool.refs[usize::from(self.id)].fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            self.pool.put_back(self.id);
        }
    }
}
