//! The servers of a run: processes of this same program. They end with this process, however it ends: each reads its
//! standard input and stops when that is closed, which the kernel does for a parent that is gone.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

/// Time to begin to serve; a store that exists is read first, an empty one is not.
const START: Duration = Duration::from_secs(60);
/// Time to end in order, before it is ended without.
const STOP: Duration = Duration::from_secs(20);
/// Time to read the log of a server that has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LOG_LINES: usize = 40;

/// Whoever may have to end the servers at once: a signal, a panic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ender {
    state: Arc<Mutex<Ending>>,
}

#[derive(Debug, Default)]
struct Ending {
    processes: Vec<process::Child>,
    is_over: bool,
}

impl Ender {
    fn state(&self) -> MutexGuard<'_, Ending> {
        // Every change is whole before a panic could come.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every server now, and every one that is started later.
    pub(crate) fn end_all(&self) {
        let mut state = self.state();
        state.is_over = true;
        for process in &mut state.processes {
            let _gone_already = process.kill();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Takes a process over; its number is its place.
    fn adopt(&self, mut process: process::Child) -> usize {
        let mut state = self.state();
        if state.is_over {
            let _gone_already = process.kill();
        }
        state.processes.push(process);
        state.processes.len() - 1
    }

    /// How a process ended whose output is closed.
    fn reap(&self, place: usize) -> Option<ExitStatus> {
        self.state().processes.get_mut(place).and_then(|process| process.wait().ok())
    }

    fn kill(&self, place: usize) {
        if let Some(process) = self.state().processes.get_mut(place) {
            let _gone_already = process.kill();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) addr: String,
    pub(crate) pid: u32,
    /// The command line, for whoever wants to repeat it.
    pub(crate) command: String,
    place: usize,
    input: Option<ChildStdin>,
    /// The lines of its output; closed when it has ended.
    lines: Receiver<String>,
    log: Arc<Mutex<VecDeque<String>>>,
    /// Closed when all of the log is read.
    log_end: Receiver<Infallible>,
    ender: Ender,
}

impl Server {
    /// Starts and waits until it serves. `label` is the line of its banner that names its address.
    pub(crate) fn start(
        name: &str,
        label: &str,
        args: &[String],
        home: &Path,
        ender: &Ender,
    ) -> anyhow::Result<Server> {
        let program = program()?;
        let mut command = Command::new(&program);
        command.args(args).env("XDG_DATA_HOME", home);
        // A terminal's Ctrl-C is for this process, which ends the servers itself.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        let (input, out, err) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (out, err) = (out.context("no output of a server")?, err.context("no log of a server")?);
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let log_end = keep_last(err, Arc::clone(&log))?;
        let pid = process.id();
        let mut server = Server {
            name: name.to_owned(),
            addr: String::new(),
            pid,
            command: format!("ringmq {}", args.join(" ")),
            place: ender.adopt(process),
            input,
            lines: lines_of(out)?,
            log,
            log_end,
            ender: ender.clone(),
        };
        server.addr = server.wait_ready(label)?;
        Ok(server)
    }

    fn wait_ready(&mut self, label: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + START;
        let mut addr = None;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "ready" => break,
                Ok(line) => {
                    let rest = line.trim_start().strip_prefix(label);
                    addr = addr.or(rest.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned));
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the {} did not serve within {} s: {}", self.name, START.as_secs(), self.last_words());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let how = self.ended();
                    bail!("the {} could not start ({how}): {}", self.name, self.last_words());
                }
            }
        }
        addr.ok_or_else(|| anyhow!("the {} did not say where it listens", self.name))
    }

    /// Why it runs no more; `None` while it does.
    pub(crate) fn why_ended(&self) -> Option<String> {
        loop {
            match self.lines.try_recv() {
                Ok(_) => {}
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => break,
            }
        }
        let how = self.ended();
        Some(format!("the {} ended by itself ({how}), its last words: {}", self.name, self.last_words()))
    }

    /// How it ended, once its last words are heard.
    fn ended(&self) -> String {
        let how = self.ender.reap(self.place).map_or_else(String::new, how_it_ended);
        // Whatever it may have started could hold its log open for ever.
        let (Ok(_) | Err(_)) = self.log_end.recv_timeout(LAST_WORDS);
        how
    }

    fn last_words(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let serious = |line: &&String| line.contains("ERROR") || line.contains("panicked");
        let word = log.iter().rev().find(serious).or(log.back());
        word.map_or_else(|| "none".to_owned(), |line| line.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let deadline = Instant::now() + STOP;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.ender.kill(self.place);
                    break;
                }
            }
        }
        self.ender.reap(self.place);
    }
}

/// This very program, even if its file has been replaced since it was started.
fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("this program does not know its own file")?;
    if path.exists() { Ok(path) } else { Ok(PathBuf::from("/proc/self/exe")) }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, code) => format!("exit code {}", code.unwrap_or_default()),
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> anyhow::Result<Receiver<String>> {
    let (tell, lines) = mpsc::channel();
    let read = move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("output".to_owned()).spawn(read).context("a thread cannot be started")?;
    Ok(lines)
}

fn keep_last(
    pipe: impl Read + Send + 'static,
    log: Arc<Mutex<VecDeque<String>>>,
) -> anyhow::Result<Receiver<Infallible>> {
    let (end, ended) = mpsc::channel();
    let read = move || {
        let _until_here = end;
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(line);
        }
    };
    thread::Builder::new().name("log".to_owned()).spawn(read).context("a thread cannot be started")?;
    Ok(ended)
}
