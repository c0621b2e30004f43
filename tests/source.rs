//! The streaming source against a scripted server: sequential reads, jumps, servers without ranges,
//! broken connections, changed files. The browser's `fetch` behind it is tested in the page tests.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::rc::Rc;

use emberglass::error::{Error, Result};
use emberglass::weights::{ByteSource, Failure, Head, LocalFuture, StreamSource, Transport};

/// What the server did and what it will do.
#[derive(Default)]
struct Server {
    file: Vec<u8>,
    chunk: usize,
    /// Answers range requests with the whole file.
    ignores_ranges: bool,
    /// Says no sizes.
    unsized_: bool,
    /// For each coming request: `Err(status)` to refuse, `Ok(n)` to break after `n` bytes.
    script: Vec<Result<usize, u16>>,
    etags: Vec<&'static str>,
    log: Vec<String>,
    aborted: bool,
}

struct Mock {
    server: Rc<RefCell<Server>>,
    body: Vec<u8>,
    breaks: bool,
    chunk: Vec<u8>,
}

impl Transport for Mock {
    fn open(&mut self, offset: u64) -> LocalFuture<'_, Result<Head, Failure>> {
        Box::pin(async move {
            let mut server = self.server.borrow_mut();
            server.log.push(format!("GET {offset}"));
            if server.aborted {
                return Err(Failure::Aborted);
            }
            let step = match server.script.is_empty() {
                true => Ok(usize::MAX),
                false => server.script.remove(0),
            };
            let etag = match server.etags.is_empty() {
                true => None,
                false => Some(server.etags.remove(0).to_owned()),
            };
            let limit = match step {
                Ok(limit) => limit,
                Err(0) => return Err(Failure::Connection("unreachable".into())),
                Err(status) => {
                    return Ok(Head { status, ..Head::default() });
                }
            };
            let size = server.file.len();
            let total = (!server.unsized_).then_some(size as u64);
            if !server.ignores_ranges && offset as usize >= size {
                return Ok(Head { status: 416, total, ..Head::default() });
            }
            let start = if server.ignores_ranges { 0 } else { offset as usize };
            self.body = server.file[start..].to_vec();
            self.breaks = limit < self.body.len();
            self.body.truncate(limit);
            Ok(Head {
                status: if server.ignores_ranges { 200 } else { 206 },
                start: (!server.ignores_ranges && !server.unsized_).then_some(offset),
                total,
                etag,
                modified: None,
            })
        })
    }

    fn next_chunk(&mut self) -> LocalFuture<'_, Result<Option<usize>, Failure>> {
        Box::pin(async move {
            let server = self.server.borrow();
            if server.aborted {
                return Err(Failure::Aborted);
            }
            if self.body.is_empty() {
                return match self.breaks {
                    true => Err(Failure::Connection("connection reset".into())),
                    false => Ok(None),
                };
            }
            let length = server.chunk.min(self.body.len());
            self.chunk = self.body.drain(..length).collect();
            Ok(Some(length))
        })
    }

    fn copy(&self, from: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.chunk[from..from + to.len()]);
    }

    fn close(&mut self) {
        self.body.clear();
    }

    fn sleep(&mut self, ms: u32) -> LocalFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut server = self.server.borrow_mut();
            server.log.push(format!("sleep {ms}"));
            match server.aborted {
                true => Err(Failure::Aborted),
                false => Ok(()),
            }
        })
    }
}

const SIZE: usize = 5 << 20;

struct Fixture {
    server: Rc<RefCell<Server>>,
    source: StreamSource<Mock>,
}

/// A server with 5 MiB in chunks of 1000 bytes, changed by `set`.
fn fixture(set: impl FnOnce(&mut Server)) -> Fixture {
    let mut server = Server {
        file: (0..SIZE).map(|i| (i * 7 + (i >> 8)) as u8).collect(),
        chunk: 1000,
        ..Server::default()
    };
    set(&mut server);
    let server = Rc::new(RefCell::new(server));
    let mock = Mock { server: Rc::clone(&server), body: Vec::new(), breaks: false, chunk: Vec::new() };
    Fixture { source: StreamSource::over("https://x/m.gguf", mock), server }
}

