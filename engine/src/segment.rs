//! The files of a shard's commit log: names, handles, creation. Which bytes go where is [`crate::log`]'s matter, and
//! preparing the next file ahead of the writer is [`crate::prepare`]'s.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringmq_rt::sync::Waiters;
use ringmq_rt::{File, fs};

use crate::cache::Cache;
use crate::error::OpenError;
use crate::limits;
use crate::log::Span;
use crate::position::{Position, ShardId};

/// One file of the log.
#[derive(Debug, Clone, Copy)]
struct Segment {
    span: Span,
    /// It was another segment before: all its blocks are written, and hold what that one held.
    recycled: bool,
    /// Store time of its last record, once that is known.
    last_ms: Option<i64>,
}

impl Segment {
    fn new(span: Span, recycled: bool) -> Self {
        Self { span, recycled, last_ms: None }
    }
}

/// How the files of a log are made and kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Where the log starts.
    pub(crate) start: u64,
    /// Length of new segments.
    pub(crate) size: u64,
    /// Most files that are kept for later.
    pub(crate) spares: usize,
}

/// The segments of one shard, oldest first, and the handles that are open.
#[derive(Debug)]
pub(crate) struct Segments {
    dir: PathBuf,
    shape: Shape,
    segments: RefCell<Vec<Segment>>,
    handles: RefCell<Cache<u64, Rc<File>>>,
    /// Numbers of the files that are kept for later, and the next number.
    spares: RefCell<Vec<u64>>,
    next_spare: Cell<u64>,
    /// Everything between the writer and here holds written zeros, or what a recycled segment held.
    pub(crate) zeroed: Cell<u64>,
    /// The zero write in flight; the log's writer must not meet it.
    zeroing: Cell<Option<(u64, u64)>>,
    zero_done: Waiters,
}

impl Segments {
    /// The directory of a shard's commit log.
    pub(crate) fn dir(root: &Path, shard: ShardId) -> PathBuf {
        root.join("commitlog").join(shard.to_string())
    }

    pub(crate) fn path_in(dir: &Path, base: u64) -> PathBuf {
        dir.join(format!("{base:020}"))
    }

    /// Looks at the files that are there. A last file without length was never used and is removed; what lies in front
    /// of the log's start was dropped and goes now if it did not then.
    pub(crate) async fn open(root: &Path, shard: ShardId, shape: Shape) -> Result<Self, OpenError> {
        let dir = Self::dir(root, shard);
        crate::dir::make(&dir, root).await?;
        let this = Self {
            dir,
            shape,
            segments: RefCell::default(),
            handles: RefCell::new(Cache::new(limits::OPEN_SEGMENTS)),
            spares: RefCell::default(),
            next_spare: Cell::new(0),
            zeroed: Cell::new(0),
            zeroing: Cell::new(None),
            zero_done: Waiters::new(),
        };
        let names = fs::read_dir(&this.dir).await.map_err(OpenError::io("list", &this.dir))?;
        this.find_spares(&names).await?;
        let mut bases: Vec<u64> = names.iter().filter_map(|n| base_of(n)).collect();
        bases.sort_unstable();
        let kept = bases.partition_point(|base| *base < shape.start);
        for &base in &bases[..kept] {
            let path = this.path(base);
            let (_, len) = measure(&path).await?;
            let kept = this.discard(Span { base, end: base + len }, true).await;
            kept.map_err(OpenError::io("remove", &path))?;
        }
        this.find_segments(shard, &bases[kept..]).await?;
        // A process that was killed may have left names that a power cut would take back, with all that is written from
        // now on below them.
        fs::sync_dir(&this.dir).await.map_err(OpenError::io("flush", &this.dir))?;
        Ok(this)
    }

    async fn find_segments(&self, shard: ShardId, bases: &[u64]) -> Result<(), OpenError> {
        let mut expected = (self.shape.start > 0).then_some(self.shape.start);
        for (at, &base) in bases.iter().enumerate() {
            let path = self.path(base);
            if let Some(expected) = expected.filter(|&end| end != base) {
                return Err(OpenError::Gap { path, position: Position::new(shard, expected) });
            }
            let (file, len) = measure(&path).await?;
            if at + 1 == bases.len() && len < limits::SEGMENT_SIZE_MIN {
                fs::remove(&path).await.map_err(OpenError::io("remove", &path))?;
                continue;
            }
            let span = Span { base, end: base + len / limits::BLOCK * limits::BLOCK };
            expected = Some(span.end);
            self.segments.borrow_mut().push(Segment::new(span, false));
            self.handles.borrow_mut().insert(base, Rc::new(file));
        }
        Ok(())
    }

