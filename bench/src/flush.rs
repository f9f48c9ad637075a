//! `bench flush`: what durability costs. The same load against a broker that answers when a message is appended
//! (ASYNC_FLUSH) and one that answers when the device has it (SYNC_FLUSH), in turns, on the disk that is measured in the
//! same run; or against any two brokers.
//!
//! The map: `args` is the command line and makes each round a `bench send`; `stage` is what a run stands on, made of
//! `place`, `cores` and `servers`; `device` is the disk, `counts` what a broker says about itself; `outcome` is what is
//! kept, `text` and `files` how it comes out, with `page` for the browser.

pub(crate) mod args;
mod cores;
mod counts;
mod device;
mod files;
pub(crate) mod outcome;
mod place;
mod progress;
mod servers;
mod stage;
pub(crate) mod text;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

pub use self::args::FlushArgs;
use self::args::Kind;
use self::counts::Counts;
use self::device::Probe;
use self::outcome::{Mode, Outcome, Round, SCHEMA, Setup, Summary};
use self::progress::Progress;
use self::servers::Ender;
use self::stage::Stage;
use crate::host::Host;
use crate::report::{exit_code, is_late};
use crate::send;

/// What a shell expects of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Rounds of each broker in a closed loop.
const CLOSED_ROUNDS: u32 = 2;

pub(crate) fn run(args: &FlushArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    files::prepare(&args.out)?;
    let began_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let began = Instant::now();
    let ender = Ender::default();
    end_on_signal(&ender)?;
    let stage = Stage::set(args, &ender)?;
    let mut bench = Bench { args, ender: &ender, stage: &stage, probe: None, rounds: Vec::new() };
    let broken = bench.run().err();
    let Bench { rounds, probe, .. } = bench;
    if let Some(error) = &broken
        && rounds.is_empty()
    {
        anyhow::bail!("{error:#}");
    }
    let mut outcome = Outcome {
        schema: SCHEMA,
        command: std::env::args().collect(),
        began_ms,
        took_seconds: began.elapsed().as_secs_f64(),
        is_partial: broken.is_some(),
        host: Host::look()?,
        storage: stage.storage.clone(),
        setup: setup(args, &stage, &rounds),
        device: probe.map_or(Ok(None), |probe| probe.report())?,
        modes: modes(&stage, &rounds)?,
        rounds,
        findings: broken.iter().map(|error| format!("this run is partial: {error:#}")).collect(),
        rejected: Vec::new(),
        notes: Vec::new(),
    };
    drop(stage);
    judge(&mut outcome);
    let written = files::write(&args.out, &outcome)?;
    let mut text = text::text(&outcome);
    text.push_str(&written);
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(match outcome.findings.as_slice() {
        [] => exit_code(&[], &outcome.rejected),
        _ if ender.is_over() => ExitCode::from(INTERRUPTED),
        findings => exit_code(findings, &outcome.rejected),
    })
}

/// The first signal ends the servers, so that the load breaks off and what there is gets reported; the second ends
/// this process.
fn end_on_signal(ender: &Ender) -> anyhow::Result<()> {
    let on_signal = ender.clone();
    let set = ctrlc::set_handler(move || {
        if on_signal.is_over() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        on_signal.end_all();
    });
    set.context("signals cannot be waited for")
}

#[derive(Debug)]
struct Bench<'a> {
    args: &'a FlushArgs,
    ender: &'a Ender,
    stage: &'a Stage,
    probe: Option<Probe>,
    rounds: Vec<Round>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Half of the time for the disk: at both ends of the run, because disks drift.
    Device,
    Round(usize, Kind),
}

