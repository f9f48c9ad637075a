//! What the messages of a load look like: how long their bodies are and what is in them. Bodies are made once, before
//! the run, in an order that the seed decides; a load thread only copies them and patches the places that differ.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use ringmq_protocol::batch::{BatchMessage, push_message};
use ringmq_protocol::compress::deflate;
use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::wire::{Properties, Stamp};

/// The longest body that is asked for; RocketMQ's own limit for a message.
const SIZE_MAX: u32 = 4 * 1024 * 1024;
/// A range of sizes is drawn from so many that lie evenly in it.
const SIZES_OF_RANGE: u32 = 64;
/// After so many requests the order of bodies begins again.
const ORDER_LEN: usize = 4096;
/// A batch of mixed sizes is one of so many.
const BATCHES: usize = 16;
/// The level that Java's clients compress with.
const ZLIB_LEVEL: u32 = 5;

/// Lengths of bodies in bytes: one, a range in which all are as likely, or several with weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sizes {
    One(u32),
    Range(u32, u32),
    Weighted(Vec<(u32, u32)>),
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes::One(1024)
    }
}

impl FromStr for Sizes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Sizes> {
        let number = |text: &str| text.trim().parse::<u32>();
        let sizes = if let Some((from, to)) = text.split_once("..") {
            number(from).and_then(|from| Ok(Sizes::Range(from, number(to)?)))
        } else if text.contains(':') {
            let pair = |one: &str| {
                let (size, weight) = one.split_once(':').unwrap_or((one, ""));
                Ok((number(size)?, number(weight)?))
            };
            text.split(',').map(pair).collect::<Result<_, _>>().map(Sizes::Weighted)
        } else {
            number(text).map(Sizes::One)
        };
        let sizes = sizes.with_context(|| format!("{text} is no size: 1024, 512..4096 or 256:50,1024:40,65536:10"))?;
        let (from, to) = sizes.bounds();
        ensure!(from >= 1 && to <= SIZE_MAX && from <= to, "{text}: sizes go from 1 to {SIZE_MAX} bytes");
        if let Sizes::Weighted(weights) = &sizes {
            ensure!(weights.iter().any(|(_, weight)| *weight > 0), "{text}: one weight at least is above zero");
        }
        Ok(sizes)
    }
}

impl TryFrom<String> for Sizes {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Sizes> {
        text.parse()
    }
}

