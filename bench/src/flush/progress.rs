//! How far a run is: a bar on a terminal, a line a step elsewhere. The steps' lengths are known before, so the bar tells
//! the time that is left.

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<Bar>,
    planned_ms: u64,
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    steps: Sender<(u64, u64)>,
    drawer: Option<JoinHandle<()>>,
}

impl Progress {
    pub(crate) fn new(planned: Duration) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| Bar::new(planned)).flatten();
        Progress { bar, planned_ms: 0 }
    }

    /// Begins what will take about so long.
    pub(crate) fn step(&mut self, what: &str, planned: Duration) {
        let planned_ms = planned.as_millis() as u64;
        match &self.bar {
            Some(bar) => {
                bar.bar.set_message(what.to_owned());
                let _ended = bar.steps.send((self.planned_ms, planned_ms));
            }
            None => {
                let _nobody_reads = writeln!(std::io::stderr(), "{what} ({:.1} s)", planned.as_secs_f64());
            }
        }
        self.planned_ms += planned_ms;
    }
}

impl Bar {
    fn new(planned: Duration) -> Option<Bar> {
        let bar = ProgressBar::with_draw_target(Some(planned.as_millis() as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{elapsed:>4} {wide_bar} {eta:>4} left  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (steps, next) = mpsc::channel::<(u64, u64)>();
        let drawn = bar.clone();
        let draw = move || {
            let mut step = (0, 0);
            let mut begun = Instant::now();
            loop {
                match next.recv_timeout(REDRAW) {
                    Ok(begins) => {
                        step = begins;
                        begun = Instant::now();
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                drawn.set_position(step.0 + (begun.elapsed().as_millis() as u64).min(step.1));
            }
        };
        let drawer = thread::Builder::new().name("progress".to_owned()).spawn(draw).ok()?;
        Some(Bar { bar, steps, drawer: Some(drawer) })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.steps = closed;
        if let Some(drawer) = self.drawer.take() {
            let _panicked = drawer.join();
        }
        self.bar.finish_and_clear();
    }
}
