//! The control shard: owner of the tables, on the first executor. It carries out what the pure tables decide, always in
//! one order: the changed files are written, the other shards' copies are told, the name servers are told, clients are
//! notified. Changes that come in while a file is being written share the next write.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ringmq_net::ConnId;
use ringmq_rt::sync::{Event, Semaphore, Waiters};
use ringmq_rt::time::{now, sleep};
use ringmq_rt::{fs, spawn, step, wall_ms};

use crate::announce::Announcer;
use crate::control::{Changes, Control};
use crate::group_config::{GroupFile, GroupTable};
use crate::lock::LockTable;
use crate::mail::{Ask, ControlJob, Mail, Told};
use crate::member::{self, MEMBER_SCAN_MS, MemberTable};
use crate::node::Node;
use crate::offset::{Commit, OffsetFile, OffsetTable};
use crate::refusal::Refusal;
use crate::requests;
use crate::reset::ResetChange;
use crate::retention::ahead::Ahead;
use crate::retention::unread::{self, Unread};
use crate::runtime_info::{self, Boot};
use crate::stats::History;
use crate::table::{self, GROUPS_FILE, Loaded, OFFSETS_FILE, TIMERS_FILE, TOPICS_FILE, TableError};
use crate::timer::finished::Finished;
use crate::topic::{OwnTopic, TopicFile, TopicSettings, TopicTable, Wanted};
use crate::traffic::{COLLECT_PERIOD, Past};

/// How often the progress of timers is saved: what was delivered since is delivered again after a crash.
const TIMERS_PERIOD: Duration = Duration::from_secs(1);

/// The owner of the tables.
#[derive(Debug)]
pub struct ControlShard {
    pub node: Rc<Node>,
    pub tables: RefCell<Control>,
    /// How far timers are delivered.
    pub timers: Finished,
    dir: PathBuf,
    queue: RefCell<Vec<Queued>>,
    work: Event,
    /// Changes are being carried out.
    busy: Cell<bool>,
    /// Topics whose messages are being dropped.
    deleting: RefCell<HashSet<String>>,
    deleted: Waiters,
    /// One writes the file of offsets at a time, so that what is written last is the newest.
    offsets_file: Rc<Semaphore>,
    announcer: RefCell<Option<Rc<Announcer>>>,
    stopping: Cell<bool>,
    /// What the whole broker has done.
    pub history: RefCell<History>,
    /// What its topics and groups have moved.
    pub past: RefCell<Past>,
    pub boot: Boot,
    /// What groups lost unread.
    pub unread: RefCell<Unread>,
    /// What they are about to lose unread.
    pub ahead: RefCell<Ahead>,
    /// The configuration is being changed.
    pub config_changing: Cell<bool>,
    /// How often it was.
    pub config_changes: Cell<u32>,
}

/// A deletion under way.
#[derive(Debug)]
pub struct Deletion<'a> {
    control: &'a ControlShard,
    topic: &'a str,
}

impl Drop for Deletion<'_> {
    fn drop(&mut self) {
        self.control.deleting.borrow_mut().remove(self.topic);
        self.control.deleted.wake_all();
    }
}

#[derive(Debug)]
struct Queued {
    changes: Changes,
    done: Rc<Done>,
}

#[derive(Debug, Default)]
struct Done {
    event: Event,
    result: RefCell<Option<Result<(), String>>>,
}

/// A table's file on disk, as far as it can be understood.
async fn load<T>(
    dir: &Path,
    file: &'static str,
    parse: impl Fn(&[u8]) -> Result<T, TableError>,
) -> Result<Option<T>, String> {
    let max = crate::limits::TABLE_FILE_MAX as u64;
    let path = dir.join(file);
    let main = fs::read(&path, max).await.map_err(|e| e.to_string())?;
    let backup = fs::read(&dir.join(format!("{file}.bak")), max).await.map_err(|e| e.to_string())?;
    match table::load(file, main.as_deref(), backup.as_deref(), parse).map_err(|e| e.to_string())? {
        Loaded::Absent => Ok(None),
        Loaded::Main(table) => Ok(Some(table)),
        Loaded::Backup { table, because } => {
            tracing::warn!(file = %path.display(), %because, "took a table from its .bak");
            Ok(Some(table))
        }
    }
}

