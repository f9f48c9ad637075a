//! `bench compare`: whether the second of two results is worse than the first. Each side is one JSON file of a run, or a
//! folder of them. The measured intervals are drawn again and again with replacement, round by round, and each draw gives
//! every figure once: what lies between the 2.5th and the 97.5th percentile of these is its confidence interval.
//!
//! The verdict is one-sided and careful: "worse" is said only when even the favourable end of the interval is beyond the
//! tolerance. Results that differ in what they measured are not compared.

mod input;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;

use self::input::{Load, Round, Runs};
use crate::flush::text::grouped;
use crate::report::write_json;

/// The result is worse; for scripts.
const WORSE: u8 = 1;
/// Nothing can be said; the reason is printed.
const CANNOT: u8 = 2;

const DRAWS: usize = 1000;
/// The same draws every time: a comparison repeats to the digit.
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit codes: 0 no worse, 1 worse beyond the tolerance, 2 cannot be compared")]
pub struct CompareArgs {
    /// Result to compare with: a JSON file of `bench flush` or `bench send`, or a folder of them.
    #[arg(value_name = "A.json")]
    pub before: PathBuf,
    /// Result in question.
    #[arg(value_name = "B.json")]
    pub after: PathBuf,
    /// Percent by which a figure may be worse.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub tolerance: f64,
    /// Compare although load or host differ; the differences are printed.
    #[arg(long)]
    pub force: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A figure of a load.
#[derive(Debug, Clone, Copy)]
struct Figure {
    name: &'static str,
    /// `None`: messages a second, where less is worse.
    quantile: Option<f64>,
    /// With fewer values its estimate is one of chance.
    values_min: u64,
}

const FIGURES: [Figure; 5] = [
    Figure { name: "messages/s", quantile: None, values_min: 1 },
    Figure { name: "p50 us", quantile: Some(0.5), values_min: 100 },
    Figure { name: "p90 us", quantile: Some(0.9), values_min: 1_000 },
    Figure { name: "p99 us", quantile: Some(0.99), values_min: 10_000 },
    Figure { name: "p99.9 us", quantile: Some(0.999), values_min: 100_000 },
];

#[derive(Debug, Clone, Serialize)]
struct Line {
    load: String,
    figure: &'static str,
    before: f64,
    after: f64,
    /// After as a multiple of before, with its confidence interval.
    ratio: f64,
    ratio_low: f64,
    ratio_high: f64,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Worse,
    Better,
    Same,
    /// The interval reaches beyond the tolerance, but not all of it.
    Open,
}

#[derive(Debug, Serialize)]
struct Comparison {
    schema: &'static str,
    tolerance_percent: f64,
    differences: Vec<String>,
    lines: Vec<Line>,
    sentence: String,
}

pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    match compare(args) {
        Ok(comparison) => {
            std::io::stdout().lock().write_all(text(&comparison).as_bytes())?;
            if let Some(path) = &args.json {
                write_json(path, &comparison)?;
            }
            let is_worse = comparison.lines.iter().any(|line| line.verdict == Verdict::Worse);
            Ok(if is_worse { ExitCode::from(WORSE) } else { ExitCode::SUCCESS })
        }
        Err(error) => {
            let _nobody_reads = writeln!(std::io::stderr(), "cannot compare: {error:#}");
            Ok(ExitCode::from(CANNOT))
        }
    }
}

fn compare(args: &CompareArgs) -> anyhow::Result<Comparison> {
    ensure!(
        (0.0..=1000.0).contains(&args.tolerance),
        "--tolerance {}: it is a percentage, from 0 to 1000",
        args.tolerance
    );
    let (before, after) = (Runs::read(&args.before)?, Runs::read(&args.after)?);
    let differences = before.differences(&after);
    ensure!(
        differences.is_empty() || args.force,
        "they did not measure the same ({}); --force compares them all the same",
        differences.join("; ")
    );
    let names: BTreeSet<&String> = before.loads.keys().filter(|name| after.loads.contains_key(*name)).collect();
    ensure!(!names.is_empty(), "they have no load in common: {} and {}", before.names(), after.names());
    let mut lines = Vec::new();
    for name in names {
        lines.extend(of_load(name, &before.loads[name], &after.loads[name], args.tolerance / 100.0));
    }
    let sentence = sentence(&lines, args.tolerance);
    Ok(Comparison { schema: "ringmq-bench-compare/1", tolerance_percent: args.tolerance, differences, lines, sentence })
}

