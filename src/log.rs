//! The log: one line an event, on standard error. `RINGMQ_LOG` says what is logged, in the syntax of `RUST_LOG`.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

const VARIABLE: &str = "RINGMQ_LOG";

/// Starts the log of this process. `default` is the filter where the environment says nothing.
pub(crate) fn init(default: &str) -> Result<(), Failure> {
    let given = std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let filter = given.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::config(format!("environment {VARIABLE}: `{filter}` is no filter: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init()
        .map_err(|error| Failure::new(crate::cli::Exit::Bug, error))
}
