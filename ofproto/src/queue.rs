//! Queues of a port, as they are configured.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::wire::{Length, Reader};

/// `OFPT_QUEUE_GET_CONFIG_REPLY`.
///
/// Source: OpenFlow 1.3, "Queue Configuration Messages".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct QueueConfigReply {
    /// The port that was asked for; [`port::ANY`](crate::types::port::ANY) for all.
    pub port: u32,
    /// Its queues.
    pub queues: Vec<QueueConfig>,
}

/// One queue.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct QueueConfig {
    /// The queue, counted within its port.
    pub queue: u32,
    /// The port.
    pub port: u32,
    /// Its properties.
    pub properties: Vec<QueueProperty>,
}

/// A property of a queue.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum QueueProperty {
    /// Guaranteed rate. Units: tenths of a per cent; above 1000 none.
    MinRate(u16),
    /// Allowed rate. Units: tenths of a per cent; above 1000 no limit.
    MaxRate(u16),
    /// Any other property: type and everything behind the length.
    Unknown {
        /// Property type.
        typ: u16,
        /// The bytes behind type and length.
        body: Bytes,
    },
}

const MIN_RATE: u16 = 1;
const MAX_RATE: u16 = 2;

/// Writes the request: the port, zeros.
pub(crate) fn encode_request(port: u32, out: &mut BytesMut) {
    out.put_u32(port);
    out.put_u32(0);
}

/// Reads the request: the port.
pub(crate) fn decode_request(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let port = reader.u32("port")?;
    reader.skip("queue request padding", 4)?;
    Ok(port)
}

impl QueueProperty {
    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "queue property", 2);
        let (Self::MinRate(rate) | Self::MaxRate(rate)) = self else {
            let Self::Unknown { typ, body } = self else { return Ok(()) };
            out.put_u16(*typ);
            out.put_u16(0);
            out.put_slice(body);
            return length.close(out);
        };
        out.put_u16(if matches!(self, Self::MinRate(_)) { MIN_RATE } else { MAX_RATE });
        out.put_u16(0);
        out.put_u32(0);
        out.put_u16(*rate);
        out.put_bytes(0, 6);
        length.close(out)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let typ = reader.u16("queue property")?;
        let length = usize::from(reader.u16("queue property length")?);
        let Some(rest) = length.checked_sub(4) else {
            return Err(DecodeError::Length { what: "queue property", offset, length });
        };
        let mut body = reader.sub("queue property", rest)?;
        if rest != 12 || !(MIN_RATE..=MAX_RATE).contains(&typ) {
            return Ok(Self::Unknown { typ, body: body.bytes() });
        }
        body.skip("queue property padding", 4)?;
        let rate = body.u16("queue rate")?;
        Ok(if typ == MIN_RATE { Self::MinRate(rate) } else { Self::MaxRate(rate) })
    }
}

impl QueueConfigReply {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode_request(self.port, out);
        self.queues.iter().try_for_each(|queue| {
            let length = Length::open(out, "queue", 8);
            out.put_u32(queue.queue);
            out.put_u32(queue.port);
            out.put_u16(0);
            out.put_bytes(0, 6);
            queue.properties.iter().try_for_each(|property| property.encode(out))?;
            length.close(out)
        })
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let port = decode_request(reader)?;
        let mut queues = Vec::new();
        while !reader.is_empty() {
            let offset = reader.offset();
            let (queue, port) = (reader.u32("queue")?, reader.u32("queue port")?);
            let length = usize::from(reader.u16("queue length")?);
            reader.skip("queue padding", 6)?;
            let Some(rest) = length.checked_sub(16) else {
                return Err(DecodeError::Length { what: "queue", offset, length });
            };
            let mut body = reader.sub("queue", rest)?;
            let mut properties = Vec::new();
            while !body.is_empty() {
                properties.push(QueueProperty::decode(&mut body)?);
            }
            queues.push(QueueConfig { queue, port, properties });
        }
        Ok(Self { port, queues })
    }
}
