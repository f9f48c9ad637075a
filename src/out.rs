//! Standard output for what a command was asked for. A reader that went away is no fault and no panic.

use std::io::Write;

pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

pub(crate) fn line(text: impl std::fmt::Display) {
    print(&format!("{text}\n"));
}
