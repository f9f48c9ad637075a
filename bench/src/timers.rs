//! `bench timers`: messages that are due later, and how late a consumer that waits for them gets each.

use std::process::ExitCode;

use crate::backlog::Limit;
use crate::consume::{Extent, Since};
use crate::duo::{Halves, Reads, judge_numbers, run_both, run_number};
use crate::lane::Span;
use crate::options::{Command, TimersArgs};
use crate::pace::Clock;
use crate::report::Compound;
use crate::send::{Due, Purpose, Then};
use crate::target::Target;

/// `messageDelayLevel` of a broker that nobody has told otherwise, in seconds.
const LEVELS: [u64; 18] = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];

pub(crate) fn run(args: TimersArgs) -> anyhow::Result<ExitCode> {
    let send = &args.send;
    let target = Target::for_sends(&send.load, send.queues())?;
    let before = target.ends()?;
    let begun_ms = Clock::system_ns() / 1_000_000;
    let ms = |seconds: f64| (seconds * 1e3) as u64;
    let (due, rate, wait_seconds) = match (args.level, send.rate()) {
        (Some(level), Some(rate)) => {
            let seconds = LEVELS[usize::from(level) - 1];
            (Due::Level { level, ms: seconds * 1_000 }, rate, seconds as f64)
        }
        _ => {
            let first_ms = begun_ms + ms(args.ahead);
            (Due::At { first_ms, gap_ms: 1e3 / args.due_rate }, args.due_rate, args.ahead)
        }
    };
    let count = (rate * (send.warmup() + send.seconds())).ceil() as u64;
    let purpose =
        Purpose { then: Then::Due(due), run: Some(run_number(send.seed)), limit: Some(Limit::Messages(count)) };
    let reads = Reads {
        extent: Extent::Follow,
        rate: None,
        since: Since::Due { measure_from_ms: begun_ms + ms(wait_seconds + send.warmup()) },
        stretches: &|consumer| consumer.open_ended(&before),
        stop_after_reading: false,
    };
    // Nothing comes before the first message is due.
    let patience = send.load.patience()? + std::time::Duration::from_secs_f64(wait_seconds);
    let halves = run_both(send, purpose, &args.beside, &target, &before, Span::open(patience), &reads)?;
    let Halves { sent, read, sent_tally, ledger, seen } = halves;

    let json = send.load.json.clone();
    let mut report = Compound::new("timers", Command::Timers(args));
    let lateness = read.latency_us;
    report.figure("inserted_per_second", sent.messages_per_second);
    report.figure("due_per_second", rate);
    report.figure("lateness_us", serde_json::to_value(lateness)?);
    report.figure("timed", count);
    report.figure("delivered", seen.count());
    report.line("inserted", &format!("{:.0} messages/s, {count} in all", sent.messages_per_second));
    report.line(
        "due",
        &format!(
            "{rate:.0} messages/s, received so many us after it: p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
            lateness.p50, lateness.p90, lateness.p99, lateness.p999, lateness.max
        ),
    );
    judge_numbers(&mut report, &sent_tally, &ledger, &seen);
    if sent_tally.overdue > 0 {
        report.reject(format!(
            "{} messages were due before they were acknowledged, and their lateness is that of their sends: give them \
             more time (--ahead)",
            sent_tally.overdue
        ));
    }
    // The sends of a closed loop keep the generator busy; what is measured is what comes afterwards.
    sent.findings.iter().for_each(|finding| report.finding(format!("send: {finding}")));
    sent.rejected.iter().for_each(|reason| report.note(format!("send: {reason}")));
    report.detail("send", sent);
    report.part("receive", read);
    report.finish(json.as_deref(), true)
}
