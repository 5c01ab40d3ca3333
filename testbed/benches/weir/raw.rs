//! The least an OpenFlow client can do: bytes that were made before, and replies that are only counted. What is slower
//! than this, is slower by its own doing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use rust_openflow::{FlowStatsRequest, Hello, Message, MultipartRequest};

/// The xid that ends a wait.
const LAST: u32 = 0x7fff_ffff;
/// A switch that says nothing for so long will not say anything.
const SILENCE: Duration = Duration::from_secs(60);
const ERROR: u8 = 1;
const MULTIPART_REPLY: u8 = 19;
const BARRIER_REPLY: u8 = 21;

/// A connection to a switch, hands shaken.
pub(crate) struct Raw {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Raw {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connecting to {}", socket.display()))?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut raw = Self { stream, buffer: BytesMut::new() };
        raw.stream.write_all(&encode(&Message::Hello(Hello::default()), 1)?)?;
        raw.frame()?;
        Ok(raw)
    }

    /// Sends bytes and a barrier, while replies are read; the time until the barrier's reply.
    pub(crate) fn pipeline(&mut self, bytes: &[u8]) -> Result<Duration> {
        let barrier = encode(&Message::BarrierRequest, LAST)?;
        let mut writer = self.stream.try_clone()?;
        thread::scope(|scope| {
            let begun = Instant::now();
            let writing = scope.spawn(move || {
                writer.write_all(bytes)?;
                writer.write_all(&barrier)
            });
            loop {
                let frame = self.frame()?;
                match (kind(&frame), xid(&frame)) {
                    (BARRIER_REPLY, LAST) => break,
                    (ERROR, xid) => bail!("the switch refused the message {xid}"),
                    _ => {}
                }
            }
            let took = begun.elapsed();
            match writing.join() {
                Ok(written) => written.context("writing to the switch")?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            Ok(took)
        })
    }

    /// Asks for all flows and reads the reply without looking at it, but for its frames.
    pub(crate) fn dump(&mut self) -> Result<(Duration, Vec<Bytes>)> {
        let request = MultipartRequest::Flow(FlowStatsRequest::default());
        let request = encode(&Message::MultipartRequest(request), LAST)?;
        let begun = Instant::now();
        self.stream.write_all(&request)?;
        let mut parts = Vec::new();
        loop {
            let frame = self.frame()?;
            match (kind(&frame), xid(&frame)) {
                (MULTIPART_REPLY, LAST) => {}
                (ERROR, xid) => bail!("the switch refused the message {xid}"),
                _ => continue,
            }
            // bit 0 of the flags behind header and type: more to come
            let more = frame.get(11).is_some_and(|flags| flags & 1 == 1);
            parts.push(frame);
            if !more {
                return Ok((begun.elapsed(), parts));
            }
        }
    }

    fn frame(&mut self) -> Result<Bytes> {
        const CHUNK: usize = 128 << 10;
        loop {
            if let Some([_, _, high, low]) = self.buffer.first_chunk::<4>() {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length < 8 {
                    bail!("a frame of {length} bytes");
                }
                if self.buffer.len() >= length {
                    return Ok(self.buffer.split_to(length).freeze());
                }
            }
            let had = self.buffer.len();
            self.buffer.resize(had + CHUNK, 0);
            let read = self.stream.read(self.buffer.get_mut(had..).unwrap_or_default());
            let n = read.as_ref().map_or(0, |n| *n);
            self.buffer.truncate(had + n);
            if read.context("reading from the switch")? == 0 {
                bail!("the switch hung up");
            }
        }
    }
}

fn kind(frame: &Bytes) -> u8 {
    frame.get(1).copied().unwrap_or_default()
}

fn xid(mut frame: &[u8]) -> u32 {
    frame.advance(4.min(frame.len()));
    frame.try_get_u32().unwrap_or_default()
}

/// One message as bytes.
pub(crate) fn encode(message: &Message, xid: u32) -> Result<Bytes> {
    let mut out = BytesMut::new();
    message.encode(xid, &mut out)?;
    Ok(out.freeze())
}
