//! What a process costs, from `/proc`: CPU time, resident memory, how often its threads went to sleep. The watched
//! process is not touched.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use serde::Serialize;

use crate::options::WatchArgs;
use crate::report::{usage_line, write_json};

/// `/proc/PID/stat` counts in units of 1/100 s on every Linux architecture (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

/// A process at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    at: Instant,
    user: Duration,
    system: Duration,
    rss_bytes: u64,
    sleeps: u64,
    preemptions: u64,
    written_bytes: u64,
}

/// A watched process in the course of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Moment {
    /// Since the first sample.
    pub(crate) seconds: f64,
    pub(crate) rss_bytes: u64,
    /// Handed to the disk since the first sample.
    pub(crate) written_bytes: u64,
}

/// What a process used between two moments.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    /// Share of one core, in percent.
    pub(crate) cpu_percent: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    /// Handed to the disk, by `/proc/PID/io`.
    pub(crate) written_bytes: u64,
    /// Second by second, where the run samples between its ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) moments: Vec<Moment>,
}

impl Usage {
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

impl Sample {
    pub(crate) fn take(pid: u32) -> anyhow::Result<Sample> {
        let stat = read(pid, "stat")?;
        let (user, system) = cpu_time(&stat).ok_or_else(|| anyhow!("/proc/{pid}/stat has an unknown form"))?;
        let status = read(pid, "status")?;
        let rss_bytes = status_field(&status, "VmRSS:").unwrap_or(0) * 1024;
        let (mut sleeps, mut preemptions) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("no process {pid}"))? {
            // A thread may end between the listing and the reading.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
            sleeps += status_field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            preemptions += status_field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        // Only the owner may read it.
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let written_bytes = status_field(&io, "write_bytes:").unwrap_or(0);
        Ok(Sample { at: Instant::now(), user, system, rss_bytes, sleeps, preemptions, written_bytes })
    }

    /// How the process stands at a later time.
    pub(crate) fn moment(&self, later: &Sample) -> Moment {
        Moment {
            seconds: later.at.duration_since(self.at).as_secs_f64(),
            rss_bytes: later.rss_bytes,
            written_bytes: later.written_bytes.saturating_sub(self.written_bytes),
        }
    }

    pub(crate) fn until(&self, later: &Sample) -> Usage {
        let seconds = later.at.duration_since(self.at).as_secs_f64();
        let user_seconds = later.user.saturating_sub(self.user).as_secs_f64();
        let system_seconds = later.system.saturating_sub(self.system).as_secs_f64();
        Usage {
            seconds,
            user_seconds,
            system_seconds,
            cpu_percent: (user_seconds + system_seconds) / seconds.max(1e-9) * 100.0,
            rss_bytes: later.rss_bytes,
            voluntary_switches: later.sleeps.saturating_sub(self.sleeps),
            involuntary_switches: later.preemptions.saturating_sub(self.preemptions),
            written_bytes: later.written_bytes.saturating_sub(self.written_bytes),
            moments: Vec::new(),
        }
    }
}

/// `bench watch`: one process over one stretch of time, without any load of this command.
pub(crate) fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.seconds.is_finite() && args.seconds > 0.0, "--seconds must be above zero");
    let before = Sample::take(args.watch_pid)?;
    thread::sleep(Duration::from_secs_f64(args.seconds));
    let usage = before.until(&Sample::take(args.watch_pid)?);
    let mut text = String::new();
    usage_line(&mut text, &usage, None);
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if let Some(path) = &args.json {
        write_json(path, &usage)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(pid: u32, file: &str) -> anyhow::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("no process {pid} to watch"))
}

/// Fields 14 and 15; counted from the last parenthesis, because the command's name may hold spaces and parentheses.
fn cpu_time(stat: &str) -> Option<(Duration, Duration)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || Some(Duration::from_millis(fields.next()?.parse::<u64>().ok()? * 1000 / TICKS_PER_SECOND));
    Some((ticks()?, ticks()?))
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_an_odd_name() {
        let stat = "77 (a) (b c) S 1 77 77 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_time(stat), Some((Duration::from_millis(2500), Duration::from_millis(310))));
        assert_eq!(cpu_time("77 x"), None);
    }

    #[test]
    fn this_process_can_be_watched() {
        let before = Sample::take(std::process::id()).unwrap();
        let begun = Instant::now();
        let mut spun = 0u64;
        while begun.elapsed() < Duration::from_millis(60) {
            spun = spun.wrapping_add(1);
        }
        let usage = before.until(&Sample::take(std::process::id()).unwrap());
        assert!(usage.cpu_seconds() > 0.0 && usage.rss_bytes > 0, "{usage:?} {spun}");
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Sample::take(u32::MAX).unwrap_err();
        assert!(error.to_string().contains("no process 4294967295"), "{error}");
    }
}
