//! Histograms as text: in HdrHistogram's own compressed form (V2, deflated, base64), which its tools in every language
//! read, and as the points of a percentile plot.

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use hdrhistogram::{Counter, Histogram};

/// Points of a plot for each halving of what is above.
const TICKS_PER_HALF: u32 = 5;

pub(crate) fn encode<T: Counter>(histogram: &Histogram<T>) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).context("a histogram cannot be encoded")?;
    Ok(BASE64_STANDARD.encode(bytes))
}

pub(crate) fn decode(text: &str) -> anyhow::Result<Histogram<u64>> {
    let bytes = BASE64_STANDARD.decode(text).context("it is not base64")?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|e| anyhow::anyhow!("it is no histogram: {e:?}"))
}

/// Quantile and microseconds, closer together towards the end, up to the largest value. A quantile that fewer than one
/// value lies above is not made up.
pub(crate) fn curve<T: Counter>(histogram: &Histogram<T>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        let (quantile, us) = (step.quantile_iterated_to(), step.value_iterated_to() as f64 / 1e3);
        if quantile < 1.0 && points.last().is_none_or(|last| last.0 < quantile) {
            points.push((quantile, us));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_as_text() {
        let mut histogram: Histogram<u32> = Histogram::new(3).unwrap();
        (1..=10_000u64).for_each(|i| histogram.record(i * 1_000).unwrap());
        let back = decode(&encode(&histogram).unwrap()).unwrap();
        assert_eq!(back.len(), 10_000);
        assert_eq!(back.value_at_quantile(0.99), histogram.value_at_quantile(0.99));
        assert!(decode("!").is_err() && decode("AAAA").is_err());
    }

    #[test]
    fn a_curve_rises_and_ends_at_what_was_seen() {
        let mut histogram: Histogram<u64> = Histogram::new(3).unwrap();
        (1..=1_000u64).for_each(|i| histogram.record(i * 1_000).unwrap());
        let curve = curve(&histogram);
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{curve:?}");
        let (quantile, us) = *curve.last().unwrap();
        assert!((0.998..1.0).contains(&quantile) && (999.0..1_002.0).contains(&us), "{quantile} {us}");
        assert!(super::curve(&Histogram::<u64>::new(3).unwrap()).is_empty());
    }
}