impl Bench<'_> {
    /// Takes every step. An error ends the run early; the rounds before it are kept.
    fn run(&mut self) -> anyhow::Result<()> {
        let steps = steps(self.args, self.stage.place.is_some());
        let planned: Vec<Duration> = steps.iter().map(|step| self.time(*step)).collect();
        let mut progress = Progress::new(planned.iter().sum());
        for (step, planned) in steps.into_iter().zip(planned) {
            self.check()?;
            match step {
                Step::Device => {
                    progress.step("the disk itself", planned);
                    self.device().context("the disk could not be measured")?;
                }
                Step::Round(mode, kind) => {
                    let label = &self.stage.brokers[mode].label;
                    progress.step(&format!("{label} {}", kind.name()), planned);
                    if let Err(error) = self.round(mode, kind) {
                        // What ended a server explains why it could not be reached.
                        self.check()?;
                        return Err(error.context(format!("{label} {}", kind.name())));
                    }
                }
            }
        }
        self.check()
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.ender.is_over(), "it was interrupted");
        match self.stage.why_ended() {
            Some(why) => anyhow::bail!("{why}"),
            None => Ok(()),
        }
    }

    fn time(&self, step: Step) -> Duration {
        Duration::from_secs_f64(match step {
            Step::Device => self.args.device_seconds / 2.0,
            Step::Round(_, kind) => {
                let (seconds, warmup) = self.args.times(kind);
                seconds + warmup
            }
        })
    }

    fn device(&mut self) -> anyhow::Result<()> {
        let Some(place) = &self.stage.place else { return Ok(()) };
        if self.probe.is_none() {
            self.probe = Some(Probe::new(place.folder())?);
        }
        let time = self.time(Step::Device);
        self.probe.as_mut().map_or(Ok(()), |probe| probe.measure(time))
    }

    fn round(&mut self, mode: usize, kind: Kind) -> anyhow::Result<()> {
        let broker = &self.stage.brokers[mode];
        let cpus = self.stage.cores.as_ref().map(|cores| cores::list(&cores.load));
        let pid = broker.server.as_ref().map(|server| server.pid);
        let words = self.args.words(kind, &broker.addr, cpus.as_deref(), pid);
        let args = FlushArgs::send_args(&words)?;
        let before = Counts::ask(&broker.addr);
        let began = Instant::now();
        let measured = send::measure(&args).map_err(|error| advised(error, &broker.addr))?;
        let load_seconds = began.elapsed().as_secs_f64();
        let after = Counts::ask(&broker.addr);
        let flush = before.zip(after).and_then(|(before, after)| after.since(&before));
        let lost = measured.report.lost_connections;
        let is_refused = measured.report.successes == 0;
        let command = format!("ringmq bench send {}", words.join(" "));
        self.rounds.push(Round::new(mode, kind, command, measured, flush, load_seconds));
        anyhow::ensure!(lost == 0, "{lost} connections broke; see what the broker's log says");
        anyhow::ensure!(!is_refused, "no request succeeded; what the broker said is below");
        Ok(())
    }
}

/// With the next step for whoever meets it.
fn advised(error: anyhow::Error, addr: &str) -> anyhow::Error {
    let is_unreachable = error.downcast_ref::<ringmq_client::Error>().is_some_and(ringmq_client::Error::is_unreachable);
    if is_unreachable {
        error.context(format!("is the broker running at {addr}, and can it be reached from here?"))
    } else {
        error
    }
}

/// In turns, and the one that begins changes too: what drifts hits both alike.
fn steps(args: &FlushArgs, has_device: bool) -> Vec<Step> {
    let rounds = |kind, count: u32| {
        let pair = |i: u32| if i.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        (0..count).flat_map(pair).map(move |mode| Step::Round(mode, kind))
    };
    let closed = if args.closed_seconds > 0.0 { CLOSED_ROUNDS } else { 0 };
    let device = (has_device && args.device_seconds > 0.0).then_some(Step::Device);
    let steps = device.into_iter().chain(rounds(Kind::Open, args.rounds)).chain(rounds(Kind::Closed, closed));
    steps.chain(rounds(Kind::Single, closed)).chain(device).collect()
}

