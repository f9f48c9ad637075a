//! A server that only answers: it stores nothing and acknowledges every send with the next offset of its queue. What
//! the generator reaches against it is the generator's own ceiling, and its latency is that of the machine.
//!
//! One thread. Usage: `echo [PORT] [CPU]`.

use std::collections::HashMap;
use std::env;
use std::io::{self, Read, Write};

use anyhow::Context as _;
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::{Command, FLAG_RESPONSE};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};

const LISTENER: Token = Token(0);
const QUEUES_MAX: usize = 1024;

struct Client {
    stream: TcpStream,
    held: Vec<u8>,
    pending: Vec<u8>,
    written: usize,
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(10911), |port| port.parse()).context("the port")?;
    if let Some(cpu) = args.next() {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu.parse().context("the CPU")? });
    }
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients: HashMap<usize, Client> = HashMap::new();
    let mut next = 1;
    let mut events = Events::with_capacity(1024);
    let mut input = vec![0; 1 << 20];
    let mut offsets = vec![0u64; QUEUES_MAX];
    loop {
        if let Err(e) = poll.poll(&mut events, None)
            && e.kind() != io::ErrorKind::Interrupted
        {
            return Err(e.into());
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(next), interest)?;
                    let client = Client { stream, held: Vec::new(), pending: Vec::new(), written: 0 };
                    clients.insert(next, client);
                    next += 1;
                }
                continue;
            }
            let Some(client) = clients.get_mut(&event.token().0) else { continue };
            if client.serve(&mut input, &mut offsets).is_err() {
                clients.remove(&event.token().0);
            }
        }
    }
}

impl Client {
    fn serve(&mut self, input: &mut [u8], offsets: &mut [u64]) -> io::Result<()> {
        loop {
            let held = self.held.len();
            let taken = match self.stream.read(&mut input[held..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            };
            input[..held].copy_from_slice(&self.held);
            let filled = held + taken;
            let used = answer_all(&input[..filled], offsets, &mut self.pending)?;
            self.held.clear();
            self.held.extend_from_slice(&input[used..filled]);
            if filled < input.len() {
                break;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.pending.len() {
            match self.stream.write(&self.pending[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        self.pending.clear();
        self.written = 0;
        Ok(())
    }
}

fn answer_all(input: &[u8], offsets: &mut [u64], out: &mut Vec<u8>) -> io::Result<usize> {
    let mut used = 0;
    while let Some(prefix) = input[used..].first_chunk::<PREFIX_LEN>() {
        let head = FrameHead::parse(prefix).map_err(io::Error::other)?;
        let Some(frame) = input.get(used..used + head.frame_len()) else { break };
        let header = &frame[PREFIX_LEN..head.body_start()];
        let fast = if head.serialize == Serialize::Json { answer_send(header, offsets, out) } else { None };
        if fast.is_none() {
            answer_other(head.serialize, header, offsets, out)?;
        }
        used += head.frame_len();
    }
    Ok(used)
}

/// A V2 send with a JSON header, without decoding it.
fn answer_send(header: &[u8], offsets: &mut [u64], out: &mut Vec<u8>) -> Option<()> {
    memmem::find(header.get(..24)?, b"\"code\":310,")?;
    let opaque = digits(header, b"\"opaque\":")?;
    let queue: usize = digits(header, b"\"e\":\"")?.parse().ok()?;
    let offset = offsets.get_mut(queue)?;
    acknowledge(opaque, queue, offset, out).ok()
}

fn acknowledge(opaque: &str, queue: usize, offset: &mut u64, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    write!(
        out,
        "{{\"code\":0,\"extFields\":{{\"queueId\":\"{queue}\",\"TRACE_ON\":\"true\",\"MSG_REGION\":\"DefaultRegion\",\
         \"msgId\":\"7F00000100002A9F0000000000000000\",\"queueOffset\":\"{offset}\"}},\"flag\":1,\
         \"language\":\"JAVA\",\"opaque\":{opaque},\"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}}"
    )?;
    *offset += 1;
    let header_len = (out.len() - start - PREFIX_LEN) as u32;
    out[start..start + 4].copy_from_slice(&(header_len + 4).to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&header_len.to_be_bytes());
    Ok(())
}

fn digits<'a>(header: &'a [u8], before: &[u8]) -> Option<&'a str> {
    let rest = &header[memmem::find(header, before)? + before.len()..];
    let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..len]).ok().filter(|text| !text.is_empty())
}

fn answer_other(serialize: Serialize, header: &[u8], offsets: &mut [u64], out: &mut Vec<u8>) -> io::Result<()> {
    let request = Command::decode(serialize, header).map_err(io::Error::other)?;
    let queue = |name| request.ext(name).and_then(|queue| queue.parse::<usize>().ok()).unwrap_or(0) % QUEUES_MAX;
    let mut body = Vec::new();
    let mut reply = Command::request(0, request.opaque);
    reply.flag = FLAG_RESPONSE;
    match RequestCode(request.code) {
        RequestCode::SEND_MESSAGE_V2 => {
            let queue = queue("e");
            return acknowledge(&request.opaque.to_string(), queue, &mut offsets[queue], out);
        }
        RequestCode::GET_MAX_OFFSET => reply.ext.push(("offset".into(), offsets[queue("queueId")].to_string())),
        RequestCode::GET_MIN_OFFSET => reply.ext.push(("offset".into(), "0".into())),
        RequestCode::GET_TOPIC_CONFIG => {
            let topic = request.ext("topic").unwrap_or_default();
            write!(
                body,
                "{{\"attributes\":{{}},\"order\":false,\"perm\":6,\"readQueueNums\":{QUEUES_MAX},\
                 \"topicFilterType\":\"SINGLE_TAG\",\"topicName\":\"{topic}\",\"topicSysFlag\":0,\
                 \"writeQueueNums\":{QUEUES_MAX}}}"
            )?;
        }
        RequestCode::UPDATE_AND_CREATE_TOPIC => {}
        _ => reply.code = 3,
    }
    reply.encode_frame(Serialize::Json, &body, out).map_err(io::Error::other)
}
