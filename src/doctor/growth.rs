//! How fast a store grows, from the times at which its segments were last written.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// Bytes a second over all shards; `None` for a store that is too young to say.
pub(super) fn of_store(store: &Path) -> Option<f64> {
    let shards = fs::read_dir(store.join("commitlog")).ok()?;
    let rates = shards.flatten().filter_map(|shard| rate(segments(&shard.path())));
    rates.reduce(|sum, rate| sum + rate)
}

/// A segment's first position, which is its name, and its time.
type Segment = (u64, SystemTime);

fn segments(shard: &Path) -> Vec<Segment> {
    let Ok(files) = fs::read_dir(shard) else { return Vec::new() };
    let segment = |file: fs::DirEntry| {
        let base = file.file_name().to_str()?.parse::<u64>().ok()?;
        Some((base, file.metadata().ok()?.modified().ok()?))
    };
    files.flatten().filter_map(segment).collect()
}

/// Bytes from the first segment to the one that is written, over the time between their last writes. The newest file is
/// only prepared for what comes.
fn rate(mut segments: Vec<Segment>) -> Option<f64> {
    segments.sort_unstable();
    segments.pop();
    let (first, last) = (segments.first()?, segments.last()?);
    let seconds = last.1.duration_since(first.1).ok()?.as_secs_f64();
    let bytes = last.0.checked_sub(first.0).filter(|bytes| *bytes > 0)?;
    // A store written at once has no rate that lasts.
    (seconds >= 1.0).then(|| bytes as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn growth_is_bytes_over_time() {
        let at = |base: u64, seconds: u64| (base << 30, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let rate = |segments: &[Segment]| super::rate(segments.to_vec());
        assert_eq!(rate(&[at(3, 301), at(0, 100), at(1, 200), at(2, 300)]), Some((2_u64 << 30) as f64 / 200.0));
        assert_eq!(rate(&[at(0, 100), at(1, 200)]), None, "one written segment says nothing");
        assert_eq!(rate(&[at(0, 100), at(1, 100), at(2, 100)]), None, "no time has passed");
        assert_eq!(rate(&[]), None);
    }
}