    /// Takes in the files that an earlier run kept for later; those that cannot be used go.
    async fn find_spares(&self, names: &[PathBuf]) -> Result<(), OpenError> {
        for number in names.iter().filter_map(|n| spare_of(n)) {
            self.next_spare.set(self.next_spare.get().max(number + 1));
            let path = self.spare_path(number);
            let (_, len) = measure(&path).await?;
            if len == self.shape.size && self.spares.borrow().len() < self.shape.spares {
                self.spares.borrow_mut().push(number);
            } else {
                fs::remove(&path).await.map_err(OpenError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self, base: u64) -> PathBuf {
        Self::path_in(&self.dir, base)
    }

    /// Where the log's start is noted.
    pub(crate) fn start_path(&self) -> PathBuf {
        crate::start::path_in(&self.dir)
    }

    fn spare_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{SPARE}{number:010}"))
    }

    /// First byte of the log that is still kept.
    pub(crate) fn start(&self) -> u64 {
        self.segments.borrow().first().map_or(self.shape.start, |s| s.span.base)
    }

    /// The segment that holds the byte at `offset`.
    pub(crate) fn holding(&self, offset: u64) -> Option<Span> {
        let segments = self.segments.borrow();
        let at = segments.partition_point(|s| s.span.base <= offset).checked_sub(1)?;
        Some(segments[at].span).filter(|s| offset < s.end)
    }

    pub(crate) fn last(&self) -> Option<Span> {
        self.segments.borrow().last().map(|s| s.span)
    }

    /// The segments that hold some of `from..to`.
    pub(crate) fn between(&self, from: u64, to: u64) -> Vec<Span> {
        let segments = self.segments.borrow();
        segments.iter().map(|s| s.span).filter(|s| s.base < to && from < s.end).collect()
    }

    /// Every segment that begins in front of `end`, with the store time of its last record if that is known.
    pub(crate) fn before(&self, end: u64) -> Vec<(Span, Option<i64>)> {
        let segments = self.segments.borrow();
        segments.iter().take_while(|s| s.span.base < end).map(|s| (s.span, s.last_ms)).collect()
    }

    /// Notes the store time of the last record of a segment.
    pub(crate) fn set_last_ms(&self, base: u64, last_ms: i64) {
        if let Some(segment) = self.segments.borrow_mut().iter_mut().find(|s| s.span.base == base) {
            segment.last_ms = Some(last_ms);
        }
    }

    /// Where the recycled segment ends that holds `offset`, if it lies in one.
    pub(crate) fn recycled_to(&self, offset: u64) -> Option<u64> {
        let segments = self.segments.borrow();
        // The writer is at the newest ones.
        let found = segments.iter().rev().find(|s| s.span.base <= offset && offset < s.span.end);
        found.filter(|s| s.recycled).map(|s| s.span.end)
    }

    /// The file of the segment at `base`.
    pub(crate) async fn file(&self, base: u64) -> io::Result<Rc<File>> {
        if let Some(file) = self.handles.borrow_mut().get(base) {
            return Ok(file);
        }
        let file = Rc::new(File::open(&self.path(base)).await?);
        // Dropped meanwhile: a handle that is kept would keep the room.
        if self.holding(base).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.handles.borrow_mut().insert(base, Rc::clone(&file));
        Ok(file)
    }

    /// Makes the segment at `base`, whole and there after a power cut: a file that was kept for later, or a new one. A
    /// failure leaves nothing behind but, at worst, a file that the next try removes.
    pub(crate) async fn create(&self, base: u64, len: u64) -> io::Result<Span> {
        let path = self.path(base);
        let (file, recycled) = match self.take_spare(&path, len).await? {
            Some(file) => (file, true),
            None => (allocate(&path, len).await?, false),
        };
        fs::sync_dir(&self.dir).await?;
        self.handles.borrow_mut().insert(base, Rc::new(file));
        let span = Span { base, end: base + len };
        self.segments.borrow_mut().push(Segment::new(span, recycled));
        Ok(span)
    }

    /// Gives a file that was kept for later its new name.
    async fn take_spare(&self, path: &Path, len: u64) -> io::Result<Option<File>> {
        if len != self.shape.size {
            return Ok(None);
        }
        loop {
            let Some(number) = self.spares.borrow_mut().pop() else { return Ok(None) };
            match fs::rename(&self.spare_path(number), path).await {
                Ok(()) => return File::open(path).await.map(Some),
                // Somebody removed it to make room.
                Err(e) if e.kind() == io::ErrorKind::NotFound => (),
                Err(e) => return Err(e),
            }
        }
    }

    /// Forgets the segments in front of `start`, where one begins: from now on nobody finds them. Their files are still
    /// there, see [`discard`](Self::discard).
    pub(crate) fn cut(&self, start: u64) -> Vec<Span> {
        let mut segments = self.segments.borrow_mut();
        let kept = segments.partition_point(|s| s.span.base < start);
        let gone: Vec<Span> = segments.drain(..kept).map(|s| s.span).collect();
        let mut handles = self.handles.borrow_mut();
        gone.iter().for_each(|span| handles.remove(span.base));
        gone
    }

    /// Lets a dropped segment's file go: kept for later if it suits and `keep` allows, removed otherwise. Says whether it
    /// was kept. Its new name is durable before it is used again, so that no two names ever lead to it.
    pub(crate) async fn discard(&self, span: Span, keep: bool) -> io::Result<bool> {
        let path = self.path(span.base);
        let suits = span.end - span.base == self.shape.size && self.spares.borrow().len() < self.shape.spares;
        if !keep || !suits {
            fs::remove(&path).await?;
            return Ok(false);
        }
        let number = self.next_spare.replace(self.next_spare.get() + 1);
        fs::rename(&path, &self.spare_path(number)).await?;
        fs::sync_dir(&self.dir).await?;
        self.spares.borrow_mut().push(number);
        Ok(true)
    }

    /// Files that are kept for later.
    pub(crate) fn spares(&self) -> usize {
        self.spares.borrow().len()
    }

    /// Removes a file that was kept for later.
    pub(crate) async fn discard_spare(&self) -> io::Result<()> {
        let spare = self.spares.borrow_mut().pop();
        match spare {
            Some(number) => fs::remove(&self.spare_path(number)).await,
            None => Ok(()),
        }
    }

    /// Removes the segments from `base` on, which hold nothing.
    pub(crate) async fn remove_from(&self, base: u64) -> Result<(), OpenError> {
        let gone: Vec<Span> = self.between(base, u64::MAX);
        for span in gone.iter().rev() {
            let path = self.path(span.base);
            fs::remove(&path).await.map_err(OpenError::io("remove", path))?;
        }
        self.segments.borrow_mut().retain(|s| s.span.base < base);
        Ok(())
    }

    /// Marks `from..to` as being overwritten with zeros.
    pub(crate) fn begin_zeros(&self, from: u64, to: u64) {
        self.zeroing.set(Some((from, to)));
    }

    pub(crate) fn end_zeros(&self) {
        self.zeroing.set(None);
        self.zero_done.wake_all();
    }

    /// Waits until no zero write touches `from..to`.
    pub(crate) async fn clear_of_zeros(&self, from: u64, to: u64) {
        let clear = || self.zeroing.get().is_none_or(|(a, b)| to <= a || b <= from).then_some(());
        self.zero_done.until(clear).await;
    }
}

/// What a file is called that is kept for later, before its number.
const SPARE: &str = "spare-";

fn base_of(name: &Path) -> Option<u64> {
    let name = name.to_str().filter(|n| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit()))?;
    name.parse().ok()
}

fn spare_of(name: &Path) -> Option<u64> {
    name.to_str()?.strip_prefix(SPARE)?.parse().ok()
}

async fn measure(path: &Path) -> Result<(File, u64), OpenError> {
    let file = File::open(path).await.map_err(OpenError::io("open", path))?;
    let len = file.len().await.map_err(OpenError::io("measure", path))?;
    Ok((file, len))
}

/// A new file of that length, empty.
async fn allocate(path: &Path, len: u64) -> io::Result<File> {
    fs::remove(path).await?;
    let file = File::create(path).await?;
    let made = match file.allocate(len).await {
        Ok(()) => file.sync().await,
        refused => refused,
    };
    if let Err(error) = made {
        fs::remove(path).await?;
        return Err(error);
    }
    Ok(file)
}
