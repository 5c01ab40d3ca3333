//! From a bare stream to a switch that speaks OpenFlow 1.3.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{ConnError, Options};
use crate::config::SwitchConfig;
use crate::error_msg::ErrorMsg;
use crate::features::FeaturesReply;
use crate::header::Header;
use crate::hello::Hello;
use crate::message::{Message, kind};
use crate::types::{NX, VERSION};
use crate::wire::Reader;

/// xids of the handshake; those of requests begin behind.
const HELLO_XID: u32 = 1;
const FEATURES_XID: u32 = 2;
const CONFIG_XID: u32 = 3;
const FORMAT_XID: u32 = 4;
const CONTROLLER_XID: u32 = 5;

/// Nicira messages of the handshake. Source: OVS `include/openflow/nicira-ext.h`.
const SET_PACKET_IN_FORMAT: u32 = 16;
const SET_CONTROLLER_ID: u32 = 20;
/// `NXPIF_NXT_PACKET_IN2`: with userdata and continuation.
const PACKET_IN2: u32 = 2;

/// Messages other than the awaited ones that may come while shaking hands; a switch that sends more is not one.
const MAX_EARLY: usize = 1024;

/// A stream behind its handshake.
pub(super) struct Shaken<S> {
    pub(super) stream: S,
    /// Read, but not yet framed.
    pub(super) buffer: BytesMut,
    /// Frames that came early.
    pub(super) early: Vec<Bytes>,
    pub(super) features: FeaturesReply,
}

/// Takes a whole frame off the front of a buffer.
///
/// Errors: [`ConnError::Framing`] for a length no message can have.
pub(super) fn split_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, ConnError> {
    let Some(head) = buffer.first_chunk::<{ Header::LEN }>() else { return Ok(None) };
    let header = Header::decode(*head).map_err(ConnError::Framing)?;
    let length = usize::from(header.length);
    if buffer.len() < length {
        return Ok(None);
    }
    Ok(Some(buffer.split_to(length).freeze()))
}

pub(super) async fn shake<S>(stream: S, options: &Options) -> Result<Shaken<S>, ConnError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut shake = Shake { stream, buffer: BytesMut::new(), early: Vec::new() };
    shake.send(&Message::Hello(Hello::default()), HELLO_XID).await?;
    let hello = shake.await_hello().await?;
    if !hello.offers(VERSION) {
        let reason = format!("it offers {hello:?}");
        return Err(ConnError::NoCommonVersion { reason });
    }
    shake.send(&Message::FeaturesRequest, FEATURES_XID).await?;
    let features = shake.await_features().await?;
    let config = SwitchConfig { flags: options.fragments, miss_send_len: options.miss_send_len };
    shake.send(&Message::SetConfig(config), CONFIG_XID).await?;
    // In this order: SET_CONFIG sets what a packet-in carries. A refusal comes as an event under these xids.
    if options.packet_in2 {
        let body = Bytes::copy_from_slice(&PACKET_IN2.to_be_bytes());
        shake.send(&nicira(SET_PACKET_IN_FORMAT, body), FORMAT_XID).await?;
    }
    if options.controller_id != 0 {
        let [high, low] = options.controller_id.to_be_bytes();
        let body = Bytes::copy_from_slice(&[0, 0, 0, 0, 0, 0, high, low]);
        shake.send(&nicira(SET_CONTROLLER_ID, body), CONTROLLER_XID).await?;
    }
    let Shake { stream, buffer, early } = shake;
    Ok(Shaken { stream, buffer, early, features })
}

fn nicira(typ: u32, body: Bytes) -> Message {
    Message::Experimenter { experimenter: NX, typ, body }
}

struct Shake<S> {
    stream: S,
    buffer: BytesMut,
    early: Vec<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Shake<S> {
    async fn send(&mut self, message: &Message, xid: u32) -> Result<(), ConnError> {
        let mut out = BytesMut::new();
        message.encode(xid, &mut out)?;
        self.stream.write_all(&out).await?;
        Ok(self.stream.flush().await?)
    }

    async fn frame(&mut self) -> Result<Bytes, ConnError> {
        loop {
            if let Some(frame) = split_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ConnError::Eof);
            }
        }
    }

    async fn await_hello(&mut self) -> Result<Hello, ConnError> {
        let frame = self.frame().await?;
        // A peer without a common version may say so in a version of its own.
        if let Some(error) = hello_failed(&frame) {
            return Err(ConnError::NoCommonVersion { reason: error.to_string() });
        }
        match Message::decode(&frame)? {
            (_, Message::Hello(hello)) => Ok(hello),
            (_, other) => Err(super::unexpected("hello", &other)),
        }
    }

    async fn await_features(&mut self) -> Result<FeaturesReply, ConnError> {
        loop {
            let frame = self.frame().await?;
            if let Some(error) = hello_failed(&frame) {
                return Err(ConnError::NoCommonVersion { reason: error.to_string() });
            }
            match Message::decode(&frame) {
                Ok((FEATURES_XID, Message::FeaturesReply(features))) => return Ok(features),
                Ok((FEATURES_XID, Message::Error(error))) => {
                    let (xid, request) = (FEATURES_XID, kind::FEATURES_REQUEST);
                    return Err(ConnError::Refused { xid, request, error });
                }
                Ok((xid, Message::EchoRequest(data))) => {
                    self.send(&Message::EchoReply(data), xid).await?;
                }
                // Everything else is for the driver.
                _ if self.early.len() < MAX_EARLY => self.early.push(frame),
                _ => return Err(ConnError::Timeout { what: "features reply" }),
            }
        }
    }
}

/// The refusal of our HELLO, whatever the version of the frame.
fn hello_failed(frame: &Bytes) -> Option<ErrorMsg> {
    let mut reader = Reader::new(frame);
    let header = Header::decode(reader.array("header").ok()?).ok()?;
    if header.typ != kind::ERROR {
        return None;
    }
    ErrorMsg::decode_body(&mut reader).ok().filter(|error| error.typ == 0)
}
