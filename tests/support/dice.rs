//! Numbers that a printed seed brings back.

use std::time::{SystemTime, UNIX_EPOCH};

/// Xorshift; good enough to choose a time or a victim.
pub(crate) struct Dice(u64);

impl Dice {
    /// From the seed in an environment variable, or from the time. The seed is printed in the form in which it is set.
    pub(crate) fn from_variable(variable: &str) -> Dice {
        let seed = std::env::var(variable).map_or_else(
            |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
            |text| text.parse().unwrap_or_else(|e| panic!("{variable}={text} is no number: {e}")),
        );
        println!("{variable}={seed}");
        Dice::seeded(seed)
    }

    pub(crate) fn seeded(seed: u64) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // The first numbers of seeds that are close to each other are close as well.
        for _ in 0..8 {
            dice.below(u64::MAX);
        }
        dice
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