impl ControlShard {
    /// Reads the tables below `dir` and takes them into service.
    ///
    /// # Errors
    /// When a table's file and its copy cannot be used: starting without it would forget what it held.
    pub async fn open(node: Rc<Node>, dir: PathBuf) -> Result<Rc<Self>, String> {
        fs::create_dir_all(&dir).await.map_err(|e| e.to_string())?;
        let shards = node.log_shards();
        let topics = load(&dir, TOPICS_FILE, |bytes| TopicFile::parse(bytes, shards)).await?;
        let groups = load(&dir, GROUPS_FILE, GroupFile::parse).await?;
        let offsets = load(&dir, OFFSETS_FILE, OffsetFile::parse).await?;
        let timers = load(&dir, TIMERS_FILE, Finished::parse).await?;
        let settings = &node.settings;
        let topic_settings = TopicSettings { shards, ..settings.topics.clone() };
        let tables = Control {
            topics: TopicTable::open(topic_settings, topics, wall_ms()),
            groups: GroupTable::open(settings.groups, groups, wall_ms()),
            members: MemberTable::new(settings.notify_consumers),
            locks: LockTable::new(),
            offsets: OffsetTable::open(offsets),
        };
        let control = Rc::new(Self {
            node,
            tables: RefCell::new(tables),
            timers: Finished::open(timers),
            dir,
            queue: RefCell::default(),
            work: Event::new(),
            busy: Cell::new(false),
            deleting: RefCell::default(),
            deleted: Waiters::new(),
            offsets_file: Semaphore::new(1),
            announcer: RefCell::default(),
            stopping: Cell::new(false),
            history: RefCell::default(),
            past: RefCell::default(),
            boot: Boot::now(),
            unread: RefCell::default(),
            ahead: RefCell::default(),
            config_changing: Cell::new(false),
            config_changes: Cell::new(0),
        });
        control.save_tables().await?;
        let (topics, groups) = {
            let tables = control.tables.borrow();
            (tables.topics.snapshot(), tables.groups.snapshot())
        };
        control.broadcast(&Changes { topics, groups, ..Changes::default() });
        spawn("carry out changes", Rc::clone(&control).carry_out_loop()).detach();
        spawn("save offsets", Rc::clone(&control).save_offsets_loop()).detach();
        spawn("save timers", Rc::clone(&control).save_timers_loop()).detach();
        spawn("expire members", Rc::clone(&control).expire_loop()).detach();
        spawn("collect traffic", Rc::clone(&control).collect_traffic_loop()).detach();
        spawn("add up counts", runtime_info::watch(Rc::clone(&control))).detach();
        spawn("tell what was lost unread", unread::watch(Rc::clone(&control))).detach();
        Ok(control)
    }

    /// Whether the tables are saved for the last time.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// The name servers are told of changes from now on.
    pub fn set_announcer(&self, announcer: Rc<Announcer>) {
        *self.announcer.borrow_mut() = Some(announcer);
    }

    pub fn announcer(&self) -> Option<Rc<Announcer>> {
        self.announcer.borrow().clone()
    }

    /// A request of a client or an administrator.
    pub fn request(self: &Rc<Self>, job: ControlJob) {
        spawn("control request", requests::handle(Rc::clone(self), job)).detach();
    }

    /// Carries changes out; returns once their files are on disk and everybody was told.
    ///
    /// # Errors
    /// When a file could not be written; the change is in force until the next start.
    pub async fn apply(self: &Rc<Self>, changes: Changes) -> Result<(), String> {
        // Nothing to carry out may still mean to wait: what was found in the tables may be on its way to the others.
        if changes.is_empty() && !self.busy.get() && self.queue.borrow().is_empty() {
            return Ok(());
        }
        self.carried_out(changes).await
    }

