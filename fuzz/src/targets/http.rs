//! The HTTP state machine against a server that answers as the bytes say.

use std::cell::RefCell;
use std::rc::Rc;

use arbitrary::{Result, Unstructured};
use emberglass::weights::{ByteSource, Failure, Head, LocalFuture, StreamSource, Transport};

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
    fn open(&mut self, offset: u64) -> LocalFuture<'_, std::result::Result<Head, Failure>> {
        Box::pin(async move {
            let mut server = self.server.borrow_mut();
            server.requests += 1;
            assert!(server.requests < MOST_REQUESTS, "the source asks again and again");
            let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(SIZE);
            let mut head =
                Head { status: 206, start: Some(offset as u64), total: Some(SIZE as u64), ..Head::default() };
            let mut start = offset;
            match server.choose(14) {
                8 => return Err(Failure::Connection("refused".into())),
                9 => head.status = [404, 429, 500, 503][usize::from(server.choose(4))],
                10 => {
                    (head.status, head.start) = (200, None);
                    start = 0;
                }
                11 => {
                    start = offset.saturating_sub(usize::from(server.choose(100)));
                    head.start = Some(start as u64);
                }
                12 => {
                    start = (offset + usize::from(server.choose(100))).min(SIZE);
                    head.start = Some(start as u64);
                }
                13 => {
                    head.start = None;
                    head.total = [None, Some(0), Some(100), Some(u64::MAX)][usize::from(server.choose(4))];
                }
                _ => {}
            }
            if offset == SIZE && head.status == 206 {
                head.status = 416;
            }
            let length = match server.choose(3) {
                0 => SIZE,
                _ => usize::from(server.choose(255)) * 4,
            };
            self.breaks = server.choose(3) == 2;
            self.body = (start..SIZE.min(start.saturating_add(length))).map(byte).collect();
            if server.choose(40) == 39 {
                server.lied = true;
                self.body.extend([1; 50]);
            }
            Ok(head)
        })
    }

    fn next_chunk(&mut self) -> LocalFuture<'_, std::result::Result<Option<usize>, Failure>> {
        Box::pin(async move {
            if self.body.is_empty() {
                return if self.breaks { Err(Failure::Connection("reset".into())) } else { Ok(None) };
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

    fn sleep(&mut self, _ms: u32) -> LocalFuture<'_, std::result::Result<(), Failure>> {
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
    let mut source = StreamSource::over("fuzz", connection);
    let _ = read(&mut Unstructured::new(plan), &mut source, &server);
}

fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| (0..120u8).map(|j| i.wrapping_mul(19) ^ j.wrapping_mul(103)).collect()).collect()
}
