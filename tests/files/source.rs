//! The streaming source against a scripted server: sequential reads, jumps, servers without ranges, parts that
//! end early, broken and silent connections, wrong answers, changed files. The browser's `fetch` behind it is tested
//! in tests/e2e/network.test.mjs.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use emberglass::error::{Error, NetworkCause, Result};
use emberglass::weights::{ByteSource, Failure, Head, Limits, LocalFuture, StreamSource, Transport};

/// One request: which it is (from 0), the first byte asked for, the size of the file, the time.
#[derive(Clone, Copy)]
struct Ask {
    number: usize,
    at: usize,
    size: usize,
    seconds: u64,
}

impl Ask {
    /// A server that does all as it should: 200 for the whole file, and 206 for a part.
    fn right(self) -> Reply {
        match self.at {
            0 => self.whole().with(|head| head.accept_ranges = Some("bytes".to_owned())),
            at => self.part(at..self.size),
        }
    }

    /// Status 200 and all of the file, whatever was asked for.
    fn whole(self) -> Reply {
        let mut reply = Reply::status(200).with(|head| head.content_length = Some(self.size.to_string()));
        reply.body = 0..self.size;
        reply
    }

    /// Status 206 and a right `Content-Range`; 416 behind the end.
    fn part(self, range: Range<usize>) -> Reply {
        let size = self.size;
        if range.start >= size {
            return Reply::status(416).with(|head| head.content_range = Some(format!("bytes */{size}")));
        }
        let end = range.end.min(size);
        let mut reply = Reply::status(206).with(|head| {
            head.content_range = Some(format!("bytes {}-{}/{size}", range.start, end - 1));
            head.content_length = Some((end - range.start).to_string());
        });
        reply.body = range.start..end;
        reply
    }

    /// The rest of the file, at most `cap` bytes of it.
    fn capped(self, cap: usize) -> Reply {
        self.part(self.at..self.at + cap)
    }
}

/// How a body ends.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Complete,
    Breaks,
    FallsSilent,
}
use Ending::{Breaks, Complete, FallsSilent};

/// What the server does with one request.
#[derive(Clone)]
struct Reply {
    head: Result<Head, Failure>,
    body: Range<usize>,
    ending: Ending,
}

impl Reply {
    fn status(status: u16) -> Self {
        Reply { head: Ok(Head { status, ..Head::default() }), body: 0..0, ending: Complete }
    }

    fn fails(failure: Failure) -> Self {
        Reply { head: Err(failure), body: 0..0, ending: Complete }
    }

    fn lost() -> Self {
        Self::fails(Failure::Lost("unreachable".to_owned()))
    }

    fn with(mut self, edit: impl FnOnce(&mut Head)) -> Self {
        if let Ok(head) = &mut self.head {
            edit(head);
        }
        self
    }

    fn tagged(self, etag: &str) -> Self {
        self.with(|head| head.etag = Some(etag.to_owned()))
    }

    /// Only the first bytes of the body come.
    fn cut(mut self, bytes: usize, ending: Ending) -> Self {
        if bytes < self.body.len() {
            self.body.end = self.body.start + bytes;
            self.ending = ending;
        }
        self
    }
}

type Behaviour = Box<dyn FnMut(Ask) -> Reply>;
type Answering = fn(Ask) -> Reply;

struct Server {
    file: Vec<u8>,
    chunk: usize,
    behaviour: Behaviour,
    requests: usize,
    log: Vec<String>,
    reasons: Vec<String>,
    /// Pauses and time limits that passed, in milliseconds.
    clock_ms: u64,
    aborted: bool,
}

/// More requests than this are a loop.
const MOST_REQUESTS: usize = 20_000;

struct Mock {
    server: Rc<RefCell<Server>>,
    body: Range<usize>,
    ending: Ending,
    chunk: Range<usize>,
}

