//! `bench topics`: one load over more and more queues, in rounds, and what is lost against the first step.

use std::process::ExitCode;

use crate::lane::Span;
use crate::options::{Command, SendArgs, TopicsArgs};
use crate::report::{Compound, say};
use crate::send::send;
use crate::target::Target;

/// One number of queues.
struct Step {
    queues: u32,
    args: SendArgs,
    target: Target,
    messages_per_second: Vec<f64>,
    p99_us: Vec<f64>,
}

impl Step {
    /// Makes the topics.
    fn prepare(args: &TopicsArgs, queues: u32) -> anyhow::Result<Step> {
        let of_topic = args.send.queues().min(queues);
        let topics = queues.div_ceil(of_topic);
        let mut send = args.send.clone();
        send.queues = Some(of_topic);
        send.load.topics = Some(topics);
        send.load.topic = format!("{}-{queues}", args.send.load.topic);
        say(&format!("{queues} queues: {topics} topics of {of_topic}"))?;
        let target = Target::for_sends(&send.load, of_topic)?;
        Ok(Step { queues: topics * of_topic, args: send, target, messages_per_second: Vec::new(), p99_us: Vec::new() })
    }
}

pub(crate) fn run(args: TopicsArgs) -> anyhow::Result<ExitCode> {
    let (seconds, warmup, patience) = (args.send.seconds(), args.send.warmup(), args.send.load.patience()?);
    let mut steps =
        args.steps.iter().map(|queues| Step::prepare(&args, *queues)).collect::<anyhow::Result<Vec<_>>>()?;
    let rounds = args.rounds;
    let json = args.send.load.json.clone();
    let mut report = Compound::new("topics", Command::Topics(args));
    // One step after the other and that again, so that a machine that drifts meets all of them.
    for round in 1..=rounds {
        for step in &mut steps {
            let one = send(&step.args, &step.target, Span::new(warmup, seconds, patience), None)?.report;
            say(&format!(
                "round {round}: {} queues, {:.0} messages/s, p99 {:.1} us",
                step.queues, one.messages_per_second, one.latency_us.p99
            ))?;
            step.messages_per_second.push(one.messages_per_second);
            step.p99_us.push(one.latency_us.p99);
            report.part(format!("{} queues, round {round}", step.queues), one);
        }
    }
    let mut first = None;
    let mut figures = Vec::new();
    for step in &mut steps {
        let (rate, p99) = (median(&mut step.messages_per_second), median(&mut step.p99_us));
        let loss = 1.0 - rate / *first.get_or_insert(rate);
        report.line(
            &step.queues.to_string(),
            &format!("{rate:.0} messages/s, p99 {p99:.1} us, {:+.1}% against the first", -loss * 100.0),
        );
        figures.push(serde_json::json!({
            "queues": step.queues,
            "messages_per_second": rate,
            "p99_us": p99,
            "loss": loss,
        }));
    }
    report.figure("steps", figures);
    report.finish(json.as_deref(), false)
}

/// Of an even number, the higher of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&mut [2.0, 1.0]), 2.0);
        assert_eq!(median(&mut []), 0.0);
    }
}
