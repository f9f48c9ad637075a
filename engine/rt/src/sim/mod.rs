//! A deterministic world behind the seam: a seeded scheduler, a virtual clock, modelled disks and a network in memory,
//! all on the calling thread. The seed is the whole run.
//!
//! A [`Sim`] holds one or more nodes, each a process on a machine with a [`Disk`] and an address. Tests run futures in it,
//! crash nodes, restart them, and look at the disks. Production code never sees this module: it calls the seam.

mod clock;
mod disk;
mod file;
pub(crate) mod fs;
mod mail;
pub mod net;
mod rng;
mod world;

use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

pub(crate) use clock::{now, sleep_until, wall_ms};
pub use disk::{Disk, DiskModel, DiskStats, Failure, Fault, Request};
pub(crate) use file::File;
pub(crate) use mail::{add_port, mail_posted};
pub use rng::Rng;
pub(crate) use world::is_active;
use world::{Body, Entered, World, world};

use crate::time::Instant;

/// Starts a task on the node whose task asks.
pub(crate) fn spawn(body: Body) {
    let world = world();
    world.spawn(world.node(), body);
}

/// One process on one machine of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// The node that every world begins with.
    pub const FIRST: Self = Self(0);

    /// Nodes are counted from zero.
    pub fn index(self) -> usize {
        self.0
    }

    /// The node's address: 10.0.x.y.
    pub fn ip(self) -> IpAddr {
        let number = u32::try_from(self.0 + 1).unwrap_or(u32::MAX) & 0xffff;
        IpAddr::from((0x0a00_0000 | number).to_be_bytes())
    }
}

/// What a power cut leaves of writes and names that no flush has covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Nothing of them.
    Lost,
    /// All of them.
    Kept,
    /// Any part of them, sector by sector and name by name, by the disk's own chance.
    Random,
}

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashKind {
    /// As `kill -9`: completed writes stay, those under way arrive in part, peers see their connections close.
    ProcessKill,
    /// As a pulled plug: also what was not flushed is lost as told, and peers hear nothing.
    PowerCut(Cache),
}

/// How a [`Sim::run_steps`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<T> {
    /// The future completed within the steps.
    Done(T),
    /// The steps ran out; the future was dropped, tasks it spawned are still there.
    Stopped,
}

const DEFAULT_LIMIT: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_STEPS: u64 = 20_000_000;

/// A simulated world. Dropped, its processes are killed; the disks live on.
#[derive(Debug)]
pub struct Sim {
    world: Rc<World>,
    time_limit: Cell<Duration>,
    step_limit: Cell<u64>,
}

impl Sim {
    /// A world with one node and an empty disk.
    pub fn new(seed: u64) -> Self {
        Self::on_disk(Disk::new(seed), seed)
    }

    /// A world with one node on a disk that an earlier world may have left. Its clock goes on where the disk's stood.
    #[expect(clippy::needless_pass_by_value, reason = "a handle, given away like the machine it belongs to")]
    pub fn on_disk(disk: Disk, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let boot = rng.between(1_000_000, 2_000_000_000);
        let world = Rc::new(World::new(seed, disk.clock().saturating_add(boot), rng));
        world.add_node(disk.clone());
        Self { world, time_limit: Cell::new(DEFAULT_LIMIT), step_limit: Cell::new(DEFAULT_STEPS) }
    }

    /// Adds a machine.
    #[expect(clippy::needless_pass_by_value, reason = "a handle, given away like the machine it belongs to")]
    pub fn add_node(&self, disk: Disk) -> NodeId {
        self.world.add_node(disk.clone())
    }

    /// The first node's disk.
    pub fn disk(&self) -> Disk {
        self.disk_of(NodeId::FIRST)
    }

    /// A node's disk.
    pub fn disk_of(&self, node: NodeId) -> Disk {
        self.world.disk(node)
    }

    /// A generator for a test's own choices that belongs to this seed.
    pub fn fork_rng(&self) -> Rng {
        self.world.rng().fork()
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.world.seed
    }

    /// The virtual clock.
    pub fn now(&self) -> Instant {
        Instant(self.world.now())
    }

    /// Moves the wall clock of a node, the virtual clock staying as it is.
    pub fn step_wall_clock(&self, node: NodeId, by_ms: i64) {
        self.world.step_wall(node, by_ms);
    }

    /// How many tasks were polled so far.
    pub fn steps(&self) -> u64 {
        self.world.steps()
    }

    /// A hash over everything that happened: equal for equal seeds, as long as the code that runs is deterministic.
    pub fn trace(&self) -> u64 {
        self.world.trace()
    }

    /// How long one run may take in virtual time. A day unless told.
    pub fn set_time_limit(&self, limit: Duration) {
        self.time_limit.set(limit);
    }

