//! Buffers that are filled once and then only shared: aligned memory for direct I/O, the append buffer of a log, and the
//! reference-counted [`Slice`] that sockets, logs and replies pass around instead of copying.
//!
//! A `Slice` may travel to another shard: its bytes never change while it lives. Dropping it there sends a receive buffer
//! home to the ring that owns it. Memory is accounted per process ([`aligned_bytes`]).

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::BLOCK;
use crate::uring::pool::ChunkRef;

static ALIGNED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Bytes of aligned memory that are allocated now, in the whole process.
pub fn aligned_bytes() -> usize {
    ALIGNED_BYTES.load(Ordering::Relaxed)
}

/// The allocator refused aligned memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory for an aligned buffer of {0} bytes")]
pub struct OutOfMemory(pub usize);

/// Zeroed memory at a multiple of [`BLOCK`]. Shared by an [`AppendBuf`] and the slices cut from it.
struct AlignedMem {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is plain bytes; who may write which part is governed by `AlignedBuf` (sole owner) and `AppendBuf`
// (sole writer, only behind everything that slices can reach).
unsafe impl Send for AlignedMem {}
// SAFETY: as above; shared access only ever reads parts that are never written again.
unsafe impl Sync for AlignedMem {}

impl AlignedMem {
    fn new(len: usize) -> Result<Self, OutOfMemory> {
        let len = len.max(1).next_multiple_of(BLOCK);
        let layout = Layout::from_size_align(len, BLOCK).map_err(|_| OutOfMemory(len))?;
        // SAFETY: the layout has a non-zero size.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(OutOfMemory(len))?;
        ALIGNED_BYTES.fetch_add(len, Ordering::Relaxed);
        Ok(Self { ptr, len })
    }
}

impl Drop for AlignedMem {
    fn drop(&mut self) {
        ALIGNED_BYTES.fetch_sub(self.len, Ordering::Relaxed);
        // SAFETY: allocated in `new` with this size and alignment, both valid there.
        unsafe { dealloc(self.ptr.as_ptr(), Layout::from_size_align_unchecked(self.len, BLOCK)) }
    }
}

/// An owned, zeroed buffer for direct I/O; its length is a multiple of [`BLOCK`].
pub struct AlignedBuf {
    mem: AlignedMem,
}

impl AlignedBuf {
    /// At least `len` bytes, rounded up to a multiple of [`BLOCK`].
    ///
    /// # Errors
    /// [`OutOfMemory`] when the allocator refuses.
    pub fn new(len: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { mem: AlignedMem::new(len)? })
    }

    /// Gives the buffer up for sharing: all of it becomes one slice.
    pub fn freeze(self) -> Slice {
        let len = self.mem.len;
        let ptr = self.mem.ptr;
        Slice { ptr, len, owner: Owner::Aligned(Arc::new(self.mem)) }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.mem.ptr.as_ptr()
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `mem` owns `len` initialised bytes and `self` is their only owner.
        unsafe { std::slice::from_raw_parts(self.mem.ptr.as_ptr(), self.mem.len) }
    }
}

impl std::ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.mem.ptr.as_ptr(), self.mem.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.mem.len)
    }
}

/// A buffer with one writer that only goes forward: what is behind the writer can be shared as [`Slice`]s while the writer
/// goes on. It is the log's write buffer, the source of replication and the cache of tail readers at once.
pub struct AppendBuf {
    mem: Arc<AlignedMem>,
    len: usize,
}

impl AppendBuf {
    /// A buffer with room for at least `capacity` bytes.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the allocator refuses.
    pub fn new(capacity: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { mem: Arc::new(AlignedMem::new(capacity)?), len: 0 })
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.mem.len - self.len
    }

    /// Lets `fill` write the next `len` bytes (zeroed, or stale from an earlier use after [`recycle`](Self::recycle)) and
    /// returns what `fill` returned. `None` when they do not fit. If `fill` panics nothing was appended.
    pub fn append<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        if len > self.remaining() {
            return None;
        }
        // SAFETY: the range lies inside the allocation and behind `self.len`; slices only reach in front of it and
        // `&mut self` makes this the only writer.
        let room = unsafe { std::slice::from_raw_parts_mut(self.mem.ptr.as_ptr().add(self.len), len) };
        let result = fill(room);
        self.len += len;
        Some(result)
    }

    /// A shared view of bytes that are written.
    ///
    /// # Panics
    /// When the range reaches beyond [`len`](Self::len): a slice of unwritten bytes would change under its reader.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.len, "slice {range:?} of {} written bytes", self.len);
        // SAFETY: the start lies inside the allocation.
        let ptr = unsafe { self.mem.ptr.add(range.start) };
        Slice { ptr, len: range.len(), owner: Owner::Aligned(Arc::clone(&self.mem)) }
    }

    /// Starts over in the same memory when no slice of it is left; the old bytes remain until overwritten.
    pub fn recycle(&mut self) -> bool {
        let alone = Arc::get_mut(&mut self.mem).is_some();
        if alone {
            self.len = 0;
        }
        alone
    }
}

impl Deref for AppendBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: everything in front of `len` is written and never changes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.mem.ptr.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AppendBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppendBuf({} of {} bytes)", self.len, self.mem.len)
    }
}