fn of_load(name: &str, before: &Load, after: &Load, tolerance: f64) -> Vec<Line> {
    let mut random = Random(SEED);
    let draws: Vec<(Draw, Draw)> =
        (0..DRAWS).map(|_| (Draw::again(before, &mut random), Draw::again(after, &mut random))).collect();
    let (was, is) = (Draw::all(before), Draw::all(after));
    let mut lines = Vec::new();
    for figure in FIGURES {
        // At a rate that is kept the throughput is what was ordered.
        if (figure.quantile.is_none() && before.is_open_loop) || was.count.min(is.count) < figure.values_min {
            continue;
        }
        let ratio_of = |(was, is): (&Draw, &Draw)| {
            let (was, is) = (was.figure(figure), is.figure(figure));
            if was > 0.0 { is / was } else { 1.0 }
        };
        let mut ratios: Vec<f64> = draws.iter().map(|(was, is)| ratio_of((was, is))).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let (low, high) = (ratios[DRAWS / 40], ratios[DRAWS - 1 - DRAWS / 40]);
        lines.push(Line {
            load: name.to_owned(),
            figure: figure.name,
            before: was.figure(figure),
            after: is.figure(figure),
            ratio: ratio_of((&was, &is)),
            ratio_low: low,
            ratio_high: high,
            verdict: verdict(figure.quantile.is_none(), low, high, tolerance),
        });
    }
    lines
}

fn verdict(more_is_better: bool, low: f64, high: f64, tolerance: f64) -> Verdict {
    // As if more were always worse: the ends of a throughput's interval are turned over.
    let (best, worst) = if more_is_better { (1.0 / high, 1.0 / low) } else { (low, high) };
    let (most, least) = (1.0 + tolerance, 1.0 / (1.0 + tolerance));
    match () {
        () if best > most => Verdict::Worse,
        () if worst < least => Verdict::Better,
        () if worst <= most => Verdict::Same,
        () => Verdict::Open,
    }
}

/// A load's intervals, each taken as often as chance would have it.
#[derive(Debug)]
struct Draw {
    /// By place in the load's list of values.
    counts: Vec<u64>,
    count: u64,
    messages: f64,
    seconds: f64,
    values: std::rc::Rc<[u64]>,
}

impl Draw {
    fn empty(load: &Load) -> Draw {
        let values = std::rc::Rc::clone(&load.values);
        Draw { counts: vec![0; values.len()], count: 0, messages: 0.0, seconds: 0.0, values }
    }

    fn add(&mut self, interval: &input::Interval) {
        for (place, count) in &interval.latency {
            self.counts[*place as usize] += count;
            self.count += count;
        }
        self.messages += interval.messages as f64;
        self.seconds += interval.seconds;
    }

    fn all(load: &Load) -> Draw {
        let mut draw = Draw::empty(load);
        load.rounds.iter().flat_map(|round| &round.intervals).for_each(|interval| draw.add(interval));
        draw
    }

    /// As many rounds as there are, and of each as many intervals as it has: rounds differ more than what is within one.
    fn again(load: &Load, random: &mut Random) -> Draw {
        let mut draw = Draw::empty(load);
        for _ in &load.rounds {
            let round: &Round = &load.rounds[random.below(load.rounds.len())];
            for _ in &round.intervals {
                draw.add(&round.intervals[random.below(round.intervals.len())]);
            }
        }
        draw
    }

    fn figure(&self, figure: Figure) -> f64 {
        let Some(quantile) = figure.quantile else {
            return if self.seconds > 0.0 { self.messages / self.seconds } else { 0.0 };
        };
        let wanted = (self.count as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted && seen > 0
        });
        place.map_or(0.0, |place| self.values[place] as f64 / 1e3)
    }
}

/// SplitMix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * bound as u128) >> 64) as usize
    }
}

fn sentence(lines: &[Line], tolerance: f64) -> String {
    let named = |verdict: Verdict| -> Vec<String> {
        let those = lines.iter().filter(|line| line.verdict == verdict);
        those.map(|line| format!("{} {} ({:.2}x)", line.load, line.figure, line.ratio)).collect()
    };
    let (worse, better, open) = (named(Verdict::Worse), named(Verdict::Better), named(Verdict::Open));
    let mut text = if worse.is_empty() {
        format!("no worse: no figure is shown to be more than {tolerance}% worse")
    } else {
        format!("worse by more than {tolerance}%: {}", worse.join(", "))
    };
    if !better.is_empty() {
        let _ = write!(text, "; better: {}", better.join(", "));
    }
    if !open.is_empty() {
        let _ = write!(text, "; not settled, more rounds would tell: {}", open.join(", "));
    }
    text
}

fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for difference in &comparison.differences {
        let _ = writeln!(text, "note: {difference}");
    }
    let width = comparison.lines.iter().map(|line| line.load.len()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "{:<width$}  {:<10}  {:>12}  {:>12}  {:>7}  {:<17}",
        "load", "figure", "A", "B", "B/A", "95% of the draws"
    );
    for line in &comparison.lines {
        let decimals = usize::from(line.before < 1e4);
        let _ = writeln!(
            text,
            "{:<width$}  {:<10}  {:>12}  {:>12}  {:>6.3}x  {:<17}  {}",
            line.load,
            line.figure,
            grouped(line.before, decimals),
            grouped(line.after, decimals),
            line.ratio,
            format!("{:.3} to {:.3}", line.ratio_low, line.ratio_high),
            match line.verdict {
                Verdict::Worse => "WORSE",
                Verdict::Better => "better",
                Verdict::Same => "same",
                Verdict::Open => "not settled",
            }
        );
    }
    let _ = writeln!(text, "{}", comparison.sentence);
    text
}

#[cfg(test)]
mod tests;
