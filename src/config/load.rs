//! Which source wins: defaults, then the file, then the environment, then flags.
//!
//! `load` is pure: it is handed the bytes of the file, the environment and the flags. Only `from_host` fetches them.
//! Values of keys that are in force, and of keys that decide what survives a crash, are held to their kind; every
//! fault is collected, so that one start names all of them.

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::Context;

use super::{
    key::{self, Class, Key, Kind, Match, Program, Spelling},
    notice::{Idle, Notice, Origin},
    properties::{self, Document, Entry, PropertiesError},
    settings::{Setting, Settings},
    value::{self, Fault, Value},
};

/// What clients and RocketMQ's scripts read for the name servers.
const NAMESRV_ADDR_ENV: &str = "NAMESRV_ADDR";
/// The stronger prefix comes last.
const ENV_PREFIXES: [&str; 2] = ["ROCKETMQ_", "RINGMQ_"];

/// A value that was given on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    /// As it was typed, for messages: `--port`.
    pub(crate) flag: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Everything that a configuration is made from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) program: Program,
    /// The file's name as messages show it, and its bytes.
    pub(crate) file: Option<(String, Vec<u8>)>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) flags: Vec<Flag>,
}

#[cfg(test)]
impl Sources {
    pub(crate) fn new(program: Program) -> Self {
        Self { program, file: None, env: Vec::new(), flags: Vec::new() }
    }
}

