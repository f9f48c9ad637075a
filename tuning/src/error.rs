//! What stops a command. A single setting that cannot be set does not: it is an outcome of [`crate::apply`].

use std::io;
use std::path::PathBuf;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only root may change the host.
    #[error("only root can change these settings: run it with sudo, or look with `ringmq tune --check`")]
    NotRoot,
    /// The store is no folder that is there.
    #[error("the store {} cannot be looked at: {source}; name a folder that exists, or make it first", path.display())]
    Store {
        /// As it was given.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// A name that would mean something else in a file of limits or a unit.
    #[error("`{0}` is no user name: letters, digits, `_`, `-` and `.` make one, and no digit or `-` begins it")]
    UserName(Box<str>),
    /// A path that a unit or a rule could not carry.
    #[error("{}: a path with spaces, quotes, `%` or line ends cannot be written into a systemd unit", .0.display())]
    StorePath(PathBuf),
    /// Another `tune` is changing the host.
    #[error("another `ringmq tune` is at work ({} is locked): try again when it has ended", .0.display())]
    Busy(PathBuf),
    /// Nothing is known that could be undone.
    #[error("nothing to undo: there is no {}", .0.display())]
    NothingToUndo(PathBuf),
    /// The record of what was before cannot be understood.
    #[error("{} is damaged ({source}): move it away; what it held has to be undone by hand", path.display())]
    Undo {
        /// The undo file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// The undo file could not be kept, and without it nothing is changed.
    #[error("{}: {source}; without a record of what was before nothing is changed", path.display())]
    Record {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
}
