//! What an HTTP answer promises: its status and headers, read strictly and checked against the request.
//!
//! Servers and proxies are not trusted: a header that is present must make sense, and it must fit the
//! other headers and the earlier answers for the same file.

/// The longest address that a message shows, in characters.
const SHOWN_ADDRESS: usize = 300;

/// What a server said before the body. Headers are kept as they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// HTTP status.
    pub status: u16,
    /// The last address, if there were redirects.
    pub redirected_to: Option<String>,
    /// The answer comes from another origin, so that a header that is `None` may have been sent.
    pub headers_hidden: bool,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Length`.
    pub content_length: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Accept-Ranges`.
    pub accept_ranges: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
    /// `Retry-After`, in seconds from now.
    pub retry_after_s: Option<u32>,
}

/// Which bytes of the file a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    /// Offset in the file of the first byte.
    pub(super) start: u64,
    /// Offset behind the last byte, if the server announced it.
    pub(super) end: Option<u64>,
    /// The body ends there and not later. Another origin may hide `Content-Encoding`; the length that it announces may
    /// then be that of the encoded body, and the browser delivers more bytes.
    pub(super) exact: bool,
    /// The server may have sent less than the rest of the file on purpose (status 206).
    pub(super) partial: bool,
    /// The server is known to answer range requests.
    pub(super) ranges: bool,
}

/// What identifies one version of the file on the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Size of the whole file in bytes.
    pub(super) total: Option<u64>,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// An answer with a status of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) version: Version,
}

/// `Content-Range: bytes FIRST-LAST/TOTAL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContentRange {
    /// First byte, and the byte behind the last one. `None` for `bytes */TOTAL`.
    span: Option<(u64, u64)>,
    total: Option<u64>,
}

impl Answer {
    /// Reads an answer of status 200 or 206 to a request for the bytes from `asked` to the end.
    ///
    /// # Errors
    /// What the server did wrong, as a phrase.
    pub(super) fn read(head: &Head, asked: u64, known_total: Option<u64>) -> Result<Self, String> {
        let encoding = head.content_encoding.as_deref().map(str::trim).unwrap_or_default();
        let encoded = !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity");
        let length = match &head.content_length {
            Some(text) => Some(number(text).ok_or_else(|| format!("it sent Content-Length: {text}"))?),
            None => None,
        };
        let mut version = Version {
            total: None,
            // The tag of an encoded form is another one than that of the file itself.
            etag: head.etag.clone().filter(|_| !encoded),
            last_modified: head.last_modified.clone(),
        };
        let accepts = head.accept_ranges.as_deref().is_some_and(|unit| unit.trim() == "bytes");
        if head.status == 200 {
            // The length of an encoded body is not the length of the file.
            let end = length.filter(|_| !encoded);
            let exact = !head.headers_hidden || head.content_encoding.is_some();
            version.total = end.filter(|_| exact);
            let body = Body { start: 0, end, exact, partial: false, ranges: asked == 0 && accepts };
            return Ok(Answer { body, version });
        }
        if encoded {
            return Err(format!("it sent a part of a file in the encoding {encoding}"));
        }
        if head.content_type.as_deref().is_some_and(|kind| kind.trim_start().starts_with("multipart/")) {
            return Err("it sent several parts in one answer".to_owned());
        }
        let Some(text) = &head.content_range else {
            if !head.headers_hidden {
                return Err("it sent a part of the file without Content-Range".to_owned());
            }
            // What cannot be seen can only be compared with the length.
            let end = length.and_then(|length| asked.checked_add(length));
            if let (Some(end), Some(total)) = (end, known_total)
                && end > total
            {
                return Err(format!("it sent {} bytes from byte {asked} of {total}", end - asked));
            }
            return Ok(Answer {
                body: Body { start: asked, end, exact: true, partial: true, ranges: true },
                version,
            });
        };
        let range =
            ContentRange::parse(text).ok_or_else(|| format!("it sent Content-Range: {}", shown(text)))?;
        let Some((start, end)) = range.span else {
            return Err(format!("it sent Content-Range: {} with status 206", shown(text)));
        };
        if start > asked {
            return Err(format!("it sent the bytes from {start} on instead of those from {asked} on"));
        }
        if length.is_some_and(|length| length != end - start) {
            return Err(format!("its Content-Length and its Content-Range ({}) differ", shown(text)));
        }
        version.total = range.total;
        // A server that starts elsewhere than it was told is not asked to jump again.
        Ok(Answer {
            body: Body { start, end: Some(end), exact: true, partial: true, ranges: start == asked },
            version,
        })
    }
}

