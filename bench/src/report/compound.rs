//! The report of a command that is more than one load: the parts with their own figures and verdicts, and what the
//! command itself has found out of them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::{Report, SCHEMA, exit_code, verdict, write_json};
use crate::options::Command;

#[derive(Debug, Serialize)]
pub(crate) struct Compound {
    schema: &'static str,
    command: &'static str,
    /// What the command was run for; the rest is detail.
    figures: serde_json::Map<String, serde_json::Value>,
    findings: Vec<String>,
    rejected: Vec<String>,
    notes: Vec<String>,
    parts: Vec<Part>,
    /// As [`Report::run`].
    run: Command,
    /// The figures in words.
    #[serde(skip)]
    lines: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: String,
    report: Report,
}

impl Compound {
    pub(crate) fn new(command: &'static str, run: Command) -> Compound {
        Compound {
            schema: SCHEMA,
            command,
            figures: serde_json::Map::new(),
            findings: Vec::new(),
            rejected: Vec::new(),
            notes: Vec::new(),
            parts: Vec::new(),
            run,
            lines: Vec::new(),
        }
    }

    /// Adds a part; what must not be in it must not be in the whole.
    pub(crate) fn part(&mut self, name: impl Into<String>, report: Report) {
        let name = name.into();
        self.findings.extend(report.findings.iter().map(|finding| format!("{name}: {finding}")));
        self.rejected.extend(report.rejected.iter().map(|reason| format!("{name}: {reason}")));
        self.detail(name, report);
    }

    /// Adds a part whose verdict does not count for the whole.
    pub(crate) fn detail(&mut self, name: impl Into<String>, report: Report) {
        self.parts.push(Part { name: name.into(), report });
    }

    pub(crate) fn figure(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// A line of the summary: its name, then what it says.
    pub(crate) fn line(&mut self, name: &str, text: &str) {
        self.lines.push(format!("  {name:<10}  {text}"));
    }

    pub(crate) fn finding(&mut self, sentence: impl Into<String>) {
        self.findings.push(sentence.into());
    }

    pub(crate) fn reject(&mut self, sentence: impl Into<String>) {
        self.rejected.push(sentence.into());
    }

    pub(crate) fn note(&mut self, sentence: impl Into<String>) {
        self.notes.push(sentence.into());
    }

    /// As [`Report::finish`]. `with_parts` prints the figures of the parts too.
    pub(crate) fn finish(&self, json: Option<&Path>, with_parts: bool) -> anyhow::Result<ExitCode> {
        let mut text = String::new();
        if with_parts {
            for part in &self.parts {
                text.push_str(&part.report.figures());
                for note in &part.report.notes {
                    let _ = writeln!(text, "  note        {note}");
                }
            }
        }
        let _ = writeln!(text, "{}", self.command);
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        verdict(&mut text, &self.findings, &self.rejected, &self.notes);
        std::io::stdout().lock().write_all(text.as_bytes())?;
        if let Some(path) = json {
            write_json(path, self)?;
        }
        Ok(exit_code(&self.findings, &self.rejected))
    }
}