impl Transport for Mock {
    fn open(&mut self, offset: u64, limit_ms: u32) -> LocalFuture<'_, Result<Head, Failure>> {
        Box::pin(async move {
            let mut server = self.server.borrow_mut();
            server.log.push(format!("GET {offset}"));
            let ask = Ask {
                number: server.requests,
                at: offset as usize,
                size: server.file.len(),
                seconds: server.clock_ms / 1000,
            };
            server.requests += 1;
            assert!(server.requests < MOST_REQUESTS, "requests without end");
            if server.aborted {
                return Err(Failure::Aborted);
            }
            let reply = (server.behaviour)(ask);
            if reply.head == Err(Failure::Stalled) {
                server.clock_ms += u64::from(limit_ms);
            }
            (self.body, self.ending, self.chunk) = (reply.body, reply.ending, 0..0);
            reply.head
        })
    }

    fn next_chunk(&mut self, limit_ms: u32) -> LocalFuture<'_, Result<Option<usize>, Failure>> {
        Box::pin(async move {
            let mut server = self.server.borrow_mut();
            if server.aborted {
                return Err(Failure::Aborted);
            }
            if self.body.is_empty() {
                return match self.ending {
                    Complete => Ok(None),
                    Breaks => Err(Failure::Lost("connection reset".to_owned())),
                    FallsSilent => {
                        server.clock_ms += u64::from(limit_ms);
                        Err(Failure::Stalled)
                    }
                };
            }
            let length = server.chunk.min(self.body.len());
            self.chunk = self.body.start..self.body.start + length;
            self.body.start += length;
            Ok(Some(length))
        })
    }

    fn copy(&self, from: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.server.borrow().file[self.chunk.clone()][from..from + to.len()]);
    }

    fn close(&mut self) {
        self.body = 0..0;
    }

    fn pause(&mut self, ms: u32, reason: &str) -> LocalFuture<'_, Result<(), Failure>> {
        let reason = reason.to_owned();
        Box::pin(async move {
            let mut server = self.server.borrow_mut();
            server.log.push(format!("pause {ms}"));
            server.reasons.push(reason);
            server.clock_ms += u64::from(ms);
            match server.aborted {
                true => Err(Failure::Aborted),
                false => Ok(()),
            }
        })
    }
}

const SIZE: usize = 5 << 20;
const URL: &str = "https://x/m.gguf";

struct Fixture {
    server: Rc<RefCell<Server>>,
    source: StreamSource<Mock>,
}

/// A server with 5 MiB in chunks of 1000 bytes that behaves as `behaviour` says.
fn serve(behaviour: impl FnMut(Ask) -> Reply + 'static) -> Fixture {
    serve_file(pattern(SIZE), 1000, Limits::default(), behaviour)
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 + (i >> 8)) as u8).collect()
}

fn serve_file(
    file: Vec<u8>,
    chunk: usize,
    limits: Limits,
    behaviour: impl FnMut(Ask) -> Reply + 'static,
) -> Fixture {
    let server = Rc::new(RefCell::new(Server {
        file,
        chunk,
        behaviour: Box::new(behaviour),
        requests: 0,
        log: Vec::new(),
        reasons: Vec::new(),
        clock_ms: 0,
        aborted: false,
    }));
    let mock = Mock { server: Rc::clone(&server), body: 0..0, ending: Complete, chunk: 0..0 };
    Fixture { source: StreamSource::over(URL, mock, limits), server }
}

/// The first request goes as `first` says, all others are answered rightly.
fn at_first(first: impl Fn(Ask) -> Reply + 'static) -> Fixture {
    serve(move |ask| if ask.number == 0 { first(ask) } else { ask.right() })
}

impl Fixture {
    /// Reads and compares with the file; the error if there is one.
    fn read(&mut self, offset: usize, length: usize) -> Result<()> {
        let mut buf = vec![0xAA; length];
        pollster::block_on(self.source.read_at(offset as u64, &mut buf))?;
        assert!(buf == self.server.borrow().file[offset..offset + length], "wrong bytes");
        Ok(())
    }

    /// Reads all of the file in pieces, as loading does.
    fn read_all(&mut self) -> Result<()> {
        let size = self.server.borrow().file.len();
        (0..size).step_by(300_000).try_for_each(|at| self.read(at, 300_000.min(size - at)))
    }

    fn size(&mut self) -> Result<Option<u64>> {
        pollster::block_on(self.source.size())
    }

