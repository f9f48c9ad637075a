//! What a message says about its time.

use std::time::Duration;

use ringmq_protocol::properties;

/// A time that a message asks for, from the three properties of which the first that is there counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    pub delay_sec: Option<&'a str>,
    pub delay_ms: Option<&'a str>,
    pub deliver_ms: Option<&'a str>,
    /// It takes back the message with this unique key.
    pub recalls: Option<&'a str>,
}

/// Why a time is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("the time is no number")]
    NoNumber,
    #[error("the time is too far away")]
    TooFar,
    #[error("a message that is due already cannot be taken back")]
    Past,
}

impl<'a> Asked<'a> {
    /// Takes in a property.
    pub fn read(&mut self, name: &str, value: &'a str) {
        match name {
            properties::TIMER_DELAY_SEC => self.delay_sec = Some(value),
            properties::TIMER_DELAY_MS => self.delay_ms = Some(value),
            properties::TIMER_DELIVER_MS => self.deliver_ms = Some(value),
            properties::TIMER_DEL_UNIQKEY => self.recalls = Some(value),
            _ => {}
        }
    }

    /// Whether a time is asked for.
    pub fn is_some(&self) -> bool {
        self.delay_sec.is_some() || self.delay_ms.is_some() || self.deliver_ms.is_some()
    }

    /// How long the message is kept, in milliseconds; `None` for one that is due already.
    ///
    /// # Errors
    /// Why it is not.
    pub fn left_ms(&self, wall_ms: i64, max: Duration) -> Result<Option<u64>, TimeError> {
        let number = |text: &str| text.parse::<i64>().map_err(|_| TimeError::NoNumber);
        let left = match (self.delay_sec, self.delay_ms, self.deliver_ms) {
            (Some(seconds), _, _) => number(seconds)?.checked_mul(1000).ok_or(TimeError::TooFar)?,
            (_, Some(ms), _) => number(ms)?,
            (_, _, Some(at)) => number(at)?.saturating_sub(wall_ms),
            (None, None, None) => return Ok(None),
        };
        match u64::try_from(left) {
            Ok(left) if u128::from(left) > max.as_millis() => Err(TimeError::TooFar),
            Ok(left @ 1..) => Ok(Some(left)),
            _ if self.recalls.is_some() => Err(TimeError::Past),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(100);

    fn asked<'a>(name: &str, value: &'a str) -> Asked<'a> {
        let mut asked = Asked::default();
        asked.read(name, value);
        asked
    }

    #[test]
    fn each_property_has_its_unit() {
        assert_eq!(asked("TIMER_DELAY_SEC", "7").left_ms(1000, MAX), Ok(Some(7000)));
        assert_eq!(asked("TIMER_DELAY_MS", "7").left_ms(1000, MAX), Ok(Some(7)));
        assert_eq!(asked("TIMER_DELIVER_MS", "1007").left_ms(1000, MAX), Ok(Some(7)));
        assert_eq!(Asked::default().left_ms(1000, MAX), Ok(None));
    }

    #[test]
    fn what_is_due_already_is_not_kept() {
        for (name, value) in [("TIMER_DELAY_SEC", "0"), ("TIMER_DELAY_MS", "-5"), ("TIMER_DELIVER_MS", "1000")] {
            assert_eq!(asked(name, value).left_ms(1000, MAX), Ok(None), "{name}");
        }
        let mut recall = asked("TIMER_DELIVER_MS", "999");
        recall.read("TIMER_DEL_UNIQKEY", "x");
        assert_eq!(recall.left_ms(1000, MAX), Err(TimeError::Past));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert_eq!(asked("TIMER_DELAY_SEC", "soon").left_ms(0, MAX), Err(TimeError::NoNumber));
        assert_eq!(asked("TIMER_DELAY_SEC", "9999999999999999").left_ms(0, MAX), Err(TimeError::TooFar));
        assert_eq!(asked("TIMER_DELAY_SEC", "101").left_ms(0, MAX), Err(TimeError::TooFar));
        assert_eq!(asked("TIMER_DELAY_SEC", "100").left_ms(0, MAX), Ok(Some(100_000)));
    }
}
