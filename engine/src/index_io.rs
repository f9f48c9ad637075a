//! Moves blocks of the queue index between memory and the shard's index files. A task of its own: the send path never
//! waits for it, it only stops taking messages when too many blocks wait.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringmq_rt::{AlignedBuf, File, Slice, fs, sleep, timeout};

use crate::error::{OpenError, ReadError};
use crate::index_log::{BlockHead, IndexBlock, file_of};
use crate::limits::{self, INDEX_GROW_BLOCKS};
use crate::position::ShardId;
use crate::state::{Core, Room, State};

/// The files of a shard's index log.
#[derive(Debug)]
pub(crate) struct IndexFiles {
    dir: PathBuf,
    open: RefCell<HashMap<u32, Rc<IndexFile>>>,
    /// Files with blocks that are not flushed.
    dirty: RefCell<BTreeSet<u32>>,
    /// A file's name is not flushed.
    new_name: Cell<bool>,
    /// Files in front of it are gone.
    first: Cell<u32>,
}

#[derive(Debug)]
struct IndexFile {
    file: File,
    allocated: Cell<u64>,
}

impl IndexFiles {
    /// The directory of a shard's index.
    pub(crate) fn dir(root: &Path, shard: ShardId) -> PathBuf {
        root.join("index").join(shard.to_string())
    }

    pub(crate) async fn open(root: &Path, shard: ShardId) -> Result<Self, OpenError> {
        let dir = Self::dir(root, shard);
        crate::dir::make(&dir, root).await?;
        Ok(Self {
            dir,
            open: RefCell::default(),
            dirty: RefCell::default(),
            new_name: Cell::new(false),
            first: Cell::new(0),
        })
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:010}"))
    }

    /// A file of another purpose beside the index log.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    async fn file(&self, number: u32) -> io::Result<Rc<IndexFile>> {
        if let Some(file) = self.open.borrow().get(&number) {
            return Ok(Rc::clone(file));
        }
        if number < self.first.get() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = self.path(number);
        let file = match File::open(&path).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = File::create(&path).await?;
                self.new_name.set(true);
                file
            }
            other => other?,
        };
        let allocated = Cell::new(file.len().await?);
        let file = Rc::new(IndexFile { file, allocated });
        // Another task may have opened it meanwhile; one of the two stays.
        Ok(Rc::clone(self.open.borrow_mut().entry(number).or_insert(file)))
    }

    /// Writes blocks from number `first` on, which all belong into one file.
    pub(crate) async fn write(&self, first: u32, parts: &[Slice]) -> io::Result<()> {
        let (number, offset) = file_of(first);
        let file = self.file(number).await?;
        let end = offset + parts.iter().map(|p| p.len() as u64).sum::<u64>();
        if end > file.allocated.get() {
            let len = end.next_multiple_of(u64::from(INDEX_GROW_BLOCKS) * limits::BLOCK);
            file.file.allocate(len).await?;
            file.allocated.set(len);
        }
        self.dirty.borrow_mut().insert(number);
        file.file.write_at(parts, offset).await
    }

    /// Makes every written block durable.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for number in dirty.into_iter().filter(|number| *number >= self.first.get()) {
            self.file(number).await?.file.sync().await?;
        }
        if self.new_name.replace(false) {
            fs::sync_dir(&self.dir).await?;
        }
        Ok(())
    }

    /// Removes the files in front of `block`, which begins a file.
    pub(crate) async fn remove_before(&self, block: u32) -> io::Result<()> {
        let (first, _) = file_of(block);
        self.first.set(first.max(self.first.get()));
        self.open.borrow_mut().retain(|number, _| *number >= first);
        for name in fs::read_dir(&self.dir).await? {
            let number = name.to_str().filter(|n| n.len() == 10).and_then(|n| n.parse::<u32>().ok());
            if number.is_some_and(|number| number < first) {
                fs::remove(&self.dir.join(name)).await?;
            }
        }
        Ok(())
    }

    /// Reads a block that is written and must be the one that `head` names.
    pub(crate) async fn read(&self, shard: ShardId, block: u32, head: BlockHead) -> Result<IndexBlock, ReadError> {
        let (number, offset) = file_of(block);
        let failed = |error| ReadError::Io { path: self.path(number), at: offset, error };
        let file = self.file(number).await.map_err(failed)?;
        let buf = AlignedBuf::new(ringmq_rt::BLOCK)?;
        let (buf, len) = file.file.read_at(buf, offset).await.map_err(failed)?;
        let whole = (len == buf.len()).then(|| buf.freeze());
        whole.and_then(|b| IndexBlock::check(b, head)).ok_or(ReadError::IndexDamaged { shard, block })
    }
}

/// Writes pending blocks until the shard closes. A few blocks wait a moment for company.
pub(crate) async fn run(core: Rc<Core>) {
    loop {
        let (pending, urgent) = core.with(|s| (s.index.pending(), s.index_urgent()));
        // What is left then is derived data that no snapshot refers to.
        if core.with(State::is_ending) {
            return;
        }
        if pending == 0 {
            core.index_work.wait().await;
            continue;
        }
        if pending < limits::INDEX_WRITE_BLOCKS / 4 && !urgent {
            // Whoever needs the blocks on disk notifies; otherwise the time is up.
            if timeout(limits::INDEX_DELAY, core.index_work.wait()).await.is_ok() {
                continue;
            }
        }
        if !write_some(&core).await {
            return;
        }
    }
}

/// One write; false when the shard is out of service.
async fn write_some(core: &Rc<Core>) -> bool {
    let Some((first, parts)) = core.with(|s| s.index.next_write()) else { return true };
    let blocks = parts.iter().map(|p| p.len() / ringmq_rt::BLOCK).sum::<usize>();
    match core.index_files.write(first, &parts).await {
        Ok(()) => {
            core.with_mut(|s| {
                s.index_wrote(u32::try_from(blocks).unwrap_or(0));
                s.set_no_room(Room::Index, false);
            });
            core.progress.wake_all();
            true
        }
        Err(e) if is_full(&e) => {
            if core.with_mut(|s| s.set_no_room(Room::Index, true)) {
                tracing::warn!(shard = %core.shard, "no room for the queue index: {e}");
                core.progress.wake_all();
            }
            sleep(limits::SPACE_INTERVAL).await;
            !core.with(State::is_poisoned)
        }
        Err(e) => {
            core.poison("writing the queue index", e);
            false
        }
    }
}

/// Whether the error says that the disk is full, which passes.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
