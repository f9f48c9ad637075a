//! `messageDelayLevel`: the delays that a message can ask for by number.

use std::time::Duration;

/// RocketMQ's 18 levels.
pub const DEFAULT: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";

/// Most levels; each has queues of its own.
pub const LEVELS_MAX: usize = 128;

/// The longest delay of a level: 40 days.
pub const DELAY_MAX: Duration = Duration::from_secs(40 * 24 * 3600);

/// The delays, in order; level 1 is the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels(Vec<Duration>);

/// Why a text is no list of levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelsError {
    #[error("no delay level is named")]
    Empty,
    #[error("{0} delay levels: the most is {LEVELS_MAX}")]
    TooMany(usize),
    /// Not a whole number with a unit.
    #[error("delay level {0}: write a number and one of s, m, h, d, as in 30s")]
    Malformed(String),
    #[error("delay level {0} is longer than 40 days")]
    TooLong(String),
}

impl Levels {
    /// Reads levels that are separated by blanks.
    ///
    /// # Errors
    /// Which level cannot be read.
    pub fn parse(text: &str) -> Result<Self, LevelsError> {
        let levels = text.split_whitespace().map(delay).collect::<Result<Vec<_>, _>>()?;
        match levels.len() {
            0 => Err(LevelsError::Empty),
            many @ LEVELS_MAX.. if many > LEVELS_MAX => Err(LevelsError::TooMany(many)),
            _ => Ok(Self(levels)),
        }
    }

    /// How many there are, which is the highest.
    pub fn highest(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    /// The level that a message gets that asks for `asked`: none at zero and below, the highest above it.
    pub fn granted(&self, asked: i32) -> Option<i32> {
        (asked > 0).then(|| asked.min(self.highest()))
    }

    /// The delay of a level that was granted.
    pub fn delay(&self, level: i32) -> Duration {
        let at = usize::try_from(level.saturating_sub(1)).unwrap_or(0);
        self.0.get(at).or(self.0.last()).copied().unwrap_or_default()
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self::parse(DEFAULT).unwrap_or_else(|error| unreachable!("{error}"))
    }
}

fn delay(level: &str) -> Result<Duration, LevelsError> {
    let malformed = || LevelsError::Malformed(level.to_owned());
    let (number, unit) = level
        .split_at_checked(level.len() - level.chars().next_back().map_or(0, char::len_utf8))
        .ok_or_else(malformed)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(malformed()),
    };
    let number: u64 = number.parse().map_err(|_| malformed())?;
    let delay = number.checked_mul(seconds).map(Duration::from_secs);
    delay.filter(|delay| *delay <= DELAY_MAX).ok_or_else(|| LevelsError::TooLong(level.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_has_rocketmqs_levels() {
        let levels = Levels::default();
        assert_eq!(levels.highest(), 18);
        assert_eq!(levels.delay(1), Duration::from_secs(1));
        assert_eq!(levels.delay(3), Duration::from_secs(10));
        assert_eq!(levels.delay(18), Duration::from_secs(7200));
    }

    #[test]
    fn a_level_is_cut_to_the_highest_and_nothing_is_none() {
        let levels = Levels::parse("1s 1d").unwrap();
        assert_eq!(levels.granted(7), Some(2));
        assert_eq!(levels.granted(1), Some(1));
        assert_eq!(levels.granted(0), None);
        assert_eq!(levels.granted(-3), None);
        assert_eq!(levels.delay(2), Duration::from_secs(24 * 3600));
    }

    #[test]
    fn what_is_no_level_is_named() {
        assert_eq!(Levels::parse(" "), Err(LevelsError::Empty));
        for bad in ["5", "s", "5x", "-1s", "1.5s", "5 s", "5é"] {
            assert!(matches!(Levels::parse(bad), Err(LevelsError::Malformed(_))), "{bad}");
        }
        assert!(matches!(Levels::parse("41d"), Err(LevelsError::TooLong(_))));
        assert_eq!(Levels::parse(&"1s ".repeat(129)), Err(LevelsError::TooMany(129)));
    }
}