    fn log(&self) -> String {
        self.server.borrow().log.join(", ")
    }

    fn count(&self, word: &str) -> usize {
        self.server.borrow().log.iter().filter(|line| line.starts_with(word)).count()
    }

    fn seconds(&self) -> u64 {
        self.server.borrow().clock_ms / 1000
    }
}

/// Reading all of the file fails with this code. The message.
fn failing(f: &mut Fixture, code: &str) -> String {
    let error = f.read_all().unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}

#[test]
fn sequential_reads_are_one_request() {
    let mut f = serve(Ask::right);
    assert_eq!(f.size().unwrap(), Some(SIZE as u64));
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
    let mut f = serve(Ask::right);
    f.read(0, 65_536).unwrap();
    // A small read in it does not make the rest forgotten.
    f.read(1_000, 10).unwrap();
    f.read(1_010, 200_000).unwrap();
    assert_eq!(f.log(), "GET 0");
}

#[test]
fn short_jumps_skip_and_long_ones_ask() {
    let mut f = serve(Ask::right);
    f.read(0, 10).unwrap();
    f.read(500_000, 10).unwrap();
    assert_eq!(f.log(), "GET 0");
    f.read(3 << 20, 10).unwrap();
    f.read(100, 10).unwrap();
    assert_eq!(f.log(), "GET 0, GET 3145728, GET 100");
}

#[test]
fn a_server_without_ranges_still_works() {
    let mut f = serve(Ask::whole);
    f.read(0, 10).unwrap();
    f.read(4 << 20, 10).unwrap();
    assert_eq!(f.log(), "GET 0");
    f.read(2 << 20, 10).unwrap();
    assert_eq!(f.log(), "GET 0, GET 2097152");
    // Broken: starts over and skips.
    let mut f = serve(|ask| ask.whole().cut(if ask.number == 0 { 5_000 } else { SIZE }, Breaks));
    f.read(0, 20_000).unwrap();
    assert_eq!(f.log(), "GET 0, pause 500, GET 5000");
}

/// `Accept-Ranges` is a promise that a server may break: it is asked once, then the file is read from its start.
#[test]
fn a_server_that_only_claims_to_know_ranges_is_asked_once() {
    let mut f = serve(|ask| ask.whole().with(|head| head.accept_ranges = Some("bytes".to_owned())));
    f.read(0, 10).unwrap();
    f.read(3 << 20, 10).unwrap();
    f.read(SIZE - 10, 10).unwrap();
    assert_eq!(f.log(), "GET 0, GET 3145728");
}

#[test]
fn a_part_that_starts_earlier_is_skipped_forward() {
    let mut f = serve(|ask| ask.part(0..SIZE));
    f.read(0, 10).unwrap();
    f.read(3 << 20, 10).unwrap();
    f.read(SIZE - 10, 10).unwrap();
    assert_eq!(f.log(), "GET 0, GET 3145728");
    // In the middle of a download, as after a broken connection.
    let mut f = serve(|ask| match ask.number {
        0 => ask.right().cut(3 << 20, Breaks),
        _ => ask.part(ask.at - 5_000..SIZE),
    });
    f.read_all().unwrap();
    assert_eq!(f.log(), "GET 0, pause 500, GET 3145728");
}

/// Such a part never comes to the bytes that were asked for.
#[test]
fn a_part_that_ends_before_what_was_asked_for_is_an_error_after_a_few_tries() {
    let mut f = serve(|ask| ask.part(0..1 << 20));
    let text = failing(&mut f, "network");
    assert!(text.contains("asked for the bytes from 1048576 on, it sent 0 to 1048576"), "{text}");
    assert!(text.contains("3 retries did not help"), "{text}");
    let again = "GET 1048576";
    assert_eq!(
        f.log(),
        format!("GET 0, {again}, pause 500, {again}, pause 1000, {again}, pause 2000, {again}")
    );
}

