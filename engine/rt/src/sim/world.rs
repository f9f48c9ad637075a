//! One simulated world: its nodes, its tasks, its clock and the events that are still to come, all on one thread.
//!
//! Nothing in here draws on real time, real threads or a randomised hash, so that a seed is the whole run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use super::disk::Disk;
use super::mail::Mail;
use super::net::Net;
use super::rng::Rng;
use super::{CrashKind, NodeId};

/// A task as the world keeps it.
pub(super) type Body = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Whether a simulated world is running on this thread.
pub(crate) fn is_active() -> bool {
    ACTIVE.get()
}

/// The world of this thread.
///
/// # Panics
/// When there is none: the seam only asks while one is active.
pub(super) fn world() -> Rc<World> {
    match CURRENT.with_borrow(Clone::clone) {
        Some(world) => world,
        None => panic!("no simulated world runs on this thread"),
    }
}

/// Makes a world the one of this thread until dropped.
#[derive(Debug)]
pub(super) struct Entered(());

impl Entered {
    /// # Panics
    /// When another world, or this one, already runs here.
    pub(super) fn new(world: &Rc<World>) -> Self {
        assert!(!ACTIVE.replace(true), "a simulated world already runs on this thread");
        CURRENT.set(Some(Rc::clone(world)));
        Self(())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
        ACTIVE.set(false);
    }
}

/// Tasks that can run. Wakers are `Send`, so their way back to the world has to be.
#[derive(Default)]
struct Ready(Mutex<Vec<u64>>);

impl Ready {
    fn push(&self, id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    fn pick(&self, rng: &mut Rng) -> Option<u64> {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!ready.is_empty()).then(|| {
            let index = rng.index(ready.len());
            ready.swap_remove(index)
        })
    }
}

/// Wakes one task; queued once however often it is called before the task runs.
pub(super) struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.push(self.id);
        }
    }
}

struct Slot {
    node: NodeId,
    waker: Arc<TaskWaker>,
    /// Taken out while it is polled.
    body: Option<Body>,
}

/// A process and the machine it runs on.
struct Node {
    disk: Disk,
    down: bool,
    /// Counts its processes, so that what an earlier one left behind is told apart.
    process: u64,
    /// How far its wall clock is off.
    wall_skew_ms: i64,
}

type Event = Box<dyn FnOnce(&Rc<World>)>;

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) net: RefCell<Net>,
    pub(super) mail: Mail,
    now: Cell<u64>,
    rng: RefCell<Rng>,
    nodes: RefCell<Vec<Node>>,
    current: Cell<NodeId>,
    tasks: RefCell<BTreeMap<u64, Slot>>,
    ready: Arc<Ready>,
    events: RefCell<BTreeMap<(u64, u64), Event>>,
    next_id: Cell<u64>,
    steps: Cell<u64>,
    trace: Cell<u64>,
}

impl World {
    pub(super) fn new(seed: u64, now: u64, mut rng: Rng) -> Self {
        let net = Net::new(rng.fork());
        Self {
            seed,
            net: RefCell::new(net),
            mail: Mail::default(),
            now: Cell::new(now),
            rng: RefCell::new(rng),
            nodes: RefCell::default(),
            current: Cell::new(NodeId(0)),
            tasks: RefCell::default(),
            ready: Arc::default(),
            events: RefCell::default(),
            next_id: Cell::new(1),
            steps: Cell::new(0),
            trace: Cell::new(seed),
        }
    }