/// A fault that stops the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{name}: {source}")]
    File { name: String, source: PropertiesError },
    #[error("{origin}: {key} = {text}: {fault}; it takes {takes} (default {default})")]
    Value { origin: Origin, key: &'static str, text: String, fault: Fault, takes: String, default: &'static str },
    #[error(
        "{origin}: `{found}` is no key, and {meant}, which looks like it, decides what survives a crash: correct the name, because ignoring it or guessing could lose messages"
    )]
    Misspelt { origin: Origin, found: String, meant: &'static str },
    #[error("{origin}: `{found}` is no key{}", near.map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
    UnknownFlag { origin: Origin, found: String, near: Option<&'static str> },
}

/// Every fault that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigErrors(pub(crate) Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads the file and this process's environment, and loads them.
pub(crate) fn from_host(program: Program, file: Option<&Path>, flags: Vec<Flag>) -> anyhow::Result<Settings> {
    let file = match file {
        None => None,
        Some(path) => {
            let name = path.display().to_string();
            let bytes = std::fs::read(path).with_context(|| format!("cannot read the configuration {name}"))?;
            Some((name, bytes))
        }
    };
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let env = std::env::vars_os().filter_map(text).collect();
    Ok(load(&Sources { program, file, env, flags })?)
}

pub(crate) fn load(sources: &Sources) -> Result<Settings, ConfigErrors> {
    let mut loader = Loader::new(sources.program);
    if let Some((name, bytes)) = &sources.file {
        match properties::parse(bytes) {
            Ok(document) => loader.file(name, document),
            Err(source) => loader.errors.push(ConfigError::File { name: name.clone(), source }),
        }
    }
    loader.env(&sources.env);
    for flag in &sources.flags {
        loader.flag(flag);
    }
    let mut settings = loader.finish()?;
    settings.sources = Some(sources.clone());
    Ok(settings)
}

/// A name that was matched to its key, before its value is judged.
struct Given {
    key: &'static Key,
    found: String,
    spelling: Spelling,
    text: String,
    origin: Origin,
}

struct Loader {
    program: Program,
    values: BTreeMap<&'static str, Setting>,
    idle: Vec<Idle>,
    notices: Vec<Notice>,
    errors: Vec<ConfigError>,
}

impl Loader {
    fn new(program: Program) -> Self {
        let in_force = key::keys(program).filter(|key| matches!(key.class, Class::Honoured));
        let defaults = in_force.map(|key| {
            let value = key.preset().and_then(|preset| value::parse(key.kind, preset).ok()).map(|(value, _)| value);
            let text = key.default.to_owned();
            (key.name, Setting { key, value, text, origin: Origin::Default, overridden: Vec::new() })
        });
        Self { program, values: defaults.collect(), idle: Vec::new(), notices: Vec::new(), errors: Vec::new() }
    }

    fn file(&mut self, name: &str, document: Document) {
        let repaired = |repair| Notice::Repaired { name: name.to_owned(), repair };
        self.notices.extend(document.repairs.into_iter().map(repaired));
        let mut given: Vec<Given> = Vec::new();
        for entry in document.entries {
            let origin = Origin::File { name: name.to_owned(), line: entry.line };
            match key::find(self.program, &entry.key) {
                Match::Key(key, spelling) => {
                    let next = Given { key, found: entry.key, spelling, text: entry.value, origin };
                    self.take(&mut given, next);
                }
                Match::Unknown { durability: Some(meant), .. } => {
                    self.errors.push(ConfigError::Misspelt { origin, found: entry.key, meant: meant.name });
                }
                Match::Unknown { near, durability: None } => self.unknown(entry, origin, near),
            }
        }
        for next in given {
            self.apply(next);
        }
    }

    /// Within one file the exact name counts more than a misspelt one, and otherwise the last line.
    fn take(&mut self, given: &mut Vec<Given>, next: Given) {
        if next.spelling != Spelling::Exact {
            let (origin, found) = (next.origin.clone(), next.found.clone());
            self.notices.push(Notice::Respelt { origin, found, key: next.key.name });
        }
        let Some(at) = given.iter().position(|earlier| earlier.key.name == next.key.name) else {
            given.push(next);
            return;
        };
        let earlier = &given[at];
        let is_exact = |one: &Given| one.spelling == Spelling::Exact;
        if is_exact(earlier) == is_exact(&next) {
            self.notices.push(Notice::Duplicate {
                key: next.key.name,
                earlier: earlier.origin.clone(),
                dropped: earlier.text.clone(),
                later: next.origin.clone(),
                used: next.text.clone(),
            });
            given[at] = next;
            return;
        }
        let (exact, other) = if is_exact(&next) { (&next, earlier) } else { (earlier, &next) };
        self.notices.push(Notice::Outranked {
            origin: other.origin.clone(),
            found: other.found.clone(),
            dropped: other.text.clone(),
            key: exact.key.name,
            exact: exact.origin.clone(),
        });
        if is_exact(&next) {
            given[at] = next;
        }
    }

    fn unknown(&mut self, entry: Entry, origin: Origin, near: Option<&'static Key>) {
        let prose = !entry.separated && (entry.value.contains(' ') || !entry.key.is_ascii());
        let why = match near {
            _ if key::belongs_elsewhere(self.program, &entry.key) => match self.program {
                Program::Broker => "the name server reads it, a broker does not".to_owned(),
                Program::Namesrv => "a broker reads it, the name server does not".to_owned(),
            },
            Some(near) => format!("no key has this name; did you mean {}?", near.name),
            None if prose => "it looks like a comment without its #".to_owned(),
            None => "no key has this name".to_owned(),
        };
        self.idle.push(Idle { name: entry.key, text: entry.value, origin, key: None, why });
    }

    fn env(&mut self, env: &[(String, String)]) {
        let origin = |name: &String| Origin::Env(name.clone());
        if let Some((name, text)) = env.iter().find(|(name, text)| name == NAMESRV_ADDR_ENV && !text.trim().is_empty())
            && let Match::Key(key, spelling) = key::find(self.program, "namesrvAddr")
        {
            self.apply(Given {
                key,
                found: name.clone(),
                spelling,
                text: text.trim().to_owned(),
                origin: origin(name),
            });
        }
        for prefix in ENV_PREFIXES {
            let named = env.iter().filter_map(|pair| Some((pair.0.strip_prefix(prefix)?, pair)));
            for (suffix, (name, text)) in named.filter(|(_, (_, text))| !text.trim().is_empty()) {
                match key::find_env(self.program, suffix) {
                    Match::Key(key, spelling) => {
                        let text = text.trim().to_owned();
                        self.apply(Given { key, found: name.clone(), spelling, text, origin: origin(name) });
                    }
                    Match::Unknown { durability: Some(meant), .. } => self.errors.push(ConfigError::Misspelt {
                        origin: origin(name),
                        found: name.clone(),
                        meant: meant.name,
                    }),
                    Match::Unknown { near: Some(near), .. } => {
                        self.notices.push(Notice::EnvUnknown { origin: origin(name), near: near.name });
                    }
                    // These prefixes are also used for what is no configuration, such as ROCKETMQ_HOME.
                    Match::Unknown { near: None, .. } => {}
                }
            }
        }
    }

    fn flag(&mut self, flag: &Flag) {
        let origin = Origin::Flag(flag.flag.clone());
        match key::find(self.program, &flag.key) {
            Match::Key(key, spelling) => {
                let text = flag.value.trim().to_owned();
                self.apply(Given { key, found: flag.key.clone(), spelling, text, origin });
            }
            Match::Unknown { durability: Some(meant), .. } => {
                self.errors.push(ConfigError::Misspelt { origin, found: flag.key.clone(), meant: meant.name });
            }
            Match::Unknown { near, .. } => {
                let near = near.map(|key| key.name);
                self.errors.push(ConfigError::UnknownFlag { origin, found: flag.key.clone(), near });
            }
        }
    }

    fn apply(&mut self, given: Given) {
        let Given { key, text, origin, .. } = given;
        let (cleaned, changes) = value::clean(key.kind, &text);
        match key.class {
            Class::Honoured => {}
            Class::UnderRoot(_) => {
                let why = String::new();
                self.replace_idle(Idle { name: key.name.to_owned(), text: cleaned, origin, key: Some(key), why });
                return;
            }
            Class::NoOp(why) => return self.idle(key, cleaned, origin, why.to_owned()),
            Class::NotBuilt(what) => return self.idle(key, cleaned, origin, format!("not built yet: {what}")),
        }
        let changed = |change| Notice::Changed { origin: origin.clone(), key: key.name, change };
        self.notices.extend(changes.into_iter().map(changed));
        match value::parse(key.kind, &cleaned) {
            Ok((value, change)) => {
                self.notices.extend(change.map(|change| Notice::Changed {
                    origin: origin.clone(),
                    key: key.name,
                    change,
                }));
                self.set(key, value, cleaned, origin);
            }
            Err(Fault::Empty) if !key.durability => {
                self.notices.push(Notice::Empty { origin, key: key.name, default: key.default });
            }
            Err(fault) => self.bad_value(key, cleaned, origin, fault),
        }
    }

    fn bad_value(&mut self, key: &'static Key, text: String, origin: Origin, fault: Fault) {
        let takes = value::takes(key.kind);
        self.errors.push(ConfigError::Value { origin, key: key.name, text, fault, takes, default: key.default });
    }

    fn set(&mut self, key: &'static Key, value: Value, text: String, origin: Origin) {
        let Some(setting) = self.values.get_mut(key.name) else { return };
        let before = (std::mem::replace(&mut setting.origin, origin), std::mem::replace(&mut setting.text, text));
        setting.value = Some(value);
        if let (Origin::Env(name), (file @ Origin::File { .. }, dropped)) = (&setting.origin, &before)
            && name == NAMESRV_ADDR_ENV
            && setting.text != *dropped
        {
            self.notices.push(Notice::NamesrvOverride {
                origin: setting.origin.clone(),
                used: setting.text.clone(),
                dropped: dropped.clone(),
                file: file.clone(),
            });
        }
        setting.overridden.push(before);
    }

    /// A feature that is off in RocketMQ is off here as well, so a file that switches it off has its way.
    fn idle(&mut self, key: &'static Key, text: String, origin: Origin, why: String) {
        if key.durability
            && let Err(fault) = value::parse(key.kind, &text)
        {
            return self.bad_value(key, text, origin, fault);
        }
        self.idle.retain(|idle| idle.name != key.name);
        let off = key.kind == Kind::Bool && key.default == "false" && text.eq_ignore_ascii_case("false");
        if !off {
            self.idle.push(Idle { name: key.name.to_owned(), text, origin, key: Some(key), why });
        }
    }

    fn replace_idle(&mut self, next: Idle) {
        self.idle.retain(|idle| idle.name != next.name);
        self.idle.push(next);
    }

    fn finish(mut self) -> Result<Settings, ConfigErrors> {
        if !self.errors.is_empty() {
            return Err(ConfigErrors(self.errors));
        }
        self.resolve_folders();
        self.warn_unreplicated();
        self.warn_small_messages();
        Ok(Settings {
            program: self.program,
            values: self.values,
            idle: self.idle,
            notices: self.notices,
            sources: None,
        })
    }

    /// A folder of the store is in force if it is the one that is used anyway.
    fn resolve_folders(&mut self) {
        let root =
            self.values.get("storePathRootDir").filter(|root| root.value.is_some()).map(|root| root.text.clone());
        self.idle.retain_mut(|idle| {
            let Some(Class::UnderRoot(folder)) = idle.key.map(|key| key.class) else { return true };
            let used = root.as_deref().map(|root| Path::new(root).join(folder));
            idle.why = match &used {
                Some(used) => format!("not built yet: another place than {}", used.display()),
                None => format!("not built yet: another place than `{folder}` below storePathRootDir"),
            };
            used.is_none_or(|used| used != Path::new(&idle.text))
        });
    }

    fn warn_unreplicated(&mut self) {
        let Some(role) = self.values.get("brokerRole").filter(|role| role.text.eq_ignore_ascii_case("SYNC_MASTER"))
        else {
            return;
        };
        let why = "replication is not built yet: nothing is copied to a slave, and a sender is answered when this \
                   broker alone has its message"
            .to_owned();
        let (text, origin) = (role.text.clone(), role.origin.clone());
        self.idle.push(Idle { name: role.key.name.to_owned(), text, origin, key: Some(role.key), why });
    }

    fn warn_small_messages(&mut self) {
        if let Some(Setting { value: Some(Value::Int(bytes)), origin, .. }) = self.values.get("maxMessageSize")
            && *bytes < 4 << 20
        {
            self.notices.push(Notice::SmallMessages { bytes: *bytes, origin: origin.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