#[test]
fn short_parts_are_followed_at_once() {
    for cap in [1 << 20, 256 << 10, 1 << 10, 333] {
        let mut f = serve(move |ask| ask.capped(cap));
        f.read_all().unwrap();
        assert_eq!(f.count("pause"), 0, "{cap}");
        assert_eq!(f.count("GET"), SIZE.div_ceil(cap), "{cap}");
    }
    // The server does not say how long the file is: its end is found by asking behind it.
    let unsized_ =
        |head: &mut Head| head.content_range = head.content_range.take().map(|r| r.replace("/5242880", "/*"));
    let mut f = serve(move |ask| match ask.at < SIZE {
        true => ask.capped(1 << 20).with(unsized_),
        false => Reply::status(416),
    });
    assert_eq!(f.size().unwrap(), None);
    f.read_all().unwrap();
    assert_eq!(f.count("pause"), 0);
    let truncated = Error::Truncated { name: URL.into(), needed: SIZE as u64 + 1, actual: SIZE as u64 };
    assert_eq!(f.read(SIZE - 10, 11).unwrap_err(), truncated);
    // Another origin hides the headers.
    let hide = |head: &mut Head| {
        head.content_range = None;
        head.headers_hidden = true;
    };
    let mut f = serve(move |ask| ask.capped(1 << 20).with(hide));
    f.read_all().unwrap();
    assert_eq!(f.log(), "GET 0, GET 1048576, GET 2097152, GET 3145728, GET 4194304");
}

#[test]
fn a_broken_connection_resumes_at_the_exact_byte() {
    let mut f = serve(|ask| match ask.number {
        0 => ask.right().tagged("\"a\"").cut(12_345, Breaks),
        1 => Reply::lost(),
        2 => Reply::status(503),
        3 => ask.right().tagged("W/\"a\"").cut(55, Breaks),
        _ => ask.right().tagged("\"a\""),
    });
    f.read(0, 12_400).unwrap();
    assert_eq!(f.log(), "GET 0, pause 500, GET 12345, pause 1000, GET 12345, pause 2000, GET 12345");
    // 55 bytes do not end the outage, 70,000 do.
    f.read(12_400, 100_000).unwrap();
    assert!(f.log().ends_with("GET 12345, pause 4000, GET 12400"), "{}", f.log());
    let mut f = serve(|ask| ask.right().cut(if ask.number < 2 { 70_000 } else { SIZE }, Breaks));
    f.read_all().unwrap();
    assert_eq!(f.log(), "GET 0, pause 500, GET 70000, pause 500, GET 140000");
}

/// A body that ends before its announced length is broken, whatever the browser says of it.
#[test]
fn a_body_shorter_than_announced_is_a_broken_connection() {
    for first in [Ask::whole, |ask: Ask| ask.part(0..SIZE)] {
        let mut f = at_first(move |ask| first(ask).cut(200_000, Complete));
        f.read_all().unwrap();
        assert_eq!(f.log(), "GET 0, pause 500, GET 200000");
    }
}

/// A connection that worked before is retried for more than a minute, and each pause tells why.
#[test]
fn being_away_for_a_minute_resumes() {
    for failure in [Failure::Lost("network changed".to_owned()), Failure::Offline, Failure::Stalled] {
        let away = failure.clone();
        let mut f = serve(move |ask| match ask.number {
            0 => ask.right().cut(1 << 20, Breaks),
            _ if ask.seconds < 60 => Reply::fails(away.clone()),
            _ => ask.right(),
        });
        f.read_all().unwrap();
        assert!((60..80).contains(&f.seconds()), "{failure:?}: {}", f.seconds());
        let server = f.server.borrow();
        assert!(!server.reasons.is_empty() && server.reasons.iter().all(|reason| !reason.is_empty()));
    }
    // A device that is offline is waited for from the start.
    let mut f = serve(|ask| if ask.seconds < 60 { Reply::fails(Failure::Offline) } else { ask.right() });
    f.read_all().unwrap();
}

