//! The control sockets that ovs-appctl talks to, over one lasting connection.
//!
//! Source: ovs-appctl(8); OVS `lib/unixctl.c`. JSON-RPC 1.0 without framing: a reply ends where its JSON does.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The longest reply taken, in bytes: a dump of all flows of a large bridge, with room.
const MAX_REPLY_BYTES: usize = 256 << 20;

/// Why a command had no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnixCtlError {
    /// The socket cannot be reached.
    #[error("cannot connect to {path}")]
    Connect {
        /// The socket.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Reading or writing failed.
    #[error("control socket broken")]
    Io(#[from] std::io::Error),
    /// The daemon closed the socket.
    #[error("daemon closed the control socket")]
    Closed,
    /// The reply is not JSON-RPC.
    #[error("malformed reply")]
    Malformed(#[from] serde_json::Error),
    /// A reply without what a reply must have.
    #[error("reply with neither result nor error")]
    Empty,
    /// The reply to another request.
    #[error("reply to request {got} instead of {expected}")]
    WrongId {
        /// The id sent.
        expected: u64,
        /// The id that came.
        got: String,
    },
    /// A reply beyond the limit.
    #[error("reply exceeds {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The command failed.
    #[error("{method} failed: {message}")]
    Failed {
        /// The command.
        method: String,
        /// What the daemon said.
        message: String,
    },
}

/// A connection to the control socket of a daemon.
#[derive(Debug)]
pub struct UnixCtl {
    stream: UnixStream,
    buffer: Vec<u8>,
    next_id: u64,
}

impl UnixCtl {
    /// Connects to a socket such as `/var/run/openvswitch/ovs-vswitchd.PID.ctl`.
    ///
    /// Errors: [`UnixCtlError::Connect`].
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, UnixCtlError> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| UnixCtlError::Connect { path: path.display().to_string(), source })?;
        Ok(Self { stream, buffer: Vec::new(), next_id: 0 })
    }

    /// Runs a command and gives its text. A call that was dropped half way leaves the connection unusable.
    ///
    /// Errors: [`UnixCtlError::Failed`] with the daemon's words; the others when the socket is of no more use.
    pub async fn call(&mut self, method: &str, params: &[&str]) -> Result<String, UnixCtlError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"id": id, "method": method, "params": params});
        self.stream.write_all(request.to_string().as_bytes()).await?;
        let reply = self.reply().await?;
        if reply.get("id").and_then(Value::as_u64) != Some(id) {
            let got = reply.get("id").map_or_else(|| "none".to_owned(), Value::to_string);
            return Err(UnixCtlError::WrongId { expected: id, got });
        }
        if let Some(message) = reply.get("error").and_then(Value::as_str) {
            let (method, message) = (method.to_owned(), message.trim_end().to_owned());
            return Err(UnixCtlError::Failed { method, message });
        }
        match reply.get("result").and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(UnixCtlError::Empty),
        }
    }

    async fn reply(&mut self) -> Result<Value, UnixCtlError> {
        self.buffer.clear();
        let mut end = ObjectEnd::default();
        loop {
            let from = self.buffer.len();
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(UnixCtlError::Closed);
            }
            // Each byte is looked at once, however many reads a long reply takes.
            let fresh = self.buffer.get(from..).unwrap_or_default();
            if fresh.iter().any(|byte| end.reached(*byte)) {
                return Ok(serde_json::from_slice(&self.buffer)?);
            }
            if self.buffer.len() > MAX_REPLY_BYTES {
                return Err(UnixCtlError::TooLong { limit: MAX_REPLY_BYTES });
            }
        }
    }
}

/// Finds the end of a JSON object in a stream.
#[derive(Default)]
struct ObjectEnd {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl ObjectEnd {
    fn reached(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            _ if self.quoted => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}
