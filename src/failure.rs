//! Why a command failed, as the sentence that is printed and the code that the process ends with.

use std::fmt;

use crate::cli::Exit;

/// A command that could not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    why: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, why: impl fmt::Display) -> Failure {
        Failure { exit, why: why.to_string() }
    }

    /// Something was there and said no, or could not be done.
    pub(crate) fn refused(why: impl fmt::Display) -> Failure {
        Failure::new(Exit::Refused, why)
    }

    /// The configuration has to be corrected first.
    pub(crate) fn config(why: impl fmt::Display) -> Failure {
        Failure::new(Exit::Config, why)
    }

    /// The command line has to be corrected first.
    pub(crate) fn usage(why: impl fmt::Display) -> Failure {
        Failure::new(Exit::Usage, why)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        let unreachable = error.downcast_ref().is_some_and(ringmq_client::Error::is_unreachable);
        Failure::new(if unreachable { Exit::Unreachable } else { Exit::Refused }, format!("{error:#}"))
    }
}

impl From<ringmq_client::Error> for Failure {
    fn from(error: ringmq_client::Error) -> Failure {
        use ringmq_client::Error;
        let exit = match &error {
            error if error.is_unreachable() => Exit::Unreachable,
            Error::Message { .. } | Error::Name(_) | Error::Filter { .. } | Error::NoNameServer => Exit::Usage,
            _ => Exit::Refused,
        };
        Failure::new(exit, error)
    }
}
