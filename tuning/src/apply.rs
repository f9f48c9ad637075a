//! Sets what is off, writes the files that make it outlive a reboot, and takes both back.
//!
//! Before the first change the record of what was before is on the disk. What cannot be set is reported and does not
//! stop the rest. A value that somebody changed since is left to them, and so is a file.

mod record;
mod value;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

pub use self::record::{Entry, RECORD, Record, Wrote};
use crate::advise::{Finding, Place, Purpose, Verdict, advise};
use crate::error::Error;
use crate::facts::{Facts, Limits};
use crate::render::{self, Kind};
use crate::root::Root;

/// One thing that was done, or would be, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// A setting's name or a file's path.
    pub what: String,
    /// What it was, where it was something.
    pub before: Option<String>,
    /// What it is now; `None` where it was taken away.
    pub after: Option<String>,
    pub outcome: Outcome,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is so now, or would be.
    Done,
    /// Somebody changed it since: it is theirs.
    Left(String),
    /// It could not be done, and why.
    Failed(String),
}

impl Step {
    fn done(what: impl Into<String>, before: Option<String>, after: Option<String>) -> Step {
        Step { what: what.into(), before, after, outcome: Outcome::Done }
    }

    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

/// Sets everything that is off. With `dry` nothing is changed and the steps say what would be.
///
/// # Errors
/// Without root, and when no record can be kept. Single settings fail in their step.
pub fn apply(
    root: &Root,
    facts: &Facts,
    purpose: &Purpose,
    store: Option<&Path>,
    dry: bool,
) -> Result<Vec<Step>, Error> {
    render::user_name(&purpose.user)?;
    // A path that a unit cannot carry is said before anything is changed.
    let dropin = render::service_dropin(purpose, store)?;
    if dry {
        return Ok(work(root, facts, purpose, dropin, Record::load(root)?, true)?.0);
    }
    if !facts.is_root {
        return Err(Error::NotRoot);
    }
    let _lock = lock(root)?;
    let (steps, record) = work(root, facts, purpose, dropin, Record::load(root)?, false)?;
    if record.is_empty() { record.remove(root) } else { record.save(root) }?;
    Ok(steps)
}

fn work(
    root: &Root,
    facts: &Facts,
    purpose: &Purpose,
    dropin: String,
    mut record: Record,
    dry: bool,
) -> Result<(Vec<Step>, Record), Error> {
    let off: Vec<Finding> = advise(facts, purpose).into_iter().filter(|one| one.verdict == Verdict::Off).collect();
    let entries: Vec<(String, Entry)> = off.iter().flat_map(|finding| entries(root, finding, &record)).collect();
    // What we wrote once and somebody changed is theirs, unless it is off again.
    record.entries.retain(|entry| value::read(root, &entry.place).as_deref() == Some(&entry.wrote));
    for (_, entry) in &entries {
        record.entries.retain(|one| one.place != entry.place);
        record.entries.push(entry.clone());
    }
    if !dry && !entries.is_empty() {
        record.save(root)?;
    }
    let mut steps = Vec::new();
    for (name, entry) in entries {
        let before = value::read(root, &entry.place);
        let mut step = Step::done(name, before, Some(entry.wrote.clone()));
        if !dry && let Err(why) = value::write(root, &entry.place, &entry.wrote) {
            record.entries.retain(|one| one.place != entry.place);
            step.outcome = Outcome::Failed(explain(&why, &entry, facts));
        }
        steps.push(step);
    }
    let values: BTreeMap<Place, String> =
        record.entries.iter().map(|entry| (entry.place.clone(), entry.wrote.clone())).collect();
    for (kind, text) in files(root, facts, purpose, &values, dropin) {
        steps.extend(file(root, kind, &text, &mut record, dry)?);
    }
    Ok((steps, record))
}

/// The writes of one finding. What was before us stays the value to go back to when the advice itself has changed.
fn entries(root: &Root, finding: &Finding, record: &Record) -> Vec<(String, Entry)> {
    let entry = |place: &Place, back: Option<(Place, String)>| {
        let now = value::read(root, place)?;
        let known = record.entries.iter().find(|entry| entry.place == *place && entry.wrote == now);
        let (back_place, back) = match known {
            Some(known) => (known.back_place.clone(), known.back.clone()),
            None => back.unwrap_or_else(|| (place.clone(), now)),
        };
        Some(Entry { place: place.clone(), wrote: finding.wanted.clone(), back_place, back })
    };
    let first = entry(&finding.place, finding.back.clone()).map(|entry| (finding.name.clone(), entry));
    let others = finding.alike.iter().filter_map(|(place, _)| {
        let path = place.path().display().to_string();
        entry(place, None).map(|entry| (path, entry))
    });
    first.into_iter().chain(others).collect()
}

/// The files that this host should have; an empty text is a file that should not be there.
fn files(
    root: &Root,
    facts: &Facts,
    purpose: &Purpose,
    values: &BTreeMap<Place, String>,
    dropin: String,
) -> Vec<(Kind, String)> {
    let mut files = vec![
        (Kind::Sysctl, render::sysctl(values)),
        (Kind::Udev, render::udev(values)),
        (Kind::Tmpfiles, render::tmpfiles(values)),
        (Kind::Limits, limits(root, purpose)),
    ];
    if facts.has_systemd {
        files.push((Kind::Systemd, dropin));
    }
    files
}

/// Limits for the user's logins, where those that are configured do not do. Ours do not count: without them there would
/// be none.
fn limits(root: &Root, purpose: &Purpose) -> String {
    let ours = render::limits(&purpose.user);
    let is_ours = root.text(Kind::Limits.path()).as_deref() == Some(ours.trim());
    let given = Limits::at_login(root, &purpose.user);
    let is_enough = given.files >= crate::OPEN_FILES && given.locked == u64::MAX;
    if is_enough && !is_ours { String::new() } else { ours }
}

/// Brings one file to its text. A file that is not as we left it is not ours.
fn file(root: &Root, kind: Kind, text: &str, record: &mut Record, dry: bool) -> Result<Option<Step>, Error> {
    let path = kind.path();
    let there = match fs::read_to_string(root.at(path)) {
        Ok(there) => Some(there),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Ok(Some(failed(path, &error))),
    };
    let recorded = record.files.iter().position(|wrote| wrote.path == path);
    let is_ours = recorded.is_some_and(|at| there.as_deref() == Some(&record.files[at].text));
    let forget = |record: &mut Record| recorded.map(|at| record.files.remove(at));
    match there {
        // As it should be, whoever made it.
        Some(there) if there == text => Ok(None),
        None if text.is_empty() => {
            forget(record);
            Ok(None)
        }
        Some(_) if text.is_empty() => {
            if !is_ours {
                forget(record);
                return Ok(None);
            }
            let mut step = Step::done(path, Some("our file".to_owned()), None);
            match if dry { Ok(()) } else { fs::remove_file(root.at(path)) } {
                Ok(()) => drop(forget(record)),
                Err(error) => step = failed(path, &error),
            }
            Ok(Some(step))
        }
        Some(_) if !is_ours => {
            let why =
                "a file of this name is there that `ringmq tune` did not write, or was changed since: move it away";
            let mut step = Step::done(path, None, None);
            step.outcome = Outcome::Failed(why.to_owned());
            Ok(Some(step))
        }
        there => {
            let before = there.map(|_| "our file".to_owned());
            let lines = text.lines().count();
            let step = Step::done(path, before, Some(format!("{lines} lines")));
            if dry {
                return Ok(Some(step));
            }
            let wrote = Wrote { path: path.to_owned(), text: text.to_owned(), folder: missing(root, path) };
            let folder = forget(record).and_then(|old| old.folder);
            record.files.push(Wrote { folder: folder.or(wrote.folder.clone()), ..wrote });
            record.save(root)?;
            if let Err(error) = record::replace(&root.at(path), text) {
                record.files.retain(|one| one.path != path);
                return Ok(Some(failed(path, &error)));
            }
            Ok(Some(step))
        }
    }
}

/// The folder that has to be made for a file, if any: undo takes it away again.
fn missing(root: &Root, path: &str) -> Option<String> {
    let folder = Path::new(path).parent()?;
    (!root.has(folder)).then(|| folder.display().to_string())
}

fn failed(what: &str, error: &io::Error) -> Step {
    let outcome = Outcome::Failed(error.to_string());
    Step { what: what.to_owned(), before: None, after: None, outcome }
}

/// Why the kernel refused, and who could set it.
fn explain(why: &value::WriteError, entry: &Entry, facts: &Facts) -> String {
    let on_host = entry.place.command(&entry.wrote);
    match why {
        value::WriteError::Kept(kept) => format!("the kernel kept {kept}"),
        value::WriteError::Io(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let inside = facts.container.map(|kind| format!(" ({kind})")).unwrap_or_default();
            format!("read-only here{inside}: on the host, `{on_host}`")
        }
        value::WriteError::Io(error) if matches!(entry.place, Place::Irq(_)) => {
            format!("the kernel does not let this interrupt be moved ({error})")
        }
        value::WriteError::Io(error) => format!("the kernel refuses {}: {error}", entry.wrote),
    }
}

/// Takes back what [`apply`] did, the last first. With `dry` nothing is changed.
///
/// # Errors
/// Without root, without a record, and when the record is damaged.
pub fn undo(root: &Root, facts: &Facts, dry: bool) -> Result<Vec<Step>, Error> {
    if Record::load(root)?.is_empty() {
        return Err(Error::NothingToUndo(PathBuf::from(RECORD)));
    }
    if !dry && !facts.is_root {
        return Err(Error::NotRoot);
    }
    let _lock = if dry { None } else { Some(lock(root)?) };
    // Again, now that nobody else changes it.
    let record = Record::load(root)?;
    let mut kept = Record::default();
    let mut steps = Vec::new();
    for wrote in record.files.into_iter().rev() {
        let step = take_away(root, &wrote, dry);
        if step.has_failed() {
            kept.files.push(wrote);
        }
        steps.push(step);
    }
    for entry in record.entries.into_iter().rev() {
        let step = put_back(root, &entry, dry);
        if step.has_failed() {
            kept.entries.push(entry);
        }
        steps.push(step);
    }
    if !dry {
        if kept.is_empty() { kept.remove(root) } else { kept.save(root) }?;
    }
    Ok(steps)
}

fn take_away(root: &Root, wrote: &Wrote, dry: bool) -> Step {
    let path = root.at(&wrote.path);
    let mut step = Step::done(wrote.path.clone(), Some("our file".to_owned()), None);
    match fs::read_to_string(&path) {
        Ok(text) if text == wrote.text => {
            if !dry && let Err(error) = fs::remove_file(&path) {
                return failed(&wrote.path, &error);
            }
            if let Some(folder) = wrote.folder.as_deref().filter(|_| !dry) {
                // Somebody else's files in it keep it.
                let _ = fs::remove_dir(root.at(folder));
            }
        }
        Ok(_) => step.outcome = Outcome::Left("it was changed since, so it stays".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            step.outcome = Outcome::Left("it is gone already".to_owned());
        }
        Err(error) => return failed(&wrote.path, &error),
    }
    step
}

fn put_back(root: &Root, entry: &Entry, dry: bool) -> Step {
    let now = value::read(root, &entry.place);
    let shown = |place: &Place| match place {
        Place::Sysctl(name) => name.clone(),
        other => other.path().display().to_string(),
    };
    let back = match &entry.back_place {
        same if *same == entry.place => entry.back.clone(),
        other => format!("{} = {}", shown(other), entry.back),
    };
    let mut step = Step::done(shown(&entry.place), now.clone(), Some(back));
    match now {
        None => step.outcome = Outcome::Left("the kernel has it no more".to_owned()),
        Some(now) if now == entry.wrote => {
            if !dry && let Err(error) = value::write(root, &entry.back_place, &entry.back) {
                step.outcome = Outcome::Failed(error.to_string());
            }
        }
        Some(now) if entry.place == entry.back_place && now == entry.back => {}
        Some(now) => {
            step.after = None;
            step.outcome = Outcome::Left(format!("it was changed since, to {now}, so it stays"));
        }
    }
    step
}

/// Held while the host is changed. The lock is on the record's folder and ends with the process.
fn lock(root: &Root) -> Result<File, Error> {
    let folder = root.at(record::FOLDER);
    let fault = |source| Error::Record { path: PathBuf::from(record::FOLDER), source };
    fs::create_dir_all(&folder).map_err(fault)?;
    let file = File::open(&folder).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy(PathBuf::from(record::FOLDER))),
        Err(TryLockError::Error(source)) => Err(fault(source)),
    }
}
