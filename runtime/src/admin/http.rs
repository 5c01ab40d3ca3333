//! As much of HTTP/1.1 as one GET per connection takes.
//!
//! Source: RFC 9112.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::admin::{Response, Stream};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) known_method: bool,
    pub(super) head_only: bool,
    pub(super) path: String,
    query: String,
}

impl Request {
    /// Whether the query has this name, with a value or without.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The peer closed, or the connection broke: nobody to answer.
    Gone,
    Malformed,
    TooLarge,
    Timeout,
}

/// Reads to the end of the header, which must come within the limits.
pub(super) async fn read(
    stream: &mut dyn Stream,
    limit: usize,
    within: Duration,
) -> Result<Request, ReadError> {
    let deadline = Instant::now() + within;
    let mut received = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        if let Some(end) = end_of_header(&received) {
            let header = received.get(..end).ok_or(ReadError::Malformed)?;
            return parse(header).ok_or(ReadError::Malformed);
        }
        if received.len() >= limit {
            return Err(ReadError::TooLarge);
        }
        // a first line that cannot become a request need not be waited for
        if received.iter().take(MAX_METHOD).any(|byte| !byte.is_ascii_graphic() && *byte != b' ') {
            return Err(ReadError::Malformed);
        }
        let room = chunk.len().min(limit - received.len());
        match timeout_at(deadline, stream.read(&mut chunk[..room])).await {
            Ok(Ok(0)) if received.is_empty() => return Err(ReadError::Gone),
            Ok(Ok(0)) => return Err(ReadError::Malformed),
            Ok(Ok(count)) => received.extend_from_slice(&chunk[..count]),
            Ok(Err(_)) => return Err(ReadError::Gone),
            Err(_) => return Err(ReadError::Timeout),
        }
    }
}

/// No shorter than the longest registered method with a space.
const MAX_METHOD: usize = 8;

fn end_of_header(received: &[u8]) -> Option<usize> {
    received.windows(4).position(|window| window == b"\r\n\r\n")
}

/// `method SP origin-form SP HTTP/1.x`, and field lines of which only the form matters here.
fn parse(header: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(header).ok()?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let well_formed = words.next().is_none()
        && token(method)
        && target.starts_with('/')
        && target.bytes().all(|byte| byte.is_ascii_graphic())
        && matches!(version, "HTTP/1.0" | "HTTP/1.1");
    let fields = lines.all(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            token(name) && value.chars().all(|c| c == '\t' || !c.is_control())
        })
    });
    if !well_formed || !fields {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Request {
        known_method: matches!(method, "GET" | "HEAD"),
        head_only: method == "HEAD",
        path: path.to_owned(),
        query: query.to_owned(),
    })
}

/// Writes the response and closes. Failures are the peer's affair.
pub(super) async fn write(stream: &mut dyn Stream, response: &Response, within: Duration) {
    let mut message = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        response.status,
        reason(response.status),
        response.content_type,
        response.body.len(),
    );
    if !response.head_only {
        message.push_str(&response.body);
    }
    let sent = async {
        stream.write_all(message.as_bytes()).await?;
        stream.shutdown().await
    };
    match timeout(within, sent).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return tracing::debug!(%error, "admin response not delivered"),
        Err(_) => return tracing::debug!("admin response not taken in time"),
    }
    // closing over unread bytes would reset the connection and take the response with it
    let drained = async {
        let mut rest = [0; 1024];
        for _ in 0..MAX_DRAINED / rest.len() {
            if !matches!(stream.read(&mut rest).await, Ok(1..)) {
                break;
            }
        }
    };
    // a peer that neither sends nor closes has had its response
    let _ = timeout(LINGER.min(within), drained).await;
}

/// How long a peer that keeps the connection open is waited for after its response.
const LINGER: Duration = Duration::from_secs(1);

/// What a peer may still send after its request and be heard out. Units: bytes.
const MAX_DRAINED: usize = 1 << 16;

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let request = parse(b"GET /readyz?a=1&verbose HTTP/1.1\r\nHost: x\r\nA:").unwrap();
        assert_eq!((request.path.as_str(), request.head_only), ("/readyz", false));
        assert!(request.flag("verbose") && request.flag("a") && !request.flag("b"));
        assert!(parse(b"HEAD / HTTP/1.0").unwrap().head_only);
        assert!(!parse(b"POST / HTTP/1.1\r\nHost: x").unwrap().known_method);
    }

    #[test]
    fn malformed_requests() {
        for text in [
            "",
            "GET",
            "GET /",
            "GET / HTTP/1.1 x",
            "GET / HTTP/2",
            "GET livez HTTP/1.1",
            "GET http://h/livez HTTP/1.1",
            "G(T / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET / HTTP/1.1\r\nno colon",
            "GET / HTTP/1.1\r\n folded: x",
            "GET / HTTP/1.1\r\na: \u{1}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\na: \xff"), None);
    }
}