#[derive(Clone)]
enum Owner {
    /// Bytes that live as long as the process.
    Static,
    Aligned(Arc<AlignedMem>),
    Heap(Arc<Vec<u8>>),
    /// Bytes put together from pieces.
    Gathered(#[expect(dead_code, reason = "held for its drop")] Arc<[u8]>),
    /// A receive buffer that goes home to its ring when the last reference is dropped.
    Chunk(#[expect(dead_code, reason = "held for its drop")] ChunkRef),
}

/// Shared, immutable bytes: a piece of a receive buffer, of a log buffer, of a block read from disk, or of heap memory.
/// Cloning and cutting cost a reference count, never a copy.
#[derive(Clone)]
pub struct Slice {
    ptr: NonNull<u8>,
    len: usize,
    owner: Owner,
}

// SAFETY: the bytes are immutable while any slice lives and every owner is itself `Send + Sync`.
unsafe impl Send for Slice {}
// SAFETY: as above.
unsafe impl Sync for Slice {}

impl Slice {
    /// No bytes.
    pub const fn empty() -> Self {
        Self { ptr: NonNull::dangling(), len: 0, owner: Owner::Static }
    }

    /// Bytes that live as long as the process.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        let ptr = NonNull::from_ref(bytes).cast::<u8>();
        Self { ptr, len: bytes.len(), owner: Owner::Static }
    }

    pub(crate) fn from_chunk(chunk: ChunkRef, ptr: NonNull<u8>, len: usize) -> Self {
        Self { ptr, len, owner: Owner::Chunk(chunk) }
    }

    /// A copy of the pieces in one piece, for one allocation.
    pub fn gather(pieces: &[Self]) -> Self {
        let len = pieces.iter().map(|piece| piece.len).sum();
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
        let mut room = Arc::get_mut(&mut bytes).unwrap_or_default();
        for piece in pieces {
            let (place, behind) = room.split_at_mut(piece.len);
            place.copy_from_slice(piece);
            room = behind;
        }
        let ptr = NonNull::from_ref(&*bytes).cast::<u8>();
        Self { ptr, len, owner: Owner::Gathered(bytes) }
    }

    /// A part of these bytes.
    ///
    /// # Panics
    /// When the range does not lie inside.
    pub fn cut(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "cut {range:?} of {} bytes", self.len);
        // SAFETY: the start lies inside the slice.
        let ptr = unsafe { self.ptr.add(range.start) };
        Self { ptr, len: range.len(), owner: self.owner.clone() }
    }

    /// The same bytes in memory that holds no others: a copy, unless they have it already.
    #[must_use]
    pub fn detached(&self) -> Self {
        match &self.owner {
            Owner::Static => self.clone(),
            Owner::Heap(all) if all.len() == self.len => self.clone(),
            _ => self.to_vec().into(),
        }
    }

    /// Drops the first `n` bytes in place, without touching the reference count.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len, "advance {n} in {} bytes", self.len);
        // SAFETY: `n` is at most the length.
        self.ptr = unsafe { self.ptr.add(n) };
        self.len -= n;
    }

    /// Takes `other` in at the end if it lies directly behind these bytes in the same memory.
    pub fn try_join(&mut self, other: &Self) -> bool {
        let same = match (&self.owner, &other.owner) {
            (Owner::Aligned(a), Owner::Aligned(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        // SAFETY: one past the end of the slice is a valid address of the same allocation.
        if same && unsafe { self.ptr.add(self.len) } == other.ptr {
            self.len += other.len;
            return true;
        }
        false
    }

    /// Whether the bytes are a receive buffer of some ring, which should not be held while waiting for a peer.
    pub fn is_receive_buffer(&self) -> bool {
        matches!(self.owner, Owner::Chunk(_))
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Self {
        let bytes = Arc::new(bytes);
        let ptr = NonNull::from_ref(bytes.as_slice()).cast::<u8>();
        Self { ptr, len: bytes.len(), owner: Owner::Heap(bytes) }
    }
}

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `ptr` and `len` name immutable, initialised bytes that the owner keeps alive.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sliced_stays_while_the_writer_goes_on() {
        let mut buf = AppendBuf::new(BLOCK).unwrap();
        buf.append(5, |b| b.copy_from_slice(b"hello")).unwrap();
        let first = buf.slice(0..5);
        buf.append(6, |b| b.copy_from_slice(b" world")).unwrap();
        let mut joined = first.clone();
        assert!(joined.try_join(&buf.slice(5..11)));
        assert_eq!((&*first, &*joined), (&b"hello"[..], &b"hello world"[..]));
        assert!(!buf.recycle(), "slices are still alive");
        drop((first, joined));
        assert!(buf.recycle());
        assert_eq!(buf.len(), 0);
    }

    #[test]
    fn an_append_that_does_not_fit_changes_nothing() {
        let mut buf = AppendBuf::new(BLOCK).unwrap();
        assert!(buf.append(BLOCK + 1, |_| ()).is_none());
        assert_eq!((buf.len(), buf.remaining()), (0, BLOCK));
    }

    #[test]
    #[should_panic(expected = "written bytes")]
    fn unwritten_bytes_cannot_be_shared() {
        AppendBuf::new(BLOCK).unwrap().slice(0..1);
    }

    #[test]
    fn aligned_memory_is_aligned_zeroed_and_accounted() {
        let buf = AlignedBuf::new(5000).unwrap();
        assert_eq!(buf.len(), 8192);
        assert_eq!(buf.as_ptr() as usize % BLOCK, 0);
        assert!(buf.iter().all(|&b| b == 0));
        assert!(aligned_bytes() >= 8192);
        let slice = buf.freeze();
        assert_eq!(slice.cut(4096..4097).len(), 1);
    }

    #[test]
    fn slices_of_a_vector_keep_it() {
        let mut s = Slice::from(b"abcdef".to_vec());
        s.advance(2);
        assert_eq!(&*s.cut(1..3), b"de");
        assert_eq!(&*Slice::from_static(b"x"), b"x");
        assert!(Slice::empty().is_empty());
        let gathered = Slice::gather(&[s, Slice::empty(), Slice::from_static(b"x")]);
        assert_eq!(&*gathered, b"cdefx");
        assert!(Slice::gather(&[]).is_empty());
    }
}