#[test]
fn a_connection_that_does_not_come_back_is_given_up() {
    let breaks = |ask: Ask| if ask.number == 0 { ask.right().cut(777, Breaks) } else { Reply::lost() };
    let mut f = serve(breaks);
    let text = failing(&mut f, "network");
    assert!(text.contains("failed at byte 777: unreachable, and 13 retries did not help"), "{text}");
    assert_eq!(f.seconds(), 90);
    // It can be used again.
    f.server.borrow_mut().behaviour = Box::new(Ask::right);
    f.read(0, 2_000).unwrap();

    // The limit can be set; with 0 there is no retry.
    for (retry_ms, seconds) in [(5_000, 5), (0, 0)] {
        let limits = Limits { retry_ms, ..Limits::default() };
        let mut f = serve_file(pattern(SIZE), 1000, limits, breaks);
        failing(&mut f, "network");
        assert_eq!(f.seconds(), seconds);
    }
}

/// An address that has never answered may be wrong: only a few tries.
#[test]
fn a_server_that_was_never_reached_is_tried_a_few_times() {
    let mut f = serve(|_| Reply::lost());
    failing(&mut f, "network");
    assert_eq!(f.log(), "GET 0, pause 500, GET 0, pause 1000, GET 0, pause 2000, GET 0");
    // Also if each answer breaks before its first byte, as a body in a wrong encoding does.
    let mut f = serve(|ask| ask.whole().cut(0, Breaks));
    failing(&mut f, "network");
    assert_eq!(f.count("GET"), 4);
}

#[test]
fn what_cannot_succeed_is_not_tried_again() {
    let refused = Failure::Refused(NetworkCause::Cors, "the server does not allow it (CORS)".to_owned());
    let mut f = serve(move |_| Reply::fails(refused.clone()));
    let error = f.read(0, 10).unwrap_err();
    assert!(error.to_string().contains("(CORS)"), "{error}");
    assert_eq!((error.code(), error.detail()), ("network", Some("cors")));
    assert_eq!(f.log(), "GET 0");
    for status in [204, 304, 400, 401, 403, 404, 405, 410, 451, 501, 505] {
        let mut f = serve(move |_| Reply::status(status));
        let error = f.read(0, 10).unwrap_err();
        assert_eq!(error, Error::HttpStatus { url: URL.into(), status, redirected_to: None });
        assert_eq!(f.log(), "GET 0", "{status}");
    }
}

#[test]
fn a_silent_server_is_given_up() {
    // Before its first byte: after one time limit.
    for silent in [|_: Ask| Reply::fails(Failure::Stalled), |ask: Ask| ask.right().cut(0, FallsSilent)] {
        let mut f = serve(silent);
        assert!(failing(&mut f, "network").contains("the server sent nothing for 30 seconds"));
        assert_eq!(f.log(), "GET 0");
        assert_eq!(f.seconds(), 30);
    }
    // Later: a new connection may do better, but each that brings little and falls silent counts.
    let limits = Limits { stall_ms: 2_000, ..Limits::default() };
    let mut f = serve_file(pattern(SIZE), 1000, limits, |ask| ask.right().cut(100, FallsSilent));
    assert!(failing(&mut f, "network").contains("nothing for 2 seconds"));
    assert_eq!(f.log(), "GET 0, pause 500, GET 100, pause 1000, GET 200");
    assert_eq!(f.seconds(), 7);
    // A server that sends much between silences is slow and nothing worse.
    let mut f = serve(|ask| ask.right().cut(500_000, FallsSilent));
    f.read_all().unwrap();
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let busy = |status, seconds| {
        at_first(move |_| Reply::status(status).with(|head| head.retry_after_s = Some(seconds)))
    };
    for status in [408, 425, 429, 500, 502, 503, 504, 522] {
        let mut f = busy(status, 20);
        f.read(0, 10).unwrap();
        assert_eq!(f.log(), "GET 0, pause 20000, GET 0", "{status}");
    }
    // Not at once, whatever it says; and an hour is too long.
    let mut f = busy(503, 0);
    f.read(0, 10).unwrap();
    assert_eq!(f.log(), "GET 0, pause 500, GET 0");
    let mut f = busy(429, 3600);
    assert_eq!(f.read(0, 10).unwrap_err().code(), "http-status");
    assert_eq!(f.log(), "GET 0");
    // A server that stays busy is given up.
    let mut f = serve(|_| Reply::status(503));
    let text = failing(&mut f, "http-status");
    assert_eq!(text, "the server answered 503 for https://x/m.gguf: the server has a fault; try again later");
    assert_eq!(f.source.requests(), 4);
}

