//! A small static file server for localhost: what the page needs of any static host, and no more.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

/// Where the demo is unless told otherwise.
pub const DEFAULT_PORT: u16 = 8080;
/// How many ports to try.
const PORTS: u16 = 50;
const LONGEST_HEAD: u64 = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// What makes a page cross-origin isolated, so that workers may share memory.
const ISOLATION: &str = "Cross-Origin-Opener-Policy: same-origin\r\n\
    Cross-Origin-Embedder-Policy: require-corp\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/// What is served, and how.
struct Site {
    root: PathBuf,
    isolated: bool,
}

/// A server that listens, and answers once it is run.
pub struct Server {
    site: Arc<Site>,
    listeners: Vec<TcpListener>,
    port: u16,
}

impl Server {
    /// Listens on the port, or the next free one; 0 lets the system choose.
    ///
    /// `isolated` sends the headers that threads need; a plain static host sends none.
    pub fn bind(folder: &Path, port: u16, isolated: bool) -> Result<Self> {
        let root =
            fs::canonicalize(folder).with_context(|| format!("there is no folder {}", folder.display()))?;
        for candidate in port..=port.saturating_add(PORTS) {
            match listen(candidate) {
                Ok(listeners) => {
                    return Ok(Self {
                        site: Arc::new(Site { root, isolated }),
                        port: listeners[0].local_addr()?.port(),
                        listeners,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => bail!("could not listen on port {candidate}: {error}"),
            }
        }
        bail!("no free port from {port} on: give another with --port")
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://localhost:{}/", self.port)
    }

    /// Answers for as long as the program runs.
    pub fn run(self) {
        let workers: Vec<_> = self
            .listeners
            .into_iter()
            .map(|listener| {
                let site = Arc::clone(&self.site);
                thread::spawn(move || accept(&listener, &site))
            })
            .collect();
        for worker in workers {
            worker.join().ok();
        }
    }

    /// Answers in the background, for as long as the program runs.
    pub fn start(self) {
        thread::spawn(|| self.run());
    }
}

/// `localhost` is 127.0.0.1 to some and ::1 to others: another program on either is in the way.
fn listen(port: u16) -> io::Result<Vec<TcpListener>> {
    let four = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let port = four.local_addr()?.port();
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(six) => Ok(vec![four, six]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A machine without IPv6.
        Err(_) => Ok(vec![four]),
    }
}

fn accept(listener: &TcpListener, site: &Arc<Site>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let site = Arc::clone(site);
        thread::spawn(move || {
            // A browser that hangs up in the middle is no news.
            serve(&stream, &site).ok();
            stream.shutdown(Shutdown::Both).ok();
        });
    }
}

fn serve(mut stream: &TcpStream, site: &Site) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let reply = match Request::read(stream) {
        Ok(request) => answer(&request, &site.root),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Reply::text(400, "bad request"),
        Err(error) => return Err(error),
    };
    stream.write_all(reply.head(site.isolated).as_bytes())?;
    match reply.body {
        Body::None => {}
        Body::Text(text) => stream.write_all(text.as_bytes())?,
        Body::Part(mut file, range) => {
            file.seek(SeekFrom::Start(range.start))?;
            io::copy(&mut file.take(range.end - range.start), &mut stream)?;
        }
    }
    stream.flush()?;
    stream.shutdown(Shutdown::Write)
}

/// The parts of a request that matter here.
#[derive(Default)]
struct Request {
    method: String,
    target: String,
    range: Option<String>,
    if_none_match: Option<String>,
    if_range: Option<String>,
}

impl Request {
    fn read(stream: impl Read) -> io::Result<Self> {
        let mut lines = BufReader::new(stream.take(LONGEST_HEAD)).lines();
        let mut next = || lines.next().unwrap_or_else(|| Err(io::ErrorKind::InvalidData.into()));
        let first = next()?;
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if !version.starts_with("HTTP/1.") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut request = Self { method: method.to_owned(), target: target.to_owned(), ..Self::default() };
        loop {
            let line = next()?;
            if line.is_empty() {
                return Ok(request);
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let field = match name.to_ascii_lowercase().as_str() {
                "range" => &mut request.range,
                "if-none-match" => &mut request.if_none_match,
                "if-range" => &mut request.if_range,
                _ => continue,
            };
            *field = Some(value.trim().to_owned());
        }
    }
}

enum Body {
    None,
    Text(String),
    Part(File, Range<u64>),
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Reply {
    fn text(status: u16, text: &str) -> Self {
        let text = format!("{text}\n");
        Self {
            status,
            headers: vec![
                ("Content-Type", "text/plain; charset=utf-8".to_owned()),
                ("Content-Length", text.len().to_string()),
            ],
            body: Body::Text(text),
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn head(&self, isolated: bool) -> String {
        let reason = match self.status {
            200 => "OK",
            206 => "Partial Content",
            301 => "Moved Permanently",
            304 => "Not Modified",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Range Not Satisfiable",
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if isolated {
            head += ISOLATION;
        }
        head + "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    }
}

fn answer(request: &Request, root: &Path) -> Reply {
    let mut reply = match request.method.as_str() {
        "GET" | "HEAD" => answer_get(request, root),
        _ => Reply::text(405, "only GET and HEAD").with("Allow", "GET, HEAD"),
    };
    if request.method == "HEAD" {
        reply.body = Body::None;
    }
    reply
}

fn answer_get(request: &Request, root: &Path) -> Reply {
    let path = request.target.split(['?', '#']).next().unwrap_or_default();
    let not_found = || Reply::text(404, "not found");
    let Some(file) = locate(root, path) else {
        return not_found();
    };
    if file.is_dir() {
        // Relative addresses in a folder's page need the slash.
        return match path.ends_with('/') {
            true => not_found(),
            false => Reply::text(301, "moved").with("Location", format!("{path}/")),
        };
    }
    let opened = File::open(&file).and_then(|opened| Ok((opened.metadata()?, opened)));
    let Ok((metadata, opened)) = opened else {
        return not_found();
    };
    let length = metadata.len();
    let tag = entity_tag(&metadata);
    let reply = |status, headers: &[(&'static str, String)], body| {
        let mut all = vec![("ETag", tag.clone()), ("Accept-Ranges", "bytes".to_owned())];
        all.extend_from_slice(headers);
        Reply { status, headers: all, body }
    };
    let matches = |tags: &String| tags.split(',').any(|one| one.trim() == tag || one == "*");
    if request.if_none_match.as_ref().is_some_and(matches) {
        return reply(304, &[], Body::None);
    }
    // A range of a file that has changed since is answered with the whole file.
    let range = match &request.if_range {
        Some(known) if *known != tag => Wanted::Everything,
        _ => wanted(request.range.as_deref(), length),
    };
    let kind = ("Content-Type", media_type(&file).to_owned());
    match range {
        Wanted::Nothing => {
            Reply::text(416, "no such range").with("Content-Range", format!("bytes */{length}"))
        }
        Wanted::Everything => {
            let size = ("Content-Length", length.to_string());
            reply(200, &[kind, size], Body::Part(opened, 0..length))
        }
        Wanted::Part(part) => {
            let size = ("Content-Length", (part.end - part.start).to_string());
            let position = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            let headers = [kind, size, ("Content-Range", position)];
            reply(206, &headers, Body::Part(opened, part))
        }
    }
}

/// The file that a path names. It is below the root whatever the path says.
fn locate(root: &Path, path: &str) -> Option<PathBuf> {
    let decoded = decode(path.strip_prefix('/')?)?;
    let relative = Path::new(&decoded);
    let plain = |part| matches!(part, Component::Normal(_));
    if decoded.contains(['\\', '\0']) || !relative.components().all(plain) {
        return None;
    }
    let mut file = root.join(relative);
    if decoded.is_empty() || decoded.ends_with('/') {
        file.push("index.html");
    }
    // Links may not lead out either.
    let real = fs::canonicalize(file).ok()?;
    real.starts_with(root).then_some(real)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else {
                return None;
            };
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn entity_tag(metadata: &Metadata) -> String {
    let changed =
        metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("\"{:x}-{:x}\"", changed.as_nanos(), metadata.len())
}

#[derive(Debug, PartialEq)]
enum Wanted {
    Everything,
    Part(Range<u64>),
    Nothing,
}

/// What a Range header asks for. Several ranges at once may be answered with everything.
fn wanted(header: Option<&str>, length: u64) -> Wanted {
    let Some(spec) = header.and_then(|header| header.strip_prefix("bytes=")) else {
        return Wanted::Everything;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Wanted::Everything;
    };
    let part = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..length.min(last.saturating_add(1)),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..length,
        (Err(_), Ok(count)) if first.trim().is_empty() => length.saturating_sub(count)..length,
        _ => return Wanted::Everything,
    };
    if part.start < part.end { Wanted::Part(part) } else { Wanted::Nothing }
}

fn media_type(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        None => "text/plain; charset=utf-8",
        Some(_) => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// A server on a folder of its own: `site/` with two files and a link out, and a secret beside it.
    fn server(name: &str) -> SocketAddr {
        let base = std::env::temp_dir().join(format!("xtask-serve-{name}-{}", std::process::id()));
        fs::create_dir_all(base.join("site/models")).unwrap();
        fs::write(base.join("secret.txt"), "secret").unwrap();
        fs::write(base.join("site/index.html"), "<p>page</p>").unwrap();
        fs::write(base.join("site/models/a b.gguf"), "0123456789").unwrap();
        fs::write(base.join("site/module.wasm"), "").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(base.join("secret.txt"), base.join("site/link.txt")).ok();
        let server = Server::bind(&base.join("site"), 0, name != "plain").unwrap();
        let address = server.listeners[0].local_addr().unwrap();
        server.start();
        address
    }

    fn ask(address: SocketAddr, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{request}\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    fn status(address: SocketAddr, target: &str) -> String {
        ask(address, &format!("GET {target} HTTP/1.1\r\nHost: localhost"))
            .0
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned()
    }

    #[test]
    fn files_come_with_their_type() {
        let address = server("types");
        let (head, body) = ask(address, "GET / HTTP/1.1\r\nHost: localhost");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("Content-Type: text/html; charset=utf-8"), "{head}");
        assert!(head.contains("Cache-Control: no-cache"), "{head}");
        assert_eq!(body, "<p>page</p>");
        let (head, _) = ask(address, "GET /module.wasm HTTP/1.1");
        assert!(head.contains("Content-Type: application/wasm"), "{head}");
        assert!(head.contains("Content-Length: 0"), "{head}");
        let (head, body) = ask(address, "GET /models/a%20b.gguf?x=1 HTTP/1.1");
        assert!(head.contains("Content-Type: application/octet-stream"), "{head}");
        assert_eq!(body, "0123456789");
    }

    #[test]
    fn ranges_are_honoured() {
        let address = server("ranges");
        let part = |range: &str| ask(address, &format!("GET /models/a%20b.gguf HTTP/1.1\r\nRange: {range}"));
        for (range, expected, position) in [
            ("bytes=2-4", "234", "bytes 2-4/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=7-100", "789", "bytes 7-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=-30", "0123456789", "bytes 0-9/10"),
        ] {
            let (head, body) = part(range);
            assert!(head.starts_with("HTTP/1.1 206"), "{range}: {head}");
            assert!(head.contains(&format!("Content-Range: {position}")), "{range}: {head}");
            assert!(head.contains(&format!("Content-Length: {}", expected.len())), "{head}");
            assert_eq!(body, expected, "{range}");
        }
        let (head, _) = part("bytes=10-");
        assert!(head.starts_with("HTTP/1.1 416"), "{head}");
        assert!(head.contains("Content-Range: bytes */10"), "{head}");
        assert!(part("bytes=-0").0.starts_with("HTTP/1.1 416"));
        for ignored in ["bytes=4-2", "bytes=x-y", "lines=1-2", "bytes=0-1,4-5"] {
            assert!(part(ignored).0.starts_with("HTTP/1.1 200"), "{ignored}");
        }
        let (head, body) = part("bytes=2-4\r\nIf-Range: \"old\"");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, "0123456789");
    }

    #[test]
    fn head_and_unchanged_files_have_no_body() {
        let address = server("head");
        let (head, body) = ask(address, "HEAD /models/a%20b.gguf HTTP/1.1");
        assert!(head.contains("Content-Length: 10"), "{head}");
        assert_eq!(body, "");
        let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
        let again = format!("GET /models/a%20b.gguf HTTP/1.1\r\nIf-None-Match: {tag}");
        let (head, body) = ask(address, &again);
        assert!(head.starts_with("HTTP/1.1 304"), "{head}");
        assert_eq!(body, "");
        assert!(ask(address, "POST / HTTP/1.1").0.starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn pages_are_isolated_unless_the_server_is_plain() {
        for (name, isolated) in [("isolated", true), ("plain", false)] {
            let address = server(name);
            for target in ["/", "/module.wasm", "/missing"] {
                let (head, _) = ask(address, &format!("GET {target} HTTP/1.1"));
                assert_eq!(head.contains("Cross-Origin-Opener-Policy: same-origin"), isolated, "{head}");
                assert_eq!(head.contains("Cross-Origin-Embedder-Policy: require-corp"), isolated, "{head}");
            }
        }
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        let address = server("outside");
        for target in [
            "/../secret.txt",
            "/models/../../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "/..%5csecret.txt",
            "//etc/passwd",
            "/%2fetc/passwd",
            "/link.txt",
            "/%00",
            "/missing",
            "/models/",
            "/%zz",
            "secret.txt",
        ] {
            assert_eq!(status(address, target), "404", "{target}");
        }
        assert_eq!(status(address, "/models"), "301");
        assert!(ask(address, "nonsense").0.starts_with("HTTP/1.1 400"));
    }

    #[test]
    fn a_busy_port_is_passed_over() {
        let folder = std::env::temp_dir();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let server = Server::bind(&folder, port, true).unwrap();
        assert!(server.port > port);
        assert_eq!(server.url(), format!("http://localhost:{}/", server.port));
    }
}