impl Fixture {
    /// Reads and compares with the file; the error if there is one.
    fn read(&mut self, offset: usize, length: usize) -> Result<()> {
        let mut buf = vec![0xAA; length];
        pollster::block_on(self.source.read_at(offset as u64, &mut buf))?;
        assert!(buf == self.server.borrow().file[offset..offset + length], "wrong bytes");
        Ok(())
    }

    fn log(&self) -> String {
        self.server.borrow().log.join(", ")
    }
}

#[test]
fn sequential_reads_are_one_request() {
    let mut f = fixture(|_| ());
    assert_eq!(pollster::block_on(f.source.size()).unwrap(), Some(SIZE as u64));
    let mut at = 0;
    for length in [24, 65_536, 1, 300_000, 999, 1000, 1001] {
        f.read(at, length).unwrap();
        at += length;
    }
    f.read(at, SIZE - at).unwrap();
    assert_eq!(f.log(), "GET 0");
    assert_eq!(f.source.requests(), 1);
}

#[test]
fn what_a_header_read_too_far_is_read_again_without_a_request() {
    let mut f = fixture(|_| ());
    f.read(0, 65_536).unwrap();
    f.read(1_000, 200_000).unwrap();
    assert_eq!(f.log(), "GET 0");
}

#[test]
fn short_jumps_skip_and_long_ones_ask() {
    let mut f = fixture(|_| ());
    f.read(0, 10).unwrap();
    f.read(500_000, 10).unwrap();
    assert_eq!(f.log(), "GET 0");
    f.read(3 << 20, 10).unwrap();
    f.read(100, 10).unwrap();
    assert_eq!(f.log(), "GET 0, GET 3145728, GET 100");
}

#[test]
fn a_server_without_ranges_still_works() {
    let mut f = fixture(|server| server.ignores_ranges = true);
    f.read(0, 10).unwrap();
    f.read(4 << 20, 10).unwrap();
    assert_eq!(f.log(), "GET 0");
    f.read(2 << 20, 10).unwrap();
    assert_eq!(f.log(), "GET 0, GET 2097152");
    // Broken: starts over and skips.
    let mut f = fixture(|server| {
        server.ignores_ranges = true;
        server.script = vec![Ok(5_000)];
    });
    f.read(0, 20_000).unwrap();
    assert_eq!(f.log(), "GET 0, sleep 500, GET 5000");
}

#[test]
fn a_broken_connection_resumes_at_the_exact_byte() {
    let mut f = fixture(|server| {
        server.script = vec![Ok(12_345), Err(0), Err(503), Ok(55)];
        server.etags = vec!["a"; 9];
    });
    f.read(0, 12_400).unwrap();
    assert_eq!(f.log(), "GET 0, sleep 500, GET 12345, sleep 1000, GET 12345, sleep 2000, GET 12345");
    // The next read has attempts of its own.
    f.read(12_400, 100_000).unwrap();
    assert!(f.log().ends_with("GET 12345, sleep 500, GET 12400"), "{}", f.log());
}

#[test]
fn it_gives_up_after_three_retries() {
    let mut f = fixture(|server| server.script = vec![Ok(777), Err(0), Err(0), Err(0)]);
    let error = f.read(0, 2_000).unwrap_err();
    assert_eq!(
        error,
        Error::Network { url: "https://x/m.gguf".into(), offset: 777, reason: "unreachable".into() }
    );
    assert_eq!(f.log().matches("sleep").count(), 3);
    // And can be used again.
    f.read(0, 2_000).unwrap();
}