#[test]
fn a_file_that_changed_is_not_spliced() {
    // What the second answer says, and what the error says of it.
    let cases: [(Answering, &str); 4] = [
        (|ask| ask.right().tagged("\"b\""), "its ETag was \"a\" and is \"b\""),
        (
            |ask| Ask { size: SIZE + 1, ..ask }.right().tagged("\"a\""),
            "it had 5242880 bytes and now has 5242881",
        ),
        (
            |ask| ask.right().with(|head| head.last_modified = Some("Tue".to_owned())),
            "its Last-Modified was Mon and is Tue",
        ),
        // The whole file again instead of its rest.
        (|ask| ask.whole().tagged("\"b\""), "its ETag was \"a\" and is \"b\""),
    ];
    for (second, expected) in cases {
        let mut f = serve(move |ask| match ask.number {
            0 => ask
                .right()
                .tagged("\"a\"")
                .with(|head| head.last_modified = Some("Mon".to_owned()))
                .cut(5_000, Breaks),
            _ => second(ask),
        });
        let text = failing(&mut f, "network");
        assert!(text.contains("at byte 5000: the file changed on the server during the download"), "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(f.count("GET"), 2);
    }
    // The same file may be told with a weak tag, and by a server of another clock.
    let mut f = serve(|ask| match ask.number {
        0 => ask
            .right()
            .tagged("W/\"a\"")
            .with(|head| head.last_modified = Some("Mon".to_owned()))
            .cut(5_000, Breaks),
        _ => ask.right().tagged("\"a\"").with(|head| head.last_modified = Some("Tue".to_owned())),
    });
    f.read_all().unwrap();
    // A first answer in another encoding has a tag and a length of its own.
    let mut f = serve(|ask| match ask.number {
        0 => ask
            .whole()
            .tagged("\"a-gzip\"")
            .with(|head| {
                head.content_encoding = Some("gzip".to_owned());
                head.content_length = Some("777".to_owned());
            })
            .cut(5_000, Breaks),
        _ => ask.right().tagged("\"a\""),
    });
    assert_eq!(f.size().unwrap(), None);
    f.read_all().unwrap();
}

/// Another origin may hide `Content-Encoding`. The length that it shows may then be smaller than the body, and its tag may
/// be that of the encoded form.
#[test]
fn the_length_of_another_origin_promises_no_end() {
    let hidden = |ask: Ask, length: usize| {
        ask.whole().tagged("\"a-gzip\"").with(|head| {
            head.headers_hidden = true;
            head.content_length = Some(length.to_string());
        })
    };
    let mut f = serve(move |ask| hidden(ask, 777));
    assert_eq!(f.size().unwrap(), None);
    f.read_all().unwrap();
    assert_eq!(f.log(), "GET 0");
    // What comes after a break is a part of the file as it is.
    for length in [777, SIZE] {
        let mut f = serve(move |ask| match ask.number {
            0 => hidden(ask, length).cut(5_000, Breaks),
            _ => ask.right().tagged("\"a\""),
        });
        f.read_all().unwrap();
        assert_eq!(f.log(), "GET 0, pause 500, GET 5000");
    }
    // Some browsers take a connection that breaks for the end of the body.
    let mut f = serve(move |ask| match ask.number {
        0 => hidden(ask, SIZE).cut(5_000, Complete),
        _ => ask.right(),
    });
    f.read_all().unwrap();
    // A file that is shorter than its reader needs still ends.
    let mut f = serve(move |ask| hidden(ask, SIZE));
    assert_eq!(f.read(SIZE - 5, 10).unwrap_err().code(), "truncated");
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error_at_once() {
    let range = |text: &'static str| {
        move |ask: Ask| ask.part(ask.at..SIZE).with(|head| head.content_range = Some(text.to_owned()))
    };
    let cases: Vec<(Behaviour, &str)> = vec![
        (Box::new(range("bytes -5--1/abc")), "Content-Range: bytes -5--1/abc"),
        (Box::new(range("bytes 0-5242879/100")), "Content-Range: bytes 0-5242879/100"),
        (Box::new(range("bytes 9-5/5242880")), "Content-Range"),
        (Box::new(range("bytes +0-5242879/5242880")), "Content-Range"),
        (Box::new(range("bytes 0-18446744073709551615/*")), "Content-Range"),
        (Box::new(range("items 0-5242879/5242880")), "Content-Range: items"),
        (Box::new(range("0-5242879/5242880")), "Content-Range"),
        (Box::new(range("")), "Content-Range"),
        (Box::new(range("bytes */5242880")), "with status 206"),
        (Box::new(range("bytes 0-99/5242880")), "differ"),
        (Box::new(|ask| ask.part(10..SIZE)), "the bytes from 10 on instead of those from 0 on"),
        (Box::new(|ask| ask.part(0..SIZE).with(|head| head.content_range = None)), "without Content-Range"),
        (
            Box::new(|ask| {
                ask.part(0..SIZE).with(|head| head.content_type = Some("multipart/byteranges; x".to_owned()))
            }),
            "several parts",
        ),
        (
            Box::new(|ask| ask.part(0..SIZE).with(|head| head.content_encoding = Some("br".to_owned()))),
            "in the encoding br",
        ),
        (
            Box::new(|ask| ask.whole().with(|head| head.content_length = Some("-3".to_owned()))),
            "Content-Length: -3",
        ),
        (
            Box::new(|ask| Reply {
                body: 0..SIZE,
                ..ask.part(0..100).with(|head| head.content_length = None)
            }),
            "more bytes than it announced",
        ),
    ];
    for (behaviour, expected) in cases {
        let mut f = serve(behaviour);
        let text = failing(&mut f, "network");
        assert!(text.contains("the server answers wrongly") && text.contains(expected), "{expected}: {text}");
        assert_eq!(f.log(), "GET 0", "{expected}");
    }
    // Where another origin hides Content-Range, the length gives a wrong start away.
    let mut f = serve(|ask| match ask.number {
        0 => ask.whole().cut(5_000, Breaks),
        _ => ask.part(0..SIZE).with(|head| {
            head.content_range = None;
            head.headers_hidden = true;
        }),
    });
    assert!(failing(&mut f, "network").contains("it sent 5242880 bytes from byte 5000 of 5242880"));
    // A server that denies what it announced.
    let mut f = serve(|ask| match ask.number {
        0 => ask.whole().cut(5_000, Breaks),
        _ => Reply::status(416),
    });
    assert!(failing(&mut f, "network").contains("refuses the bytes from 5000 on, of a file of 5242880"));
}

#[test]
fn messages_name_the_address_without_its_secrets() {
    let shown = |url: &str| {
        let Fixture { server, .. } = serve(|_| {
            Reply::status(403)
                .with(|head| head.redirected_to = Some("https://u:p@cdn/y?Signature=s".to_owned()))
        });
        let mock = Mock { server, body: 0..0, ending: Complete, chunk: 0..0 };
        let mut source = StreamSource::over(url, mock, Limits::default());
        pollster::block_on(source.read_at(0, &mut [0])).unwrap_err().to_string()
    };
    let text = shown("https://me:secret@x:8080/a/m.gguf?token=secret#secret");
    assert!(text.contains("403 for https://x:8080/a/m.gguf?… (redirected to https://cdn/y?…)"), "{text}");
    assert!(!text.contains("secret") && !text.contains("Signature"), "{text}");
    let text = shown(&format!("data:application/octet-stream;base64,{}", "A".repeat(1 << 20)));
    assert!(text.len() < 300, "{} characters", text.len());
    let text = shown(&format!("https://x/{}", "a".repeat(1 << 20)));
    assert!(text.len() < 1_000, "{} characters", text.len());
}

#[test]
fn reading_past_the_end_is_truncated() {
    let truncated = |actual: usize, needed: usize| Error::Truncated {
        name: URL.into(),
        needed: needed as u64,
        actual: actual as u64,
    };
    let mut f = serve(Ask::right);
    f.read(SIZE - 10, 10).unwrap();
    assert_eq!(f.read(SIZE - 10, 11).unwrap_err(), truncated(SIZE, SIZE + 1));
    // Known to be too long before anything is asked for.
    assert_eq!(f.log(), format!("GET {}", SIZE - 10));
    assert_eq!(f.read(usize::MAX, 11).unwrap_err().code(), "truncated");

    // Sizes that nobody says: found out at the end.
    let mut f = serve(|ask| ask.whole().with(|head| head.content_length = None));
    assert_eq!(f.size().unwrap(), None);
    f.read(0, SIZE).unwrap();
    assert_eq!(f.read(SIZE - 1_000, 2_000).unwrap_err(), truncated(SIZE, SIZE + 1_000));
    // An empty file.
    for empty in [Ask::right, |ask: Ask| ask.part(0..0)] {
        let mut f = serve_file(Vec::new(), 1000, Limits::default(), empty);
        assert_eq!(f.read(0, 4).unwrap_err().code(), "truncated");
    }
}

#[test]
fn cancelling_ends_reads_and_pauses() {
    let mut f = serve(Ask::right);
    f.read(0, 10).unwrap();
    f.server.borrow_mut().aborted = true;
    assert_eq!(f.read(10, 5_000).unwrap_err(), Error::Aborted);
    assert_eq!(f.read(0, 5_000).unwrap_err(), Error::Aborted);
    assert_eq!(f.count("pause"), 0);
}

/// A generator of numbers that is the same on every machine (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

/// Many servers, each with faults drawn from a seed. Those that let the download go on must give the whole file.
/// All others must end with an error. None may take more than a bounded number of requests and bounded time.
#[test]
fn servers_with_random_faults_give_the_file_or_an_error() {
    let (mut loaded, mut failed) = (0, 0);
    for seed in 1..=300 {
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let size = 1 + numbers.below(400_000);
        let (chunk, kinds) = (1 + numbers.below(9_000), [6, 9, 14][numbers.below(3)]);
        let benign = kinds == 6;
        let limits = Limits { stall_ms: 1 + numbers.below(60_000) as u32, retry_ms: 90_000 };
        let behaviour = move |ask: Ask| {
            // So many bytes end an outage.
            let much = 65_536 + numbers.below(ask.size);
            match numbers.below(kinds) {
                0 => ask.right(),
                1 => ask.whole(),
                2 => ask.capped(1 + much),
                3 => ask.part(ask.at.saturating_sub(much)..ask.size.max(1)),
                4 => ask.right().cut(much, Breaks),
                5 => ask.right().cut(much, FallsSilent),
                6 => ask.right().cut(numbers.below(50), Breaks),
                7 => Reply::lost(),
                8 => Reply::status([500, 503, 408, 429][numbers.below(4)]),
                9 => Reply::fails(Failure::Stalled),
                10 => Reply::fails(Failure::Offline),
                11 => ask.part(0..numbers.below(1 + ask.size)),
                12 => Reply::status([404, 416, 204][numbers.below(3)]),
                _ => {
                    ask.capped(ask.size).with(|head| head.content_range = Some(format!("bytes {}-/", ask.at)))
                }
            }
        };
        let mut f = serve_file(pattern(size), chunk, limits, behaviour);
        match f.read_all() {
            Ok(()) => loaded += 1,
            Err(error) if benign => panic!("seed {seed}: {error}; {}", f.log()),
            Err(error) => {
                failed += 1;
                assert!(
                    ["network", "http-status", "truncated"].contains(&error.code()),
                    "seed {seed}: {error}"
                );
            }
        }
        assert!(f.source.requests() < 400, "seed {seed}: {} requests", f.source.requests());
        assert!(f.seconds() < 3_000, "seed {seed}: {} seconds", f.seconds());
    }
    assert!(loaded > 100 && failed > 30, "{loaded} loaded, {failed} failed");
}

/// The tensors of an image model lie in the file by name, the network wants them from end to end: reading jumps
/// about would ask a server for the file again and again, and one without ranges for all of it each time.
#[test]
fn an_image_model_is_read_in_one_pass() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/public/emoji/emoji-vae.safetensors");
    let file = std::fs::read(path).unwrap();
    let fixture = serve_file(file, 10_000, Limits::default(), Ask::whole);
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
