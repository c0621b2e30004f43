//! The HTTP state machine against a server that answers as the bytes say.

use std::cell::RefCell;
use std::rc::Rc;

use arbitrary::{Result, Unstructured};
use emberglass::weights::{ByteSource, Failure, Head, Limits, LocalFuture, StreamSource, Transport};

use super::{Target, allowed};

pub const TARGET: Target =
    Target { name: "http", about: "range reads from a server that lies", run, seeds, words: &[] };

/// Bytes of the file.
const SIZE: usize = 3000;
/// Requests that one read may make. The source gives up long before.
const MOST_REQUESTS: usize = 200;

fn byte(at: usize) -> u8 {
    (at * 7 + at / 251) as u8
}

/// What the server does, taken from the input as it goes.
struct Server {
    script: Vec<u8>,
    at: usize,
    /// Once it lied about the bytes themselves, what was read need not be the file.
    lied: bool,
    requests: usize,
}

impl Server {
    /// The next choice below `end`; a good server once the input is used up.
    fn choose(&mut self, end: u8) -> u8 {
        self.at += 1;
        self.script.get(self.at - 1).map_or(0, |byte| byte % end)
    }
}

struct Connection {
    server: Rc<RefCell<Server>>,
    body: Vec<u8>,
    breaks: bool,
    chunk: Vec<u8>,
}

impl Transport for Connection {
    fn open(&mut self, offset: u64, _limit_ms: u32) -> LocalFuture<'_, std::result::Result<Head, Failure>> {
        Box::pin(async move {
            let mut server = self.server.borrow_mut();
            server.requests += 1;
            assert!(server.requests < MOST_REQUESTS, "the source asks again and again");
            let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(SIZE);
            let (mut status, mut start, mut total) = (206, offset, SIZE.to_string());
            match server.choose(15) {
                7 => return Err(Failure::Stalled),
                8 => return Err(Failure::Lost("refused".into())),
                9 => status = [404, 429, 500, 503][usize::from(server.choose(4))],
                10 => (status, start) = (200, 0),
                11 => start = offset.saturating_sub(usize::from(server.choose(100))),
                12 => start = (offset + usize::from(server.choose(100))).min(SIZE),
                13 => {
                    let totals = ["*", "0", "100", "18446744073709551616", "x"];
                    total = totals[usize::from(server.choose(5))].to_owned();
                }
                14 => return Err(Failure::Offline),
                _ => {}
            }
            if offset == SIZE && status == 206 {
                status = 416;
            }
            let length = match server.choose(3) {
                0 => SIZE,
                _ => usize::from(server.choose(255)) * 4,
            };
            let end = SIZE.min(start.saturating_add(length));
            self.breaks = server.choose(3) == 2;
            self.body = (start..end).map(byte).collect();
            // The header may announce another part than the one that comes.
            let said_end = if server.choose(10) == 9 { end / 2 } else { end };
            let content_range = match status {
                206 => Some(format!("bytes {start}-{}/{total}", said_end.saturating_sub(1))),
                416 => Some(format!("bytes */{total}")),
                _ => None,
            };
            if server.choose(40) == 39 {
                server.lied = true;
                self.body.extend([1; 50]);
            }
            let retry_after_s = [None, Some(0), Some(u32::MAX)][usize::from(server.choose(3))];
            Ok(Head { status, content_range, retry_after_s, ..Head::default() })
        })
    }

    fn next_chunk(&mut self, _limit_ms: u32) -> LocalFuture<'_, std::result::Result<Option<usize>, Failure>> {
        Box::pin(async move {
            if self.body.is_empty() {
                return if self.breaks { Err(Failure::Lost("reset".into())) } else { Ok(None) };
            }
            let length = 1 + usize::from(self.server.borrow_mut().choose(255)) * 3;
            self.chunk = self.body.drain(..length.min(self.body.len())).collect();
            Ok(Some(self.chunk.len()))
        })
    }

    fn copy(&self, from: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.chunk[from..from + to.len()]);
    }

    fn close(&mut self) {
        self.body.clear();
    }

    fn pause(&mut self, _ms: u32, _reason: &str) -> LocalFuture<'_, std::result::Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

fn read(u: &mut Unstructured, source: &mut StreamSource<Connection>, server: &RefCell<Server>) -> Result<()> {
    let mut at = 0usize;
    for _ in 0..u.int_in_range(1..=6)? {
        at = if u.arbitrary()? { u.int_in_range(0..=SIZE)? } else { at };
        let mut buf = vec![0; u.int_in_range(0..=900)?];
        server.borrow_mut().requests = 0;
        match pollster::block_on(source.read_at(at as u64, &mut buf)) {
            Err(error) => allowed(&error),
            Ok(()) if server.borrow().lied => {}
            Ok(()) => {
                assert!(buf.iter().zip(at..).all(|(&got, at)| got == byte(at)), "wrong bytes from {at}")
            }
        }
        at = (at + buf.len()).min(SIZE);
    }
    Ok(())
}

fn run(data: &[u8]) {
    let (plan, script) = data.split_at(data.len().min(24));
    let server = Rc::new(RefCell::new(Server { script: script.to_vec(), at: 0, lied: false, requests: 0 }));
    let connection =
        Connection { server: Rc::clone(&server), body: Vec::new(), breaks: false, chunk: Vec::new() };
    let mut source = StreamSource::over("fuzz", connection, Limits::default());
    let _ = read(&mut Unstructured::new(plan), &mut source, &server);
}

fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| (0..120u8).map(|j| i.wrapping_mul(19) ^ j.wrapping_mul(103)).collect()).collect()
}