#[test]
fn http_errors() {
    let mut f = fixture(|server| server.script = vec![Err(404)]);
    let error = f.read(0, 10).unwrap_err();
    assert_eq!(error, Error::HttpStatus { url: "https://x/m.gguf".into(), status: 404 });
    assert_eq!(f.log(), "GET 0");
    let mut f = fixture(|server| server.script = vec![Err(503); 4]);
    assert_eq!(f.read(0, 10).unwrap_err().code(), "http-status");
    assert_eq!(f.source.requests(), 4);
}

#[test]
fn a_file_that_changed_is_not_spliced() {
    let mut f = fixture(|server| {
        server.script = vec![Ok(5_000)];
        server.etags = vec!["a", "b"];
    });
    let error = f.read(0, 10_000).unwrap_err();
    assert_eq!(error.code(), "network");
    assert!(error.to_string().contains("at byte 5000: the file changed on the server"), "{error}");

    let mut f = fixture(|server| server.script = vec![Ok(5_000)]);
    f.read(0, 4_000).unwrap();
    f.server.borrow_mut().file.push(0);
    let error = f.read(4_000, 10_000).unwrap_err();
    assert!(error.to_string().contains("the file changed"), "{error}");
}

#[test]
fn reading_past_the_end_is_truncated() {
    let truncated = |actual: usize, needed: usize| Error::Truncated {
        name: "https://x/m.gguf".into(),
        needed: needed as u64,
        actual: actual as u64,
    };
    let mut f = fixture(|_| ());
    f.read(SIZE - 10, 10).unwrap();
    assert_eq!(f.read(SIZE - 10, 11).unwrap_err(), truncated(SIZE, SIZE + 1));
    // Known to be too long before anything is asked for.
    assert_eq!(f.log(), format!("GET {}", SIZE - 10));
    assert_eq!(f.read(usize::MAX, 11).unwrap_err().code(), "truncated");

    // Sizes that nobody says: found out at the end.
    let mut f = fixture(|server| {
        server.ignores_ranges = true;
        server.unsized_ = true;
    });
    assert_eq!(pollster::block_on(f.source.size()).unwrap(), None);
    f.read(0, SIZE).unwrap();
    assert_eq!(f.read(SIZE - 1_000, 2_000).unwrap_err(), truncated(SIZE, SIZE + 1_000));
    // An empty file.
    let mut f = fixture(|server| server.file.clear());
    assert_eq!(f.read(0, 4).unwrap_err().code(), "truncated");
}

#[test]
fn cancelling_ends_reads_and_waits() {
    let mut f = fixture(|_| ());
    f.read(0, 10).unwrap();
    f.server.borrow_mut().aborted = true;
    assert_eq!(f.read(10, 5_000).unwrap_err(), Error::Aborted);
    assert_eq!(f.read(0, 5_000).unwrap_err(), Error::Aborted);
}

/// The tensors of an image model lie in the file by name, the network wants them from end to end: reading jumps
/// about would ask a server for the file again and again, and one without ranges for all of it each time.
#[test]
fn an_image_model_is_read_in_one_pass() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/public/emoji/emoji-vae.safetensors");
    let file = std::fs::read(path).unwrap();
    let fixture = fixture(|server| {
        server.file = file;
        server.chunk = 10_000;
        server.ignores_ranges = true;
    });
    let server = Rc::clone(&fixture.server);
    let mut sources: Vec<Box<dyn ByteSource>> = vec![Box::new(fixture.source)];
    let backend = emberglass::cpu::CpuImages::new(emberglass::cpu::Level::best());
    let mut steps = Vec::new();
    let mut progress = |progress: emberglass::model::Progress| {
        steps.push((progress.loaded_bytes, progress.total_bytes));
        Ok(())
    };
    pollster::block_on(emberglass::ImageModel::load(backend, &mut sources, &mut progress)).unwrap();
    assert_eq!(server.borrow().log, ["GET 0"]);
    // A single file too is reported bit by bit.
    assert!(steps.is_sorted() && steps.len() > 50, "{steps:?}");
    assert!(steps[0].0 == 0 && steps.iter().all(|step| step.1 == steps[0].1));
    assert_eq!(steps[steps.len() - 1].0, steps[0].1);
}
