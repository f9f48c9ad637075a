//! The measurement: an executor on every usable core, pinned as the broker pins its own, that goes through the plan
//! together with the others.
//!
//! The first one leads. It tells the others what to do, does its own part, and adds theirs up. An executor that ends,
//! whatever the reason, ends all of them, and so does a signal.

use std::cell::Cell as Flag;
use std::io;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringmq_rt::host::{self, StartError, Stop};
use ringmq_rt::mesh::{Mesh, Post};
use ringmq_rt::{now, spawn, yield_now};
use rustix::time::{ClockId, clock_gettime};

use super::figures::{CommitFigure, Cores, Latency, StreamFigure};
use super::plan::{Cell, Phase, phases};
use super::target::{Moved, Target, Way, histogram};

/// Zeros that each core's batches are written over.
const COMMIT_FILE: u64 = 32 << 20;
/// Zeros for the streams; more than disks and hosts keep back for themselves would take minutes to prepare.
const STREAM_FILE: u64 = 256 << 20;

/// What to measure, and where.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) dir: PathBuf,
    /// Cores of the broker, which commit.
    pub(super) cores: Vec<usize>,
    /// All other cores that this process may use; they are kept busy together with those.
    pub(super) others: Vec<usize>,
    pub(super) time: Duration,
}

impl Job {
    /// Room that the disk must have.
    pub(super) fn room(&self) -> u64 {
        STREAM_FILE + COMMIT_FILE * self.cores.len() as u64
    }
}

/// The figures of one measurement.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) commit: Vec<CommitFigure>,
    pub(super) write: Vec<StreamFigure>,
    pub(super) read: Vec<StreamFigure>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("it was interrupted")]
    Interrupted,
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Start(#[from] StartError),
}

#[derive(Debug)]
enum Mail {
    /// Leader to all: do your part of this.
    Begin(Phase),
    /// Leader to all: nothing more, be idle.
    Rest,
    /// What came of the preparation.
    Prepared(io::Result<()>),
    /// What came of a part.
    Done(io::Result<Histogram<u64>>),
}

/// Ends everybody when its executor ends, or was never started.
struct EndsAll(Stop);

impl Drop for EndsAll {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// Measures. `stop` ends it early, without figures.
pub(super) fn measure(job: &Job, stop: &Stop) -> Result<Figures, Trouble> {
    let job = Arc::new(job.clone());
    let cores: Vec<usize> = job.cores.iter().chain(&job.others).copied().collect();
    // The leader has one word for each of the others, and each of them one answer for it.
    let mesh = Mesh::new(cores.len(), cores.len() * 2 + 2);
    let (mut leader, mut others, mut failure) = (None, Vec::new(), None);
    for (me, core) in cores.into_iter().enumerate() {
        let (mesh, job, stop, ends) = (mesh.clone(), Arc::clone(&job), stop.clone(), EndsAll(stop.clone()));
        let started = if me == 0 {
            let start = host::start(Some(core), move || async move {
                let _ends = ends;
                lead(Member::new(mesh.bind(me), job, stop)).await
            });
            start.map(|shard| leader = Some(shard))
        } else {
            let start = host::start(Some(core), move || async move {
                let _ends = ends;
                follow(Member::new(mesh.bind(me), job, stop)).await;
            });
            start.map(|shard| others.push(shard))
        };
        if let Err(error) = started {
            failure = Some(error);
            break;
        }
    }
    let figures = leader.map(host::Shard::join);
    for other in others {
        let ended = other.join();
        failure = failure.or(ended.err());
    }
    match (failure, figures) {
        (Some(error), _) | (None, Some(Err(error))) => Err(error.into()),
        (None, Some(Ok(figures))) => figures,
        (None, None) => Err(Trouble::Interrupted),
    }
}

/// What every executor has.
struct Member {
    post: Post<Mail>,
    job: Arc<Job>,
    stop: Stop,
    busy: Option<Busy>,
}

/// A task that never lets its core rest, in turns as long as a loaded shard's.
struct Busy(Rc<Flag<bool>>);

impl Busy {
    const TURN: Duration = Duration::from_micros(50);

