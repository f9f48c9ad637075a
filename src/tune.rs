//! `tune`: looks at the host's settings, sets those that are off, takes them back, or prints the files for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ringmq_tuning::advise::{self, Finding, Place, Purpose, Verdict, advise};
use ringmq_tuning::apply::{self, Outcome, Step};
use ringmq_tuning::check::Check;
use ringmq_tuning::facts::{Facts, parse_cpus};
use ringmq_tuning::{Error, Root, render};

use crate::cli::Exit;
use crate::failure::Failure;
use crate::out::{line, print};
use crate::run::place;

/// Look at the host's settings, set those that are off, or take them back.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").args(["apply", "undo"]))]
#[command(group = clap::ArgGroup::new("what").args(["check", "apply", "undo", "print"]))]
pub(crate) struct TuneArgs {
    /// Look only; the exit code is 1 when something is off. This is what happens without a flag.
    #[arg(long)]
    check: bool,
    /// Set what is off, write the files that keep it over a reboot, and record what was before. Needs root.
    #[arg(long)]
    apply: bool,
    /// Take back what --apply did, but for what somebody changed since. Needs root.
    #[arg(long)]
    undo: bool,
    /// Print a file: as it is shipped, or for this host's disks.
    #[arg(long, value_enum, value_name = "FILE")]
    print: Option<File>,
    /// Folder of the store: the disks below it are looked at.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The user that the broker runs as.
    #[arg(long, value_name = "USER", default_value = advise::USER)]
    user: String,
    /// The cores that the broker runs on, like 0,2-3, where it does not use all: interrupts go to the others.
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Say what would be done, and do nothing.
    #[arg(long, requires = "change")]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum File {
    /// /etc/sysctl.d/90-ringmq.conf
    Sysctl,
    /// /etc/security/limits.d/90-ringmq.conf
    Limits,
    /// /etc/udev/rules.d/90-ringmq.rules, for the disks below the store
    Udev,
    /// /etc/tmpfiles.d/90-ringmq.conf, for huge pages and governors
    Tmpfiles,
    /// /etc/systemd/system/ringmq.service
    Systemd,
    /// os.sh
    Script,
}

pub(crate) fn run(args: &TuneArgs) -> Result<ExitCode, Failure> {
    let purpose = Purpose { user: args.user.clone(), cpus: args.cpus.as_deref().map(cores).transpose()? };
    render::user_name(&purpose.user)?;
    if let Some(file) = args.print {
        return print_file(args, &purpose, file);
    }
    let root = Root::host();
    let facts = look(&root, args)?;
    if args.apply {
        let steps = apply::apply(&root, &facts, &purpose, args.store.as_deref(), args.dry_run)?;
        return Ok(say_applied(&steps, &facts, &purpose, args.dry_run));
    }
    if args.undo {
        let steps = apply::undo(&root, &facts, args.dry_run)?;
        return Ok(say_undone(&steps, args.dry_run));
    }
    Ok(say_found(&advise(&facts, &purpose), &facts, &command(args)))
}

fn cores(text: &str) -> Result<Vec<usize>, Failure> {
    parse_cpus(text)
        .filter(|cpus| !cpus.is_empty())
        .ok_or_else(|| Failure::usage(format!("--cpus {text}: a list of cores looks like 0,2-3")))
}

/// The host, with the disks below the store. One that nobody named need not exist yet, one that was named must.
fn look(root: &Root, args: &TuneArgs) -> Result<Facts, Failure> {
    let usual = existing(&place::home().join("store"));
    let store = args.store.as_deref().unwrap_or(&usual);
    Ok(Facts::read(root, advise::names(), Some(store))?)
}

/// The nearest folder that is there.
pub(crate) fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// The command that sets what this look finds off.
fn command(args: &TuneArgs) -> String {
    let mut command = "ringmq tune --apply".to_owned();
    if let Some(store) = &args.store {
        command.push_str(&format!(" --store {}", store.display()));
    }
    if args.user != advise::USER {
        command.push_str(&format!(" --user {}", args.user));
    }
    if let Some(cpus) = &args.cpus {
        command.push_str(&format!(" --cpus {cpus}"));
    }
    command
}