    /// Nanoseconds on the virtual clock.
    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.get()
    }

    /// Takes `what` into the hash of everything that happened.
    pub(super) fn note(&self, what: u64) {
        let mixed = (self.trace.get() ^ what).wrapping_mul(0x0000_0100_0000_01b3);
        self.trace.set(mixed ^ (mixed >> 29));
    }

    pub(super) fn rng(&self) -> std::cell::RefMut<'_, Rng> {
        self.rng.borrow_mut()
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// The node whose task runs now.
    pub(super) fn node(&self) -> NodeId {
        self.current.get()
    }

    pub(super) fn add_node(&self, disk: Disk) -> NodeId {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Node { disk, down: false, process: 1, wall_skew_ms: 0 });
        NodeId(nodes.len() - 1)
    }

    fn with_node<R>(&self, node: NodeId, f: impl FnOnce(&mut Node) -> R) -> R {
        match self.nodes.borrow_mut().get_mut(node.0) {
            Some(node) => f(node),
            None => panic!("{node:?} is not in this world"),
        }
    }

    pub(super) fn node_count(&self) -> usize {
        self.nodes.borrow().len()
    }

    pub(super) fn disk(&self, node: NodeId) -> Disk {
        self.with_node(node, |n| n.disk.clone())
    }

    pub(super) fn is_down(&self, node: NodeId) -> bool {
        self.with_node(node, |n| n.down)
    }

    pub(super) fn process(&self, node: NodeId) -> u64 {
        self.with_node(node, |n| n.process)
    }

    pub(super) fn wall_skew_ms(&self, node: NodeId) -> i64 {
        self.with_node(node, |n| n.wall_skew_ms)
    }

    pub(super) fn step_wall(&self, node: NodeId, by_ms: i64) {
        self.with_node(node, |n| n.wall_skew_ms = n.wall_skew_ms.saturating_add(by_ms));
    }

    /// Runs `event` when the clock has reached `at`. The key cancels it.
    pub(super) fn at(&self, at: u64, event: impl FnOnce(&Rc<World>) + 'static) -> (u64, u64) {
        let key = (at.max(self.now()), self.next_id());
        self.events.borrow_mut().insert(key, Box::new(event));
        key
    }

    pub(super) fn cancel(&self, key: (u64, u64)) {
        let event = self.events.borrow_mut().remove(&key);
        drop(event);
    }

    /// A waker for a future that is not kept here, already queued.
    pub(super) fn waker(&self) -> (u64, Arc<TaskWaker>) {
        let id = self.next_id();
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        waker.wake_by_ref();
        (id, waker)
    }

    /// # Panics
    /// When the node is down.
    pub(super) fn spawn(&self, node: NodeId, body: Body) {
        assert!(!self.is_down(node), "{node:?} is down: restart it first (seed {})", self.seed);
        let (id, waker) = self.waker();
        self.tasks.borrow_mut().insert(id, Slot { node, waker, body: Some(body) });
    }

    /// Picks the next task that can run and moves the clock if there is none. `None`: nothing will ever happen again.
    pub(super) fn next(self: &Rc<Self>) -> Option<u64> {
        loop {
            self.fire_due();
            if let Some(id) = self.ready.pick(&mut self.rng()) {
                self.steps.set(self.steps.get() + 1);
                self.note(id ^ (self.now() << 20));
                return Some(id);
            }
            let at = self.events.borrow().first_key_value().map(|(key, _)| key.0)?;
            self.now.set(at);
        }
    }

    fn fire_due(self: &Rc<Self>) {
        loop {
            let event = {
                let mut events = self.events.borrow_mut();
                match events.first_entry() {
                    Some(first) if first.key().0 <= self.now() => first.remove(),
                    _ => return,
                }
            };
            event(self);
        }
    }

    /// Lets `poll` run as a task of `node`; running costs a little virtual time.
    pub(super) fn turn<R>(&self, node: NodeId, waker: &Arc<TaskWaker>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        waker.queued.store(false, Ordering::Relaxed);
        self.current.set(node);
        let result = poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))));
        let cost = self.rng().between(100, 1000);
        self.now.set(self.now() + cost);
        super::mail::after_turn(self);
        result
    }

    /// Polls a task that was picked; one that ended in the meantime is passed over.
    pub(super) fn poll(&self, id: u64) {
        let Some((node, waker, mut body)) = self.take(id) else { return };
        let done = self.turn(node, &waker, |cx| body.as_mut().poll(cx)).is_ready();
        // A task that crashed its own node is not there any more; it ends like the others, outside the borrow.
        let ended = match self.tasks.borrow_mut().get_mut(&id) {
            Some(slot) if !done => slot.body.replace(body),
            _ => Some(body),
        };
        if done {
            self.tasks.borrow_mut().remove(&id);
        }
        drop(ended);
    }

    fn take(&self, id: u64) -> Option<(NodeId, Arc<TaskWaker>, Body)> {
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks.get_mut(&id)?;
        Some((slot.node, Arc::clone(&slot.waker), slot.body.take()?))
    }

    /// Ends a node's process: its connections, its tasks, and what its disk had not yet finished.
    pub(super) fn crash(self: &Rc<Self>, node: NodeId, kind: CrashKind) {
        self.with_node(node, |n| n.down = false);
        super::net::crash(self, node, kind);
        let before = self.current.replace(node);
        loop {
            let id = self.tasks.borrow().iter().find(|(_, slot)| slot.node == node).map(|(id, _)| *id);
            let Some(id) = id else { break };
            let slot = self.tasks.borrow_mut().remove(&id);
            drop(slot);
        }
        super::mail::crash(self, node);
        self.current.set(before);
        self.with_node(node, |n| n.down = true);
        self.disk(node).crash(kind);
        self.note(node.0 as u64 ^ self.now());
    }

    pub(super) fn restart(self: &Rc<Self>, node: NodeId) {
        self.with_node(node, |n| {
            n.down = false;
            n.process += 1;
        });
        super::net::restart(self, node);
    }

    pub(super) fn task_count(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Gives up the tasks without dropping them, for a thread that is already unwinding.
    pub(super) fn abandon(&self) {
        std::mem::forget(self.tasks.take());
        std::mem::forget(self.events.take());
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(seed {}, {} ns, {} tasks)", self.seed, self.now(), self.task_count())
    }
}
