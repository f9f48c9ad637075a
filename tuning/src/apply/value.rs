//! Reading and writing one value of the kernel.

use std::fs::OpenOptions;
use std::io::{self, Write};

use crate::advise::Place;
use crate::facts::{chosen, parse_cpus, plain};
use crate::root::Root;

/// A value that is not set.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The kernel took the value and has another.
    #[error("the kernel kept {0}")]
    Kept(String),
}

/// The value in force, as it would be written.
pub(super) fn read(root: &Root, place: &Place) -> Option<String> {
    let text = plain(&root.text(place.path())?);
    Some(chosen(&text).to_owned())
}

/// Writes a value and looks whether it is in force.
pub(super) fn write(root: &Root, place: &Place, value: &str) -> Result<(), WriteError> {
    // One call, as the kernel wants it; and never a new file where a setting is missing. A recorded tree holds ordinary
    // files, in which the longer old text must go.
    let mut file = OpenOptions::new().write(true).truncate(true).open(root.at(place.path()))?;
    file.write_all(format!("{value}\n").as_bytes())?;
    drop(file);
    match read(root, place) {
        Some(now) if is_same(place, &now, value) => Ok(()),
        now => Err(WriteError::Kept(now.unwrap_or_default())),
    }
}

/// Masks and lists of cores have several spellings.
fn is_same(place: &Place, now: &str, value: &str) -> bool {
    match place {
        Place::Irq(_) => parse_cpus(now) == parse_cpus(value),
        Place::Switch(_) => now.trim_start_matches(['0', ',']) == value.trim_start_matches(['0', ',']),
        Place::Sysctl(_) | Place::Queue { .. } => now == value,
    }
}
