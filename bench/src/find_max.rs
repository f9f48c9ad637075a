//! `bench find-max`: the highest rate that a broker takes with its 99th percentile within a bound and without falling
//! behind. Doubles until a rate does not hold, then halves the distance.

use std::process::ExitCode;

use crate::lane::Span;
use crate::options::{Command, FindMaxArgs, SendArgs};
use crate::report::{Compound, Report, say};
use crate::send::send;
use crate::target::Target;

/// Nobody asks for less; a broker that does not hold it has another problem.
const RATE_MIN: f64 = 10.0;

/// What one rate has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Held,
    /// Too slow, or behind.
    Missed,
    /// The generator could not keep up: nothing is known about the broker.
    Rejected,
}

/// Where the search is: the highest rate that held and the lowest that did not.
#[derive(Debug, Clone, Copy)]
struct Search {
    held: Option<f64>,
    missed: Option<f64>,
    precision: f64,
}

impl Search {
    /// The next rate to try; `None` when the two are near enough.
    fn next(&self, first: f64) -> Option<f64> {
        match (self.held, self.missed) {
            (None, None) => Some(first),
            (Some(held), None) => Some(held * 2.0),
            (None, Some(missed)) => Some(missed / 2.0).filter(|rate| *rate >= RATE_MIN),
            (Some(held), Some(missed)) => Some((held + missed) / 2.0).filter(|_| missed - held > held * self.precision),
        }
    }

    fn note(&mut self, rate: f64, step: Step) {
        match step {
            Step::Held => self.held = Some(rate),
            Step::Missed | Step::Rejected => self.missed = Some(rate),
        }
    }
}

pub(crate) fn run(args: &FindMaxArgs) -> anyhow::Result<ExitCode> {
    let (seconds, warmup, patience) = (args.send.seconds(), args.send.warmup(), args.send.load.patience()?);
    let target = Target::for_sends(&args.send.load, args.send.queues())?;
    let json = args.send.load.json.clone();
    let first = args.send.rate().unwrap_or(RATE_MIN);
    let mut search = Search { held: None, missed: None, precision: args.precision };
    let mut report = Compound::new("find-max", Command::FindMax(args.clone()));
    let mut steps = Vec::new();
    let mut limited_by_generator = false;
    while let Some(rate) = search.next(first) {
        let send_args = SendArgs { rate: Some(rate), ..args.send.clone() };
        let one = send(&send_args, &target, Span::new(warmup, seconds, patience), None)?.report;
        if let Some(finding) = broken(&one) {
            report.finding(format!("at {rate:.0}/s: {finding}"));
            report.detail(format!("{rate:.0}/s"), one);
            break;
        }
        let step = judge(&one, args.p99);
        let word = match step {
            Step::Held => "held",
            Step::Missed => "missed",
            Step::Rejected => "rejected, the generator could not keep up",
        };
        let p99 = one.latency_us.p99;
        let line = format!("{rate:.0}/s: {:.0} messages/s, p99 {p99:.1} us: {word}", one.messages_per_second);
        say(&line)?;
        steps.push(serde_json::json!({ "rate": rate, "p99_us": p99, "messages_per_second": one.messages_per_second, "outcome": word }));
        report.line("step", &line);
        report.detail(format!("{rate:.0}/s"), one);
        if step != Step::Held {
            limited_by_generator = step == Step::Rejected;
        }
        search.note(rate, step);
    }
    report.figure("steps", steps);
    report.figure("p99_bound_us", args.p99);
    report.figure("max_rate", search.held);
    match search.held {
        Some(rate) => report.line("highest", &format!("{rate:.0} messages/s with p99 <= {:.0} us", args.p99)),
        None => {
            report.finding(format!("no rate held p99 <= {:.0} us: raise --p99, or begin lower with --rate", args.p99));
        }
    }
    if limited_by_generator {
        report.reject(
            "the lowest rate that did not hold was too much for the generator: the broker may take more (--cpu)",
        );
    }
    report.finish(json.as_deref(), false)
}

/// What a rate that is too high does not explain; a search does not go on after it.
fn broken(report: &Report) -> Option<String> {
    let explained = usize::from(report.unsent > 0) + usize::from(report.unanswered > 0);
    let broken = report.partial || report.successes == 0 || report.findings.len() > explained;
    broken.then(|| report.findings.join("; "))
}

fn judge(report: &Report, bound_us: f64) -> Step {
    // What fell behind was sent later, and its latency says so.
    let held = report.unsent == 0 && report.unanswered == 0 && report.latency_us.p99 <= bound_us;
    match (held, report.rejected.is_empty()) {
        (true, _) => Step::Held,
        (false, true) => Step::Missed,
        (false, false) => Step::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate that a search finds against a broker that holds anything up to `limit`.
    fn found(limit: f64, first: f64) -> (Option<f64>, u32) {
        let mut search = Search { held: None, missed: None, precision: 0.05 };
        let mut steps = 0;
        while let Some(rate) = search.next(first) {
            search.note(rate, if rate <= limit { Step::Held } else { Step::Missed });
            steps += 1;
        }
        (search.held, steps)
    }

    #[test]
    fn the_search_comes_near_the_limit_from_either_side() {
        for (limit, first) in [(123_456.0, 10_000.0), (123.0, 10_000.0), (10_000.0, 10_000.0), (1e6, 1.0)] {
            let (held, steps) = found(limit, first);
            let held = held.unwrap();
            assert!(held <= limit && held * 1.05 >= limit * 0.99, "{held} of {limit}");
            assert!(steps < 40, "{steps}");
        }
        assert_eq!(found(1.0, 100.0).0, None);
    }
}
