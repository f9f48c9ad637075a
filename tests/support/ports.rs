//! Ports that nobody else on this machine uses: blocks of four, below the range the kernel gives to clients.
//!
//! A broker listens on its port, two below it (the VIP port) and one above (replication), so ports come in blocks.
//! Every port has five digits: the recorder exchanges one for another inside a reply without changing its length.

use std::net::TcpListener;
use std::sync::Mutex;

const FIRST: u16 = 12_000;
const LAST: u16 = 31_000;
const BLOCK: u16 = 4;

static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// The main port of a free block: it, the two below and the one above can be bound.
pub(crate) fn free() -> u16 {
    let mut next = NEXT.lock().unwrap();
    let blocks = (LAST - FIRST) / BLOCK;
    // Test processes run side by side: each begins its search somewhere else.
    let begin = u16::try_from(std::process::id().wrapping_mul(61) % u32::from(blocks)).unwrap();
    let mut block = next.unwrap_or(begin);
    for _ in 0..blocks {
        let low = FIRST + block * BLOCK;
        block = (block + 1) % blocks;
        let free = (low..low + BLOCK).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok());
        if free {
            *next = Some(block);
            return low + 2;
        }
    }
    panic!("no four free ports in a row between {FIRST} and {LAST}");
}