impl From<Sizes> for String {
    fn from(sizes: Sizes) -> String {
        sizes.to_string()
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::One(size) => write!(f, "{size}"),
            Sizes::Range(from, to) => write!(f, "{from}..{to}"),
            Sizes::Weighted(weights) => {
                let pairs: Vec<String> = weights.iter().map(|(size, weight)| format!("{size}:{weight}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

impl Sizes {
    /// The smallest and the largest.
    pub(crate) fn bounds(&self) -> (u32, u32) {
        match self {
            Sizes::One(size) => (*size, *size),
            Sizes::Range(from, to) => (*from, *to),
            Sizes::Weighted(weights) => {
                let sizes = || weights.iter().map(|(size, _)| *size);
                (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0))
            }
        }
    }

    /// Sizes with the share that each has of the messages.
    fn weights(&self) -> Vec<(u32, u64)> {
        match self {
            Sizes::One(size) => vec![(*size, 1)],
            Sizes::Range(from, to) => {
                let steps = SIZES_OF_RANGE.min(to - from + 1).max(2) - 1;
                let at = |step: u32| from + (u64::from(to - from) * u64::from(step) / u64::from(steps)) as u32;
                let mut sizes: Vec<u32> = (0..=steps).map(at).collect();
                sizes.dedup();
                sizes.into_iter().map(|size| (size, 1)).collect()
            }
            Sizes::Weighted(weights) => weights.iter().map(|(size, weight)| (*size, u64::from(*weight))).collect(),
        }
    }
}

/// How bodies are made.
#[derive(Debug)]
pub(crate) struct BodyShape<'a> {
    pub(crate) sizes: &'a Sizes,
    /// Every body is this, whatever `sizes` says.
    pub(crate) payload: Option<&'a [u8]>,
    /// Messages of one request; above 1 it is a batch.
    pub(crate) batch: u32,
    /// The properties of each message of a batch; without a batch they stand in the request's header.
    pub(crate) properties: &'a Properties,
    pub(crate) compress: bool,
    /// The bodies begin with a stamp.
    pub(crate) stamped: bool,
    pub(crate) seed: u64,
}

/// The places of a message inside of a request's body that change from one request to the next.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct InBody {
    /// Where the message's properties begin, in a batch.
    pub(crate) properties: Option<usize>,
    pub(crate) stamp: Option<usize>,
}

/// One request's body.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) places: Vec<InBody>,
    /// Messages, and the bytes of their bodies as they are stored.
    pub(crate) messages: u32,
    pub(crate) stored: u32,
}

/// All bodies of a run, shared by its threads.
#[derive(Debug)]
pub(crate) struct Bodies {
    all: Vec<Body>,
    order: Vec<u16>,
}

impl Bodies {
    pub(crate) fn new(shape: &BodyShape<'_>) -> anyhow::Result<Bodies> {
        let mut random = Random::new(shape.seed, u64::MAX);
        if let Some(payload) = shape.payload {
            return Ok(Bodies { all: vec![body(shape, &vec![payload; shape.batch as usize])?], order: vec![0] });
        }
        let weights = shape.sizes.weights();
        let content = content(shape.sizes.bounds().1, shape.compress, &mut random);
        let piece = |place: usize| &content[..weights[place].0 as usize];
        let all: Vec<Body> = if shape.batch <= 1 {
            (0..weights.len()).map(|place| body(shape, &[piece(place)])).collect::<anyhow::Result<_>>()?
        } else {
            let distinct = if weights.len() == 1 { 1 } else { BATCHES };
            let mut draw = || piece(usize::from(draw(&weights, &mut random)));
            let batches: Vec<Vec<&[u8]>> = (0..distinct).map(|_| (0..shape.batch).map(|_| draw()).collect()).collect();
            batches.iter().map(|batch| body(shape, batch)).collect::<anyhow::Result<_>>()?
        };
        let order = match (all.len(), shape.batch > 1) {
            (1, _) => vec![0],
            // The draw was made when the batches were put together.
            (count, true) => (0..count as u16).collect(),
            (_, false) => (0..ORDER_LEN).map(|_| draw(&weights, &mut random)).collect(),
        };
        Ok(Bodies { all, order })
    }

    /// Of requests that have none.
    pub(crate) fn none() -> Bodies {
        let body = Body { bytes: Vec::new(), places: Vec::new(), messages: 1, stored: 0 };
        Bodies { all: vec![body], order: vec![0] }
    }

    /// The body of the `n`th request of a thread.
    pub(crate) fn get(&self, n: u64) -> &Body {
        // A single body is the plain case; it is not looked up.
        let place = if self.order.len() == 1 { 0 } else { self.order[n as usize % self.order.len()] };
        &self.all[usize::from(place)]
    }

    /// Bytes of bodies that a request stores on average.
    pub(crate) fn mean_stored(&self) -> f64 {
        let all: u64 = self.order.iter().map(|place| u64::from(self.all[usize::from(*place)].stored)).sum();
        all as f64 / self.order.len() as f64
    }