fn print_file(args: &TuneArgs, purpose: &Purpose, file: File) -> Result<ExitCode, Failure> {
    let text = match file {
        File::Sysctl => render::sysctl_shipped(),
        File::Limits => render::limits(&purpose.user),
        File::Systemd => render::service(purpose, args.store.as_deref())?,
        File::Script => render::script().to_owned(),
        File::Udev | File::Tmpfiles => {
            let values = advised(&advise(&look(&Root::host(), args)?, purpose));
            if let File::Udev = file { render::udev(&values) } else { render::tmpfiles(&values) }
        }
    };
    if text.is_empty() {
        return Err(Failure::refused("this host has none of the settings that go into this file"));
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}

/// What is advised, whether it is in force already or not: a value that is better than the advice is kept.
fn advised(findings: &[Finding]) -> BTreeMap<Place, String> {
    let mut values = BTreeMap::new();
    for finding in findings {
        let value = match (&finding.verdict, &finding.now) {
            (Verdict::Off, _) => &finding.wanted,
            (Verdict::Right, Some(now)) => now,
            _ => continue,
        };
        values.insert(finding.place.clone(), value.clone());
        values.extend(finding.alike.iter().map(|(place, _)| (place.clone(), value.clone())));
    }
    values
}

fn say_found(findings: &[Finding], facts: &Facts, tune: &str) -> ExitCode {
    for finding in findings {
        line(Check::setting(finding, facts, tune));
    }
    if !facts.has_sys {
        line("-     disks: unknown (/sys is not mounted)");
    } else if facts.store.as_ref().is_none_or(|store| store.disks.is_empty()) {
        line("-     disks: none is seen below the store");
    }
    let count = |verdict: &Verdict| findings.iter().filter(|finding| finding.verdict == *verdict).count();
    let (off, right) = (count(&Verdict::Off), count(&Verdict::Right));
    if off == 0 {
        line(format_args!("{right} settings are as advised, none is off"));
        return ExitCode::SUCCESS;
    }
    line(format_args!("{right} settings are as advised, {off} off: `{tune}` sets them, with --dry-run it says how"));
    ExitCode::from(Exit::Refused as u8)
}

fn say_applied(steps: &[Step], facts: &Facts, purpose: &Purpose, dry: bool) -> ExitCode {
    if steps.is_empty() {
        line("nothing to do: everything is as advised");
        return ExitCode::SUCCESS;
    }
    let code = say(steps, if dry { "would set" } else { "set" }, if dry { "would remove" } else { "removed" });
    if !facts.users.contains(&purpose.user) {
        line(format_args!("note: there is no user {0} in /etc/passwd (useradd --system {0})", purpose.user));
    }
    let wrote =
        |kind: render::Kind| steps.iter().any(|step| step.what == kind.path() && step.outcome == Outcome::Done && !dry);
    if wrote(render::Kind::Systemd) {
        line("next: systemctl daemon-reload, and restart the broker");
    }
    if wrote(render::Kind::Limits) {
        line("next: log in again, so that the limits are in force");
    }
    if !dry {
        line("`ringmq tune --undo` brings back what was before");
    }
    code
}

fn say_undone(steps: &[Step], dry: bool) -> ExitCode {
    say(steps, if dry { "would put back" } else { "put back" }, if dry { "would remove" } else { "removed" })
}

/// One line a step; the exit code says whether one failed.
fn say(steps: &[Step], sets: &str, removes: &str) -> ExitCode {
    for step in steps {
        let what = &step.what;
        match (&step.outcome, &step.before, &step.after) {
            (Outcome::Failed(why), ..) => line(format_args!("FAILED {what}: {why}")),
            (Outcome::Left(why), ..) => line(format_args!("left {what}: {why}")),
            (Outcome::Done, Some(before), Some(after)) => line(format_args!("{sets} {what}: {before} -> {after}")),
            (Outcome::Done, None, Some(after)) => line(format_args!("{sets} {what}: {after}")),
            (Outcome::Done, _, None) => line(format_args!("{removes} {what}")),
        }
    }
    let failed = steps.iter().filter(|step| step.has_failed()).count();
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    line(format_args!("{failed} of {} could not be done", steps.len()));
    ExitCode::from(Exit::Refused as u8)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match &error {
            Error::Store { .. } | Error::UserName(_) | Error::StorePath(_) => Exit::Usage,
            Error::NotRoot | Error::Busy(_) | Error::NothingToUndo(_) | Error::Undo { .. } | Error::Record { .. } => {
                Exit::Refused
            }
        };
        Failure::new(exit, error)
    }
}