fn setup(args: &FlushArgs, stage: &Stage, rounds: &[Round]) -> Setup {
    Setup {
        rate: args.rate,
        size: args.size,
        queues: args.queues,
        connections: args.connections,
        in_flight: args.in_flight,
        header: args.header.to_string(),
        rounds: args.rounds,
        seconds: args.seconds,
        warmup: args.warmup,
        closed_seconds: args.closed_seconds,
        topic: args.topic.clone(),
        broker_cpus: stage.cores.as_ref().filter(|_| stage.place.is_some()).map(|cores| cores.brokers.clone()),
        load_cpus: stage.cores.as_ref().map(|cores| cores.load.clone()),
        spins: rounds.iter().any(|round| round.kind == Kind::Open && round.report.setup.spins),
        servers: stage.commands(),
        config: stage.config.clone(),
    }
}

fn modes(stage: &Stage, rounds: &[Round]) -> anyhow::Result<Vec<Mode>> {
    let mode = |(i, broker): (usize, &stage::Broker)| {
        Ok(Mode {
            label: broker.label.clone(),
            key: broker.key.clone(),
            broker: broker.addr.clone(),
            open: Summary::of(rounds, i, Kind::Open)?,
            closed: Summary::of(rounds, i, Kind::Closed)?,
            single: Summary::of(rounds, i, Kind::Single)?,
        })
    };
    stage.brokers.iter().enumerate().map(mode).collect()
}

/// What speaks against the run, and what its reader should know.
fn judge(outcome: &mut Outcome) {
    for (i, round) in outcome.rounds.iter().enumerate() {
        let label = &outcome.modes[round.mode].label;
        let named = |finding: &String| format!("round {}, {label} {}: {finding}", i + 1, round.kind.name());
        outcome.findings.extend(round.report.findings.iter().map(named));
        // At the rate the rounds are judged together, below.
        if round.kind != Kind::Open {
            outcome.rejected.extend(round.report.rejected.iter().map(named));
        }
    }
    for mode in &outcome.modes {
        let Some((open, late)) = mode.open.as_ref().and_then(|open| Some((open, open.generator_lateness_us?))) else {
            continue;
        };
        if is_late((late.p99 * 1e3) as u64, (open.latency_us.p99 * 1e3) as u64) {
            outcome.rejected.push(format!(
                "the generator itself was {:.0} us late at its p99 with {}: lower --rate, or give it CPUs of its own \
                 (--load-cpus)",
                late.p99, mode.label
            ));
        }
    }
    let mut note = |text: &str| outcome.notes.push(text.to_owned());
    if outcome.host.debug_build {
        note("this is a debug build: build with --release before believing a figure");
    }
    if outcome.setup.load_cpus.is_none() {
        note("there is one CPU only: load and broker take it from each other");
    }
    if outcome.storage.as_ref().is_some_and(crate::host::Storage::is_memory) {
        note("the store is in memory: a flush costs nothing there and nothing is durable");
    }
    if outcome.storage.is_none() {
        note("the brokers run elsewhere: their disks were not measured, and they may differ in more than their flush");
    }
    if let Some(odd) = outcome.storage.as_ref().and_then(|storage| storage.device.as_ref())
        && odd.write_cache.as_deref() == Some("write through")
    {
        note("the device has no volatile write cache: a write is durable when it is done, and a flush costs little");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: FlushArgs,
    }

    #[test]
    fn rounds_are_taken_in_turns() {
        let order = |line: &str, has_device| {
            let args = Line::try_parse_from(["flush"].into_iter().chain(line.split_whitespace())).unwrap().args;
            let name = |step: &Step| match step {
                Step::Device => "D".to_owned(),
                Step::Round(mode, kind) => format!("{mode}{}", &kind.name()[..4]),
            };
            steps(&args, has_device).iter().map(name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order("--rounds 3 --closed-seconds 0", false), "0at t 1at t 1at t 0at t 0at t 1at t");
        assert_eq!(order("--rounds 1", true), "D 0at t 1at t 0as f 1as f 1as f 0as f 0one  1one  1one  0one  D");
        assert_eq!(order("--rounds 1 --closed-seconds 0 --device-seconds 0", true), "0at t 1at t");
    }
}
