//! What is said about a key when someone asks: its value, who said it, what it means, whether it is in force.
//!
//! Text only; the program prints it.

use std::fmt::Write;

use super::{
    key::{self, Class, Key, Match, Program},
    settings::Settings,
    value,
};

/// There is no such key; `near` is what may have been meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no key{}", near.map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
pub(crate) struct NoSuchKey {
    pub(crate) name: String,
    pub(crate) near: Option<&'static str>,
}

/// The page about one key, by any of its spellings.
pub(crate) fn explain(settings: &Settings, name: &str) -> Result<String, NoSuchKey> {
    match key::find(settings.program, name) {
        Match::Key(key, _) => Ok(page(settings, key)),
        Match::Unknown { near, .. } => Err(NoSuchKey { name: name.to_owned(), near: near.map(|key| key.name) }),
    }
}

fn page(settings: &Settings, key: &'static Key) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let idle = settings.idle.iter().find(|idle| idle.key.is_some_and(|k| k.name == key.name));
    let title = match (settings.get(key.name), idle) {
        (Some(setting), _) => {
            lines.push(("from", setting.origin.to_string()));
            for (origin, text) in setting.overridden.iter().rev() {
                lines.push(("instead of", format!("{text} ({origin})")));
            }
            format!("{} = {}", key.name, setting.text)
        }
        (None, Some(idle)) => {
            lines.push(("from", idle.origin.to_string()));
            format!("{} = {}, not in force", key.name, idle.text)
        }
        (None, None) => format!("{} is not set", key.name),
    };
    lines.push(("default", key.default.to_owned()));
    lines.push(("takes", value::takes(key.kind)));
    lines.push(("meaning", key.meaning.to_owned()));
    lines.push(("in force", class(key.class)));
    if let (Some(idle), true) = (idle, key.class == Class::Honoured) {
        lines.push(("but", idle.why.clone()));
    }
    if key.durability {
        lines.push(("note", "it decides what survives a crash, so a misspelt name stops the start".to_owned()));
    }
    let aliases: Vec<_> = key.aliases().collect();
    if !aliases.is_empty() {
        lines.push(("also read", format!("{}, with a warning", aliases.join(", "))));
    }
    lines.push(("environment", format!("RINGMQ_{0} or ROCKETMQ_{0}", key.env_suffix())));
    let mut text = title + "\n";
    for (label, line) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {label:<12}{line}");
    }
    text
}

fn class(class: Class) -> String {
    match class {
        Class::Honoured => "yes".to_owned(),
        Class::UnderRoot(folder) => {
            format!("only as `{folder}` below storePathRootDir; another place is not built yet")
        }
        Class::NoOp(why) => format!("no, it has nothing to act on: {why}"),
        Class::NotBuilt(what) => format!("no, not built yet: {what}"),
    }
}

/// Every value that is in force with its origin, one a line, in the order of the names.
pub(crate) fn listing(settings: &Settings) -> String {
    let mut text = String::new();
    for setting in settings.iter() {
        let _ = writeln!(text, "{} = {} ({})", setting.key.name, setting.text, setting.origin);
    }
    text
}

/// A file that holds every key that is in force, at its default and with its sentence.
pub(crate) fn sample(program: Program) -> String {
    let mut text = String::new();
    for key in key::keys(program).filter(|key| key.class == Class::Honoured) {
        let _ = write!(text, "\n# {} It takes {}.\n", key.meaning, value::takes(key.kind));
        let _ = match key.preset() {
            Some(preset) => writeln!(text, "{} = {preset}", key.name),
            None => writeln!(text, "# {} = {}", key.name, key.default),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::load::{Flag, Sources, load};
    use super::*;

    fn settings(file: &str) -> Settings {
        let mut sources = Sources::new(Program::Broker);
        sources.file = Some(("broker.conf".to_owned(), file.as_bytes().to_vec()));
        sources.flags.push(Flag { flag: "--port".into(), key: "listenPort".into(), value: "30911".into() });
        load(&sources).unwrap()
    }

    #[test]
    fn a_key_in_force() {
        let page = explain(&settings("listenPort=20911\n"), "listenport").unwrap();
        assert_eq!(
            page,
            "listenPort = 30911\n  \
               from        flag --port\n  \
               instead of  20911 (broker.conf:1)\n  \
               instead of  10911 (default)\n  \
               default     10911\n  \
               takes       a whole number from 3 to 65534\n  \
               meaning     Main port; the VIP port is 2 below, the replication port 1 above.\n  \
               in force    yes\n  \
               environment RINGMQ_LISTEN_PORT or ROCKETMQ_LISTEN_PORT\n"
        );
    }

    #[test]
    fn a_key_that_is_not_in_force() {
        let page = explain(&settings("slaveReadEnable=true\n"), "slaveReadEnable").unwrap();
        assert!(page.starts_with("slaveReadEnable = true, not in force\n  from        broker.conf:1\n"), "{page}");
        assert!(page.contains("in force    no, not built yet: replication"), "{page}");
        let page = explain(&settings(""), "flushDiskTyp").unwrap();
        assert!(page.contains("also read   flushDiskTyp, with a warning"), "{page}");
        assert!(page.contains("decides what survives a crash"), "{page}");
        let page = explain(&settings("brokerRole=SYNC_MASTER\n"), "brokerRole").unwrap();
        assert!(page.contains("but         replication is not built yet: nothing is copied"), "{page}");
    }

    #[test]
    fn no_such_key() {
        let error = explain(&settings(""), "listenPortt").unwrap_err();
        assert_eq!(error.to_string(), "`listenPortt` is no key; did you mean listenPort?");
        assert_eq!(explain(&settings(""), "colour").unwrap_err().to_string(), "`colour` is no key");
    }

    /// The file that ships beside the name server is the table, so that neither can be forgotten.
    #[test]
    fn the_shipped_file_of_the_name_server_is_the_table() {
        let shipped = include_str!("../../namesrv/conf/namesrv.conf");
        let (head, keys) = shipped.split_once("\n\n").unwrap();
        assert!(head.lines().all(|line| line.starts_with('#')));
        assert_eq!(format!("\n{keys}"), sample(Program::Namesrv));
    }

    #[test]
    fn a_sample_loads_without_a_word() {
        for program in [Program::Broker, Program::Namesrv] {
            let mut sources = Sources::new(program);
            sources.file = Some(("sample".to_owned(), sample(program).into_bytes()));
            let settings = load(&sources).unwrap();
            assert_eq!((settings.notices(), settings.not_in_force()), (&[][..], None));
        }
    }
}