    /// The same for what an administrator is told to be on disk: an empty change may be one that an earlier request made
    /// and whose file could not be written, so the file is written again.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub async fn apply_durably(self: &Rc<Self>, changes: Changes) -> Result<(), String> {
        if changes.is_empty() && !self.is_unsaved() {
            self.apply(changes).await
        } else {
            self.carried_out(changes).await
        }
    }

    /// Whether a table that is written with each change has one that the disk lacks.
    fn is_unsaved(&self) -> bool {
        let tables = self.tables.borrow();
        tables.topics.revision().is_dirty() || tables.groups.revision().is_dirty()
    }

    async fn carried_out(self: &Rc<Self>, changes: Changes) -> Result<(), String> {
        let done = Rc::new(Done::default());
        self.queue.borrow_mut().push(Queued { changes, done: Rc::clone(&done) });
        self.work.notify();
        done.event.wait().await;
        done.result.take().unwrap_or(Ok(()))
    }

    /// The same, for changes that no request waits for.
    pub fn apply_later(self: &Rc<Self>, changes: Changes) {
        if !changes.is_empty() {
            self.queue.borrow_mut().push(Queued { changes, done: Rc::default() });
            self.work.notify();
        }
    }

    async fn carry_out_loop(self: Rc<Self>) {
        loop {
            self.work.wait().await;
            let queued = self.queue.take();
            if queued.is_empty() {
                continue;
            }
            self.busy.set(true);
            let offsets = queued.iter().any(|queued| queued.changes.offsets);
            let saved = self.save_changed(offsets).await;
            if let Err(error) = &saved {
                tracing::error!(%error, "a table could not be saved");
            }
            let mut registers = false;
            for Queued { changes, .. } in &queued {
                registers |= !changes.topics.is_empty();
                self.broadcast(changes);
            }
            if registers && let Some(announcer) = self.announcer() {
                announcer.changed();
            }
            self.busy.set(false);
            for Queued { done, .. } in queued {
                *done.result.borrow_mut() = Some(saved.clone());
                done.event.notify();
            }
        }
    }

    fn broadcast(&self, changes: &Changes) {
        let node = &self.node;
        for shard in 0..node.post.shards() {
            for change in &changes.topics {
                node.tell(shard, Mail::Topic(change.clone()));
            }
            for change in &changes.groups {
                node.tell(shard, Mail::Group(change.clone()));
            }
            for change in &changes.subscriptions {
                node.tell(shard, Mail::Subscription(change.clone()));
            }
        }
        for notice in &changes.notices {
            for conn in &notice.conns {
                let conn = ConnId(conn.0);
                node.tell(conn.shard(), Mail::Notify { conn, group: notice.group.clone() });
            }
        }
        for conn in &changes.close {
            let conn = ConnId(conn.0);
            node.tell(conn.shard(), Mail::Close(conn));
        }
    }

    /// Nobody is told any more of what was reset for a topic or a group that is gone.
    pub fn forget_resets(&self, change: &ResetChange) {
        for shard in 0..self.node.post.shards() {
            self.node.tell(shard, Mail::Reset(change.clone()));
        }
    }

    async fn save_tables(&self) -> Result<(), String> {
        let topics = {
            let tables = self.tables.borrow();
            let revision = tables.topics.revision();
            revision.is_dirty().then(|| (revision.current(), tables.topics.to_file()))
        };
        if let Some((revision, bytes)) = topics {
            self.save(TOPICS_FILE, bytes).await?;
            self.tables.borrow_mut().topics.saved(revision);
        }
        let groups = {
            let tables = self.tables.borrow();
            let revision = tables.groups.revision();
            revision.is_dirty().then(|| (revision.current(), tables.groups.to_file()))
        };
        if let Some((revision, bytes)) = groups {
            self.save(GROUPS_FILE, bytes).await?;
            self.tables.borrow_mut().groups.saved(revision);
        }
        Ok(())
    }

    async fn save_changed(&self, offsets: bool) -> Result<(), String> {
        self.save_tables().await?;
        if offsets { self.save_offsets().await } else { Ok(()) }
    }

    /// Saves the consumer offsets if they have changed.
    ///
    /// # Errors
    /// Their file cannot be written.
    pub async fn save_offsets(&self) -> Result<(), String> {
        let _turn = Rc::clone(&self.offsets_file).acquire().await;
        let offsets = {
            let mut tables = self.tables.borrow_mut();
            let revision = tables.offsets.revision();
            revision.is_dirty().then(|| (revision.current(), tables.offsets.to_file(wall_ms())))
        };
        if let Some((revision, bytes)) = offsets {
            self.save(OFFSETS_FILE, bytes).await?;
            self.tables.borrow_mut().offsets.saved(revision);
        }
        Ok(())
    }

    async fn save(&self, file: &str, bytes: Vec<u8>) -> Result<(), String> {
        fs::replace(&self.dir.join(file), bytes, true).await.map_err(|e| e.to_string())
    }

    async fn save_offsets_loop(self: Rc<Self>) {
        while !self.stopping.get() {
            sleep(self.node.settings.offsets_interval).await;
            if let Err(error) = self.save_offsets().await {
                tracing::error!(%error, "consumer offsets could not be saved");
            }
        }
    }

    async fn save_timers(&self) -> Result<(), String> {
        let Some(bytes) = self.timers.take_file() else { return Ok(()) };
        let saved = self.save(TIMERS_FILE, bytes).await;
        if saved.is_err() {
            self.timers.not_saved();
        }
        saved
    }

    async fn save_timers_loop(self: Rc<Self>) {
        while !self.stopping.get() {
            sleep(TIMERS_PERIOD).await;
            if let Err(error) = self.save_timers().await {
                tracing::error!(%error, "the progress of timers could not be saved");
            }
        }
    }

    async fn expire_loop(self: Rc<Self>) {
        let period = Duration::from_millis(u64::try_from(MEMBER_SCAN_MS).unwrap_or(10_000));
        while !self.stopping.get() {
            sleep(period).await;
            let changes = self.tables.borrow_mut().expire(now().millis());
            self.apply_later(changes);
        }
    }

    async fn collect_traffic_loop(self: Rc<Self>) {
        while !self.stopping.get() {
            sleep(COLLECT_PERIOD).await;
            let mut new = Vec::new();
            for shard in 0..self.node.post.shards() {
                match self.node.ask(shard, Ask::Traffic).await {
                    Told::Traffic(counted) => new.extend(counted),
                    other => tracing::warn!(shard, refusal = %other.unexpected(), "a shard did not tell its traffic"),
                }
            }
            self.past.borrow_mut().collected(now().since(self.boot.at), new);
        }
    }

    /// Saves everything for the last time.
    ///
    /// # Errors
    /// What could not be written.
    pub async fn close(&self) -> Result<(), String> {
        self.stopping.set(true);
        self.save_tables().await?;
        self.save_timers().await?;
        self.save_offsets().await
    }

    /// A client is gone.
    pub fn closed(self: &Rc<Self>, conn: ConnId) {
        let effects = self.tables.borrow_mut().members.closed(member::ConnId(conn.0));
        self.apply_later(effects.into());
    }

    /// A consumer's progress that came with a pull. A refused one is not worth an answer: the pull has its own.
    pub fn commit(&self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        let result = self.tables.borrow_mut().offsets.commit(Commit { group, topic, queue_id, offset });
        if let Err(refusal) = result {
            tracing::warn!(group, topic, queue_id, %refusal, "a consumer offset was not stored");
        }
        step!("offset_noted:{}", topic);
    }

    /// The progress of one of the broker's own readers.
    pub fn progress(&self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        let result = self.tables.borrow_mut().offsets.progress(Commit { group, topic, queue_id, offset });
        if let Err(refusal) = result {
            tracing::error!(group, topic, queue_id, %refusal, "the progress of a reader of the broker's own is not kept");
        }
    }

    /// Waits until no messages of an earlier topic of that name are being dropped, and has those who make it wait until the
    /// returned value is dropped.
    pub async fn begin_deletion<'a>(&'a self, topic: &'a str) -> Deletion<'a> {
        self.deleted.until(|| self.deleting.borrow_mut().insert(topic.to_owned()).then_some(())).await;
        Deletion { control: self, topic }
    }

    /// Waits until a topic may be made: what is sent to it must not be dropped with the messages of an earlier one.
    pub async fn deletion_over(&self, topic: &str) {
        self.deleted.until(|| (!self.deleting.borrow().contains(topic)).then_some(())).await;
    }

    /// Creates the topic of a send, if the rules allow.
    pub async fn ensure_topic(
        self: &Rc<Self>,
        topic: &str,
        default_topic: &str,
        default_queues: i32,
        unit_mode: bool,
    ) -> Told {
        let wanted = Wanted { topic, default_topic, default_queues, unit_mode };
        self.deletion_over(topic).await;
        let found = self.tables.borrow_mut().create_topic_of_send(wanted, wall_ms());
        match found {
            Ok(changes) => {
                if !changes.topics.is_empty() {
                    tracing::info!(topic, template = default_topic, "created a topic for a send");
                }
                self.told(changes).await
            }
            Err(refusal) => Told::Refused(refusal),
        }
    }

    /// Creates the group of a pull, if the rules allow.
    pub async fn ensure_group(self: &Rc<Self>, group: &str) -> Told {
        let found = self.tables.borrow_mut().groups.find_or_create(group, wall_ms());
        match found {
            Some((_, groups)) => {
                self.told(Changes { groups: groups.into_iter().collect(), ..Changes::default() }).await
            }
            None => Told::Refused(Refusal::group_missing(group)),
        }
    }

    /// Makes sure that a topic of the broker's own making exists.
    pub async fn ensure_own_topic(self: &Rc<Self>, topic: &str, queues: i32, sys_flag: i32) -> Told {
        let own = OwnTopic { topic, queues, order: false, sys_flag };
        self.deletion_over(topic).await;
        let found = self.tables.borrow_mut().topics.ensure(own, wall_ms());
        match found {
            Ok(topics) => self.told(Changes { topics, ..Changes::default() }).await,
            Err(refusal) => Told::Refused(refusal),
        }
    }

    /// A connection of a producer group, another one each time.
    pub fn producer(&self, group: &str) -> Option<ConnId> {
        let conns = self.tables.borrow().members.producer_conns(group);
        let count = u32::try_from(conns.len()).ok().filter(|count| *count > 0)?;
        conns.get(usize::try_from(self.node.pick() % count).ok()?).map(|conn| ConnId(conn.0))
    }

    async fn told(self: &Rc<Self>, changes: Changes) -> Told {
        match self.apply(changes).await {
            Ok(()) => Told::Done,
            Err(why) => Told::Failed(why),
        }
    }
}
