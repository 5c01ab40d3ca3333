//! Counters of ports and of their queues.

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::wire::Reader;

/// Counters of one port; 112 bytes. All ones in a counter means that the port does not keep it.
///
/// Source: OpenFlow 1.3, "Port Statistics".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PortStats {
    /// The port.
    pub port: u32,
    /// Received packets.
    pub rx_packets: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Received bytes.
    pub rx_bytes: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Packets dropped on receipt.
    pub rx_dropped: u64,
    /// Packets dropped before sending.
    pub tx_dropped: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Frame alignment errors.
    pub rx_frame_err: u64,
    /// Overruns.
    pub rx_over_err: u64,
    /// Checksum errors.
    pub rx_crc_err: u64,
    /// Collisions.
    pub collisions: u64,
    /// Whole seconds the port has been there.
    pub duration_sec: u32,
    /// Nanoseconds beyond.
    pub duration_nsec: u32,
}

impl PortStats {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.port);
        out.put_u32(0);
        for counter in [
            self.rx_packets,
            self.tx_packets,
            self.rx_bytes,
            self.tx_bytes,
            self.rx_dropped,
            self.tx_dropped,
            self.rx_errors,
            self.tx_errors,
            self.rx_frame_err,
            self.rx_over_err,
            self.rx_crc_err,
            self.collisions,
        ] {
            out.put_u64(counter);
        }
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let port = reader.u32("port")?;
        reader.skip("port padding", 4)?;
        Ok(Self {
            port,
            rx_packets: reader.u64("received packets")?,
            tx_packets: reader.u64("sent packets")?,
            rx_bytes: reader.u64("received bytes")?,
            tx_bytes: reader.u64("sent bytes")?,
            rx_dropped: reader.u64("dropped packets")?,
            tx_dropped: reader.u64("dropped packets")?,
            rx_errors: reader.u64("receive errors")?,
            tx_errors: reader.u64("send errors")?,
            rx_frame_err: reader.u64("frame errors")?,
            rx_over_err: reader.u64("overruns")?,
            rx_crc_err: reader.u64("checksum errors")?,
            collisions: reader.u64("collisions")?,
            duration_sec: reader.u32("duration")?,
            duration_nsec: reader.u32("duration")?,
        })
    }
}

/// Counters of one queue; 40 bytes. Source: OpenFlow 1.3, "Queue Statistics".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct QueueStats {
    /// The port.
    pub port: u32,
    /// The queue.
    pub queue: u32,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Packets dropped for want of room.
    pub tx_errors: u64,
    /// Whole seconds the queue has been there.
    pub duration_sec: u32,
    /// Nanoseconds beyond.
    pub duration_nsec: u32,
}

impl QueueStats {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.port);
        out.put_u32(self.queue);
        out.put_u64(self.tx_bytes);
        out.put_u64(self.tx_packets);
        out.put_u64(self.tx_errors);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            port: reader.u32("port")?,
            queue: reader.u32("queue")?,
            tx_bytes: reader.u64("sent bytes")?,
            tx_packets: reader.u64("sent packets")?,
            tx_errors: reader.u64("send errors")?,
            duration_sec: reader.u32("duration")?,
            duration_nsec: reader.u32("duration")?,
        })
    }
}
