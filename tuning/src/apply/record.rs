//! What was before: the file that undo reads.
//!
//! It lies in a folder of root's and not in the broker's, because undo writes as root what it finds in there. For the
//! same reason every place and path in it is held to what `apply` could have written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::advise::{Place, names};
use crate::error::Error;
use crate::render::Kind;
use crate::root::Root;

/// The folder of the record.
pub(super) const FOLDER: &str = "/var/lib/ringmq-tune";
/// The record.
pub const RECORD: &str = "/var/lib/ringmq-tune/undo.json";

/// Everything that was changed and is still so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Values, in the order in which they were set.
    pub entries: Vec<Entry>,
    /// Files that were made.
    pub files: Vec<Wrote>,
}

/// A value that was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub place: Place,
    pub wrote: String,
    /// Where the way back begins: the place itself, but for bytes that took the place of a share.
    pub back_place: Place,
    pub back: String,
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrote {
    pub path: String,
    pub text: String,
    /// The folder that was made for it.
    pub folder: Option<String>,
}

impl Record {
    /// The record of this host; an empty one where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be understood.
    pub fn load(root: &Root) -> Result<Record, Error> {
        let path = PathBuf::from(RECORD);
        let text = match fs::read_to_string(root.at(&path)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            Err(source) => return Err(Error::Record { path, source }),
        };
        let record: Record =
            serde_json::from_str(&text).map_err(|source| Error::Undo { path: path.clone(), source })?;
        match record.foreign() {
            None => Ok(record),
            Some(what) => {
                let source = serde::de::Error::custom(format!("`{what}` is nothing that `ringmq tune` writes"));
                Err(Error::Undo { path, source })
            }
        }
    }

    /// Whether there is nothing to take back.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.files.is_empty()
    }

    /// Something that we would never have written.
    fn foreign(&self) -> Option<String> {
        let places = self.entries.iter().flat_map(|entry| [&entry.place, &entry.back_place]);
        let place = places.into_iter().find(|place| !is_ours(place)).map(|place| place.path().display().to_string());
        let kinds = [Kind::Sysctl, Kind::Limits, Kind::Udev, Kind::Tmpfiles, Kind::Systemd].map(Kind::path);
        let is_file = |wrote: &&Wrote| {
            let folder = wrote.folder.as_deref().map(Path::new);
            kinds.contains(&wrote.path.as_str()) && folder.is_none_or(|it| Path::new(&wrote.path).parent() == Some(it))
        };
        place.or_else(|| self.files.iter().find(|wrote| !is_file(wrote)).map(|wrote| wrote.path.clone()))
    }

    /// Writes it so that a power cut leaves this one or the one before.
    pub(super) fn save(&self, root: &Root) -> Result<(), Error> {
        let path = PathBuf::from(RECORD);
        let written = serde_json::to_string_pretty(self).map_err(io::Error::from);
        let written = written.and_then(|text| replace(&root.at(&path), &format!("{text}\n")));
        written.map_err(|source| Error::Record { path, source })
    }

    /// Takes the file away, and its folder.
    pub(super) fn remove(&self, root: &Root) -> Result<(), Error> {
        let path = PathBuf::from(RECORD);
        match fs::remove_file(root.at(&path)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Record { path, source }),
            _ => {
                // Whatever else is in there keeps it.
                let _ = fs::remove_dir(root.at(FOLDER));
                Ok(())
            }
        }
    }
}

fn is_ours(place: &Place) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-!".contains(&b));
    match place {
        Place::Sysctl(name) => names().any(|known| known == name),
        Place::Queue { disk, file } => is_name(disk) && is_name(file),
        Place::Switch(path) => {
            let plain = Path::new(path).components().all(|part| part != std::path::Component::ParentDir);
            path.starts_with("/sys/") && plain
        }
        Place::Irq(_) => true,
    }
}

/// Puts a whole file in the place of another, through one beside it that no reader of the folder takes for its own.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}
