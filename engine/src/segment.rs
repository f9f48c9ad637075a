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

/// The segments of one shard, oldest first, and the handles that are open.
#[derive(Debug)]
pub(crate) struct Segments {
    dir: PathBuf,
    spans: RefCell<Vec<Span>>,
    handles: RefCell<Cache<u64, Rc<File>>>,
    /// Everything between the writer and here holds written zeros.
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

    /// Looks at the files that are there. A last file without length was never used and is removed.
    pub(crate) async fn open(root: &Path, shard: ShardId) -> Result<Self, OpenError> {
        let dir = Self::dir(root, shard);
        crate::dir::make(&dir, root).await?;
        let names = fs::read_dir(&dir).await.map_err(OpenError::io("list", &dir))?;
        let mut bases: Vec<u64> = names.iter().filter_map(|n| base_of(n)).collect();
        bases.sort_unstable();
        let mut spans: Vec<Span> = Vec::with_capacity(bases.len());
        let mut handles = Cache::new(limits::OPEN_SEGMENTS);
        for (at, &base) in bases.iter().enumerate() {
            let path = Self::path_in(&dir, base);
            if let Some(expected) = spans.last().map(|last| last.end).filter(|&end| end != base) {
                return Err(OpenError::Gap { path, position: Position::new(shard, expected) });
            }
            let file = File::open(&path).await.map_err(OpenError::io("open", &path))?;
            let len = file.len().await.map_err(OpenError::io("measure", &path))?;
            if at + 1 == bases.len() && len < limits::SEGMENT_SIZE_MIN {
                fs::remove(&path).await.map_err(OpenError::io("remove", &path))?;
                continue;
            }
            spans.push(Span { base, end: base + len / limits::BLOCK * limits::BLOCK });
            handles.insert(base, Rc::new(file));
        }
        Ok(Self {
            dir,
            spans: RefCell::new(spans),
            handles: RefCell::new(handles),
            zeroed: Cell::new(0),
            zeroing: Cell::new(None),
            zero_done: Waiters::new(),
        })
    }

    pub(crate) fn path(&self, base: u64) -> PathBuf {
        Self::path_in(&self.dir, base)
    }

    /// First byte of the log that is still kept.
    pub(crate) fn start(&self) -> Option<u64> {
        self.spans.borrow().first().map(|s| s.base)
    }

    /// The segment that holds the byte at `offset`.
    pub(crate) fn holding(&self, offset: u64) -> Option<Span> {
        let spans = self.spans.borrow();
        let at = spans.partition_point(|s| s.base <= offset).checked_sub(1)?;
        Some(spans[at]).filter(|s| offset < s.end)
    }

    pub(crate) fn last(&self) -> Option<Span> {
        self.spans.borrow().last().copied()
    }

    /// The segments that hold some of `from..to`.
    pub(crate) fn between(&self, from: u64, to: u64) -> Vec<Span> {
        self.spans.borrow().iter().filter(|s| s.base < to && from < s.end).copied().collect()
    }

    /// The file of the segment at `base`.
    pub(crate) async fn file(&self, base: u64) -> io::Result<Rc<File>> {
        if let Some(file) = self.handles.borrow_mut().get(base) {
            return Ok(file);
        }
        let file = Rc::new(File::open(&self.path(base)).await?);
        self.handles.borrow_mut().insert(base, Rc::clone(&file));
        Ok(file)
    }

    /// Creates the segment at `base`: whole, empty, and there after a power cut. A failure leaves nothing behind but,
    /// at worst, a file that the next try removes.
    pub(crate) async fn create(&self, base: u64, len: u64) -> io::Result<Span> {
        let path = self.path(base);
        fs::remove(&path).await?;
        let file = File::create(&path).await?;
        let made = match file.allocate(len).await {
            Ok(()) => file.sync().await,
            refused => refused,
        };
        if let Err(error) = made {
            fs::remove(&path).await?;
            return Err(error);
        }
        fs::sync_dir(&self.dir).await?;
        self.handles.borrow_mut().insert(base, Rc::new(file));
        let span = Span { base, end: base + len };
        self.spans.borrow_mut().push(span);
        Ok(span)
    }

    /// Removes the segments from `base` on, which hold nothing.
    pub(crate) async fn remove_from(&self, base: u64) -> Result<(), OpenError> {
        let gone: Vec<Span> = self.spans.borrow().iter().filter(|s| s.base >= base).copied().collect();
        for span in gone.iter().rev() {
            let path = self.path(span.base);
            fs::remove(&path).await.map_err(OpenError::io("remove", path))?;
        }
        self.spans.borrow_mut().retain(|s| s.base < base);
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

fn base_of(name: &Path) -> Option<u64> {
    let name = name.to_str().filter(|n| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit()))?;
    name.parse().ok()
}
