//! How a broker uses the disk below its store: as the configuration says, as `ringmq iotune` found best, or as the disk's
//! own attributes suggest, in this order.

use std::path::Path;

use jiff::Timestamp;
use ringmq_engine::{ShardOptions, limits};
use ringmq_rt::CommitMethod;

use crate::config::notice::Origin;
use crate::iotune::file::{self, Document, Unusable};
use crate::run::place;

/// Who chose the way of making a batch durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// The key `commitMethod`.
    Key(Origin),
    /// A measurement of that time.
    Measured(Timestamp),
    /// The attributes `write_cache` and `fua` of the disk.
    Attributes,
}

impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Chosen::Key(origin) => write!(f, "commitMethod, {origin}"),
            Chosen::Measured(at) => write!(f, "iotune of {}", at.strftime("%Y-%m-%d")),
            Chosen::Attributes => f.write_str("the disk's write_cache and fua; not measured, see ringmq iotune"),
        }
    }
}

/// Takes over what `forced` or the measurement in `store` says. A measurement that cannot be used is one warning.
pub(crate) fn choose(
    forced: Option<(CommitMethod, Origin)>,
    store: &Path,
    cores: &[usize],
    options: &mut ShardOptions,
) -> Chosen {
    let found = file::load(store, cores);
    if let Err(why) = &found {
        let (path, cores) = (store.join(file::NAME), place::ranges(cores));
        let again = format!("ringmq iotune --cpus {cores} {}", store.display());
        tracing::warn!("{} is not used: {why}; stop the broker and measure again: {again}", path.display());
    }
    apply(forced, found, options)
}

fn apply(
    forced: Option<(CommitMethod, Origin)>,
    found: Result<Option<Document>, Unusable>,
    options: &mut ShardOptions,
) -> Chosen {
    let measured = found.ok().flatten();
    if let Some(measured) = &measured {
        let blocks = measured.chosen.read_ahead().div_ceil(limits::COLD_BLOCK);
        options.read_ahead = usize::try_from(blocks).unwrap_or(usize::MAX).max(1);
    }
    let (method, who) = match (forced, measured) {
        (Some((method, origin)), _) => (Some(method), Chosen::Key(origin)),
        (None, Some(measured)) => (Some(measured.chosen.commit_method), Chosen::Measured(measured.measured_at)),
        (None, None) => (None, Chosen::Attributes),
    };
    options.commit_method = method;
    who
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iotune::file::tests::document;

    #[test]
    fn the_key_stands_above_the_measurement_and_that_above_the_attributes() {
        let measured = document(Path::new("/"), CommitMethod::RingDsync);
        let at = measured.measured_at;
        let key = (CommitMethod::Thread, Origin::Flag("--x".to_owned()));
        let applied = |forced: Option<(CommitMethod, Origin)>, found| {
            let mut options = ShardOptions::default();
            let who = apply(forced, found, &mut options);
            (who, options.commit_method, options.read_ahead)
        };
        let by_key = Chosen::Key(key.1.clone());
        assert_eq!(applied(None, Ok(None)), (Chosen::Attributes, None, limits::READ_AHEAD));
        assert_eq!(applied(None, Err(Unusable::Long)), (Chosen::Attributes, None, limits::READ_AHEAD));
        let used = (Chosen::Measured(at), Some(CommitMethod::RingDsync), 2);
        assert_eq!(applied(None, Ok(Some(measured.clone()))), used);
        let forced = (by_key.clone(), Some(CommitMethod::Thread), 2);
        assert_eq!(applied(Some(key.clone()), Ok(Some(measured))), forced);
        assert_eq!(applied(Some(key), Ok(None)), (by_key, Some(CommitMethod::Thread), limits::READ_AHEAD));
    }

    #[test]
    fn who_chose_is_said() {
        let at: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        assert_eq!(Chosen::Measured(at).to_string(), "iotune of 2026-03-04");
        let line = Origin::File { name: "broker.conf".to_owned(), line: 3 };
        assert_eq!(Chosen::Key(line).to_string(), "commitMethod, broker.conf:3");
    }
}