    fn start() -> Busy {
        let on = Rc::new(Flag::new(true));
        let looked_at = Rc::clone(&on);
        let spin = async move {
            while looked_at.get() {
                let end = now().after(Self::TURN);
                while now() < end {
                    std::hint::spin_loop();
                }
                yield_now().await;
            }
        };
        spawn("iotune-busy", spin).detach();
        Busy(on)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Member {
    fn new(post: Post<Mail>, job: Arc<Job>, stop: Stop) -> Member {
        Member { post, job, stop, busy: None }
    }

    /// The next word; `None` once it is time to end.
    async fn next(&self, over: &mut Pin<&mut impl Future<Output = io::Result<()>>>) -> Option<Mail> {
        let mut mail = pin!(self.post.recv());
        std::future::poll_fn(|cx| match mail.as_mut().poll(cx) {
            Poll::Ready(mail) => Poll::Ready(Some(mail)),
            Poll::Pending if self.stop.is_requested() => Poll::Ready(None),
            Poll::Pending => over.as_mut().poll(cx).map(|_| None),
        })
        .await
    }

    /// The file that this core's batches go to; none where the broker would not run.
    async fn target(&self) -> io::Result<Option<Target>> {
        if self.post.me() >= self.job.cores.len() {
            return Ok(None);
        }
        self.prepare("batches", COMMIT_FILE).await.map(Some)
    }

    async fn prepare(&self, what: &str, len: u64) -> io::Result<Target> {
        let name = format!("iotune-{}-{}-{what}.tmp", std::process::id(), self.post.me());
        Target::prepare(&self.job.dir.join(name), len, &self.stop).await
    }

    /// Keeps the core busy until a phase says otherwise.
    fn be(&mut self, cores: Cores) {
        match cores {
            Cores::Idle => self.busy = None,
            Cores::Busy if self.busy.is_none() => self.busy = Some(Busy::start()),
            Cores::Busy => {}
        }
    }

    /// This core's part of a phase.
    async fn part(&mut self, phase: Phase, target: Option<&Target>) -> io::Result<Histogram<u64>> {
        let Cell::Commit { method, bytes, cores } = phase.cell else { return Ok(histogram()) };
        self.be(cores);
        match target {
            Some(target) => target.commits(phase, method, bytes).await,
            None => Ok(histogram()),
        }
    }
}

async fn follow(mut me: Member) {
    let stop = me.stop.clone();
    let mut over = pin!(stop.requested());
    let target = match me.target().await {
        Ok(target) => {
            me.post.send_answer(0, Mail::Prepared(Ok(())));
            target
        }
        // The leader ends everybody.
        Err(error) => {
            me.post.send_answer(0, Mail::Prepared(Err(error)));
            None
        }
    };
    while let Some(mail) = me.next(&mut over).await {
        match mail {
            Mail::Begin(phase) => {
                let part = me.part(phase, target.as_ref()).await;
                me.post.send_answer(0, Mail::Done(part));
            }
            Mail::Rest => me.be(Cores::Idle),
            Mail::Prepared(_) | Mail::Done(_) => {}
        }
    }
}

async fn lead(mut me: Member) -> Result<Figures, Trouble> {
    let stop = me.stop.clone();
    let mut over = pin!(stop.requested());
    let prepared = async {
        let target = me.target().await?;
        Ok::<_, io::Error>((target, Rc::new(me.prepare("stream", STREAM_FILE).await?)))
    };
    let (target, stream) = prepared.await?;
    for _ in 1..me.post.shards() {
        match me.next(&mut over).await.ok_or(Trouble::Interrupted)? {
            Mail::Prepared(prepared) => prepared?,
            Mail::Begin(_) | Mail::Rest | Mail::Done(_) => {}
        }
    }
    let plan = phases(me.job.time);
    let mut sums = Sums::default();
    let progress = Progress::new(plan.len());
    for (number, phase) in plan.into_iter().enumerate() {
        progress.show(number);
        match phase.cell {
            Cell::Commit { .. } => {
                let cpu = cpu_time();
                tell(&me.post, || Mail::Begin(phase));
                let mut latency = me.part(phase, target.as_ref()).await?;
                for _ in 1..me.post.shards() {
                    if let Mail::Done(part) = me.next(&mut over).await.ok_or(Trouble::Interrupted)? {
                        // Both have the same range.
                        let _ = latency.add(part?);
                    }
                }
                sums.add(phase.cell, Sum { latency, bytes: 0, seconds: 0.0, cpu: cpu_time().saturating_sub(cpu) });
            }
            Cell::Write { bytes, depth } | Cell::Read { bytes, depth } => {
                me.be(Cores::Idle);
                tell(&me.post, || Mail::Rest);
                let way = if matches!(phase.cell, Cell::Write { .. }) { Way::Write } else { Way::Read };
                let Moved { latency, bytes, seconds } = stream.stream(phase, way, bytes, depth).await?;
                sums.add(phase.cell, Sum { latency, bytes, seconds, cpu: Duration::ZERO });
            }
        }
        if me.stop.is_requested() {
            return Err(Trouble::Interrupted);
        }
    }
    Ok(sums.figures())
}

fn tell(post: &Post<Mail>, mail: impl Fn() -> Mail) {
    for other in 1..post.shards() {
        post.send_answer(other, mail());
    }
}

/// CPU time of this process, of all its threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Duration::new(part(time.tv_sec), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The rounds of one cell, added up.
struct Sum {
    latency: Histogram<u64>,
    /// Of a stream.
    bytes: u64,
    seconds: f64,
    /// Of this process, while batches were made durable.
    cpu: Duration,
}

/// All cells, in the order of the plan.
#[derive(Default)]
struct Sums(Vec<(Cell, Sum)>);

impl Sums {
    fn add(&mut self, cell: Cell, more: Sum) {
        match self.0.iter_mut().find(|(known, _)| *known == cell) {
            Some((_, sum)) => {
                // Both have the same range.
                let _ = sum.latency.add(more.latency);
                sum.bytes += more.bytes;
                sum.seconds += more.seconds;
                sum.cpu += more.cpu;
            }
            None => self.0.push((cell, more)),
        }
    }

    fn figures(self) -> Figures {
        let mut figures = Figures::default();
        for (cell, sum) in self.0 {
            let latency = Latency::of(&sum.latency);
            let mb_per_second = sum.bytes as f64 / 1e6 / sum.seconds.max(1e-9);
            match cell {
                Cell::Commit { method, bytes, cores } => {
                    let cpu_us = (cores == Cores::Idle && latency.count > 0)
                        .then(|| sum.cpu.as_secs_f64() * 1e6 / latency.count as f64);
                    figures.commit.push(CommitFigure { method, bytes, cores, latency, cpu_us });
                }
                Cell::Write { bytes, depth } => {
                    figures.write.push(StreamFigure { bytes, depth, mb_per_second, latency });
                }
                Cell::Read { bytes, depth } => {
                    figures.read.push(StreamFigure { bytes, depth, mb_per_second, latency });
                }
            }
        }
        figures
    }
}

/// How far the measurement is, on a terminal.
struct Progress {
    of: usize,
    is_shown: bool,
}

impl Progress {
    fn new(of: usize) -> Progress {
        Progress { of, is_shown: io::stderr().is_terminal() }
    }

    fn show(&self, done: usize) {
        if self.is_shown {
            eprint!("\rmeasuring {:3}%", done * 100 / self.of.max(1));
            let _ = io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            eprint!("\r               \r");
        }
    }
}
