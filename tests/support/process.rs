//! A child process whose output is collected line by line, and which does not outlive its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The lines that one of a process's outputs has given so far.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    fn collect(source: impl Read + Send + 'static) -> Arc<Lines> {
        let lines = Arc::new(Lines::default());
        let filled = Arc::clone(&lines);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(source);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                filled.state.lock().unwrap().0.push(text);
                filled.changed.notify_all();
                line.clear();
            }
            filled.state.lock().unwrap().1 = true;
            filled.changed.notify_all();
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.state.lock().unwrap().0.clone()
    }

    /// Waits until `enough` gives something for the lines so far; `None` when time or the output ends first.
    pub(crate) fn wait<T>(&self, patience: Duration, mut enough: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(answer) = enough(&state.0) {
                return Some(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the end of the output.
    fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock().unwrap();
        while !state.1 && Instant::now() < deadline {
            state = self.changed.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }
}

/// A running child. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    pub(crate) out: Arc<Lines>,
    pub(crate) err: Arc<Lines>,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let input = child.stdin.take();
        let out = Lines::collect(child.stdout.take().unwrap());
        let err = Lines::collect(child.stderr.take().unwrap());
        Process { child, input, out, err }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Writes a line to the child's input. A child that has already gone is no error here.
    pub(crate) fn say(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _gone = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    /// SIGKILL: the process gets no chance to write, flush or say goodbye.
    pub(crate) fn kill(&mut self) {
        let _already_gone = self.child.kill();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then the exit status.
    pub(crate) fn terminate(&mut self, patience: Duration) -> ExitStatus {
        let status = Command::new("kill").arg(self.id().to_string()).status().unwrap();
        assert!(status.success(), "cannot signal {}", self.id());
        self.wait(patience)
    }

    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.out.finish(Duration::from_secs(2));
                self.err.finish(Duration::from_secs(2));
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "process {} did not end within {patience:?}\n{}",
                self.id(),
                self.transcript()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The last lines of both outputs, for a failure's message.
    pub(crate) fn transcript(&self) -> String {
        let last = |lines: Vec<String>| {
            let from = lines.len().saturating_sub(60);
            lines[from..].join("\n")
        };
        format!("--- stdout\n{}\n--- stderr\n{}", last(self.out.all()), last(self.err.all()))
    }

    /// Resident memory in bytes, as the kernel counts it.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