impl Version {
    /// What differs between two answers, as a phrase; `None` if they may be of the same file.
    pub(super) fn difference(&self, later: &Version) -> Option<String> {
        if let (Some(a), Some(b)) = (self.total, later.total)
            && a != b
        {
            return Some(format!("it had {a} bytes and now has {b}"));
        }
        match (&self.etag, &later.etag) {
            (Some(a), Some(b)) if opaque(a) == opaque(b) => None,
            (Some(a), Some(b)) => Some(format!("its ETag was {} and is {}", shown(a), shown(b))),
            _ => match (&self.last_modified, &later.last_modified) {
                (Some(a), Some(b)) if a != b => {
                    Some(format!("its Last-Modified was {} and is {}", shown(a), shown(b)))
                }
                _ => None,
            },
        }
    }

    /// Takes over what a later answer of the same file says in addition.
    pub(super) fn complete(&mut self, later: Version) {
        self.total = self.total.or(later.total);
        self.etag = self.etag.take().or(later.etag);
        self.last_modified = self.last_modified.take().or(later.last_modified);
    }
}

/// A tag without what marks another form of the same file: `W/` in front, and behind it the encoding, as servers add it
/// (`-gzip`).
fn opaque(tag: &str) -> &str {
    let tag = tag.trim().trim_start_matches("W/").trim_matches('"');
    let encodings = ["gzip", "br", "zstd", "deflate"];
    encodings.iter().find_map(|encoding| tag.strip_suffix(encoding)?.strip_suffix('-')).unwrap_or(tag)
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (span, total) = rest.split_once('/')?;
        let total = match total.trim() {
            "*" => None,
            digits => Some(number(digits)?),
        };
        let span = match span.trim() {
            "*" => None,
            span => {
                let (first, last) = span.split_once('-')?;
                let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
                if end <= first || total.is_some_and(|total| end > total) {
                    return None;
                }
                Some((first, end))
            }
        };
        Some(ContentRange { span, total })
    }
}

/// The size of the file that an answer of status 416 names in `Content-Range: bytes */TOTAL`.
pub(super) fn size_of_416(head: &Head) -> Option<u64> {
    head.content_range.as_deref().and_then(ContentRange::parse).and_then(|range| range.total)
}

/// Digits only, as the grammar of HTTP has it: no sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// An untrusted text, short enough for a message and on one line.
fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

/// An address for messages: without user name, password, query and fragment, which may hold secrets, and
/// without the contents of a `data:` address.
pub(super) fn shown_address(url: &str) -> String {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    if scheme.eq_ignore_ascii_case("data") {
        return "data:…".to_owned();
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, has_query) = match rest.split_once('?') {
        Some((path, _)) => (path, true),
        None => (rest, false),
    };
    let path = match path.strip_prefix("//") {
        Some(after) => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("//{host}{path}")
        }
        None => path.to_owned(),
    };
    let mut shown: String = path.chars().take(SHOWN_ADDRESS).collect();
    if path.chars().nth(SHOWN_ADDRESS).is_some() {
        shown.push('…');
    }
    let colon = if scheme.is_empty() { "" } else { ":" };
    format!("{scheme}{colon}{shown}{}", if has_query { "?…" } else { "" })
}