    /// How many polls one run may take. Twenty million unless told.
    pub fn set_step_limit(&self, limit: u64) {
        self.step_limit.set(limit);
    }

    /// The network between the nodes.
    pub fn net(&self) -> net::Control<'_> {
        net::Control::new(&self.world)
    }

    /// Runs `future` on the first node, and every task of the world beside it, until it completes. Tasks stay and go on
    /// in the next run.
    ///
    /// # Panics
    /// With the seed in the text: when nothing can run any more, when a limit is reached, or when the node is down.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.run_on(NodeId::FIRST, future)
    }

    /// As [`run`](Self::run), on any node.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn run_on<F: Future>(&self, node: NodeId, future: F) -> F::Output {
        match self.drive(node, future, None) {
            Ended::Done(output) => output,
            Ended::Stopped => panic!("a run without a bound was stopped (seed {})", self.seed()),
        }
    }

    /// As [`run`](Self::run), for at most `steps` polls: with a growing count, a crash after it falls on every point of
    /// what runs.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn run_steps<F: Future>(&self, steps: u64, future: F) -> Ended<F::Output> {
        self.drive(NodeId::FIRST, future, Some(steps))
    }

    /// Starts a task on a node from outside; it runs while the world runs.
    ///
    /// # Panics
    /// When the node is down.
    pub fn spawn_on(&self, node: NodeId, future: impl Future<Output = ()> + 'static) {
        self.world.spawn(node, Box::pin(future));
    }

    /// Ends every node.
    pub fn crash(&self, kind: CrashKind) {
        (0..self.world.node_count()).for_each(|node| self.crash_node(NodeId(node), kind));
    }

    /// Ends one node: its tasks are dropped. Within a run this may be called from the future that is run.
    pub fn crash_node(&self, node: NodeId, kind: CrashKind) {
        self.within(|| self.world.crash(node, kind));
    }

    /// Starts the machines that are down, without tasks.
    pub fn restart(&self) {
        let down = (0..self.world.node_count()).map(NodeId).filter(|node| self.world.is_down(*node));
        down.for_each(|node| self.restart_node(node));
    }

    /// Starts a machine that is down, without tasks.
    pub fn restart_node(&self, node: NodeId) {
        self.within(|| self.world.restart(node));
    }

    /// Does something while this world is the thread's, as what is dropped meanwhile expects.
    fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        let _entered = (!is_active()).then(|| Entered::new(&self.world));
        assert!(Rc::ptr_eq(&world(), &self.world), "another simulated world runs on this thread");
        work()
    }

    fn drive<F: Future>(&self, node: NodeId, future: F, steps: Option<u64>) -> Ended<F::Output> {
        let world = &self.world;
        let _entered = Entered::new(world);
        let _told = TellSeed(world);
        assert!(!world.is_down(node), "{node:?} is down: restart it first (seed {})", world.seed);
        let mut future = pin!(future);
        let (me, waker) = world.waker();
        let bounds = Bounds::new(self, steps);
        loop {
            if bounds.reached(world) {
                return Ended::Stopped;
            }
            match world.next() {
                Some(id) if id == me => {
                    if let Poll::Ready(output) = world.turn(node, &waker, |cx| future.as_mut().poll(cx)) {
                        return Ended::Done(output);
                    }
                }
                Some(id) => world.poll(id),
                None => panic!("deadlock: nothing can run and nothing will happen; {}", whereabouts(world)),
            }
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.world.abandon();
        } else {
            (0..self.world.node_count()).map(NodeId).filter(|node| !self.world.is_down(*node)).for_each(|node| {
                self.within(|| self.world.crash(node, CrashKind::ProcessKill));
            });
        }
    }
}

/// How far one run may go.
struct Bounds {
    stop_at: Option<u64>,
    steps: u64,
    time: u64,
}

impl Bounds {
    fn new(sim: &Sim, steps: Option<u64>) -> Self {
        let (now, done) = (sim.now(), sim.world.steps());
        Self {
            stop_at: steps.map(|steps| done.saturating_add(steps)),
            steps: done.saturating_add(sim.step_limit.get()),
            time: now.after(sim.time_limit.get()).0,
        }
    }

    fn reached(&self, world: &World) -> bool {
        assert!(world.now() <= self.time, "the virtual time is up; {}", whereabouts(world));
        assert!(world.steps() < self.steps, "too many steps, is something spinning? {}", whereabouts(world));
        self.stop_at.is_some_and(|stop| world.steps() >= stop)
    }
}

fn whereabouts(world: &World) -> String {
    let seconds = world.now() / 1_000_000_000;
    format!("seed {}, step {}, {} tasks, {seconds} s", world.seed, world.steps(), world.task_count())
}

/// Names the seed beside any panic that leaves a run.
struct TellSeed<'a>(&'a World);

impl Drop for TellSeed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed: {}", whereabouts(self.0));
        }
    }
}