    pub(crate) fn longest(&self) -> usize {
        self.all.iter().map(|body| body.bytes.len()).max().unwrap_or(0)
    }
}

/// One of the sizes, by its place.
fn draw(weights: &[(u32, u64)], random: &mut Random) -> u16 {
    let all: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut at = random.below(all);
    for (place, (_, weight)) in weights.iter().enumerate() {
        if at < *weight {
            return place as u16;
        }
        at -= weight;
    }
    0
}

/// Bytes that no compressing layer can shorten; for compressed bodies such that lose about half of their length.
fn content(len: u32, compressible: bool, random: &mut Random) -> Vec<u8> {
    const LETTERS: &[u8; 16] = b"etaoinshrdlucmfw";
    let mut byte = || {
        let byte = (random.next() >> 32) as u8;
        if compressible { LETTERS[usize::from(byte & 15)] } else { byte }
    };
    (0..len).map(|_| byte()).collect()
}

fn body(shape: &BodyShape<'_>, pieces: &[&[u8]]) -> anyhow::Result<Body> {
    let mut body = Body { bytes: Vec::new(), places: Vec::new(), messages: pieces.len() as u32, stored: 0 };
    for piece in pieces {
        let packed;
        let piece = if shape.compress {
            packed = deflate(piece, ZLIB_LEVEL)?;
            &packed
        } else {
            *piece
        };
        ensure!(!shape.stamped || piece.len() >= Stamp::LEN, "a body of {} bytes has no room for a stamp", piece.len());
        let at = body.bytes.len();
        let mut places = InBody::default();
        if shape.batch > 1 {
            let properties = shape.properties.text();
            push_message(&mut body.bytes, &BatchMessage { flag: 0, body: piece, properties })?;
            // Lengths, magic, checksum and flag, then the body's length.
            places.stamp = shape.stamped.then_some(at + 20);
            places.properties = Some(body.bytes.len() - properties.len());
        } else {
            body.bytes.extend_from_slice(piece);
            places.stamp = shape.stamped.then_some(at);
        }
        body.stored += u32::try_from(piece.len())?;
        if places.stamp.is_some() || places.properties.is_some() {
            body.places.push(places);
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use ringmq_protocol::batch::BatchReader;
    use ringmq_protocol::compress::inflate;

    use super::*;
    use crate::wire::PropertiesShape;

    fn java() -> Properties {
        Properties::new(&PropertiesShape { java: true, keys: false, due: false, more: &[] })
    }

    fn shape<'a>(sizes: &'a Sizes, properties: &'a Properties) -> BodyShape<'a> {
        BodyShape { sizes, payload: None, batch: 1, properties, compress: false, stamped: false, seed: 1 }
    }

    #[test]
    fn sizes_are_read_and_written_alike() {
        for text in ["1024", "512..4096", "256:50,1024:40,65536:10"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        for wrong in ["", "0", "a", "9..5", "5..", "1:2,3", "100:0", "5000000", "-1"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_come_as_often_as_their_weights_say() {
        let (sizes, none) = ("100:3,200:1".parse().unwrap(), Properties::default());
        let bodies = Bodies::new(&shape(&sizes, &none)).unwrap();
        let short = (0..ORDER_LEN as u64).filter(|n| bodies.get(*n).bytes.len() == 100).count();
        assert!((2_900..3_250).contains(&short), "{short}");
        let sizes = "10..20".parse().unwrap();
        let bodies = Bodies::new(&shape(&sizes, &none)).unwrap();
        let mut seen: Vec<u32> = (0..ORDER_LEN as u64).map(|n| bodies.get(n).stored).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (10..=20).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_is_one_that_a_broker_can_read_and_its_places_are_where_they_say() {
        let (sizes, properties) = ("40..90".parse().unwrap(), java());
        let shape = BodyShape { batch: 5, stamped: true, ..shape(&sizes, &properties) };
        let bodies = Bodies::new(&shape).unwrap();
        for n in 0..BATCHES as u64 {
            let body = bodies.get(n);
            let read: Vec<_> = BatchReader::new(&body.bytes, 9).map(Result::unwrap).collect();
            assert_eq!((read.len(), body.messages, body.places.len()), (5, 5, 5));
            assert_eq!(read.iter().map(|one| one.body.len() as u32).sum::<u32>(), body.stored);
            for (message, places) in read.iter().zip(&body.places) {
                assert_eq!(&body.bytes[places.stamp.unwrap()..][..message.body.len()], message.body);
                let at = places.properties.unwrap();
                assert_eq!(&body.bytes[at..at + message.properties.len()], message.properties.as_bytes());
            }
        }
        let lens = |n| bodies.get(n).stored;
        assert!((1..BATCHES as u64).any(|n| lens(n) != lens(0)));
    }

    #[test]
    fn a_compressed_body_is_shorter_and_comes_back() {
        let (sizes, none) = (Sizes::One(4096), Properties::default());
        let bodies = Bodies::new(&BodyShape { compress: true, ..shape(&sizes, &none) }).unwrap();
        let body = bodies.get(0);
        assert!((1_000..3_500).contains(&body.bytes.len()), "{}", body.bytes.len());
        assert_eq!(inflate(&body.bytes, 5000).unwrap().len(), 4096);
        assert!(Bodies::new(&BodyShape { stamped: true, ..shape(&Sizes::One(15), &none) }).is_err());
    }
}
