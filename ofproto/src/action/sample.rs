//! `sample(...)`: flow samples to collectors. Source: ovs-actions(7), "The sample action"; layouts `struct
//! nx_action_sample` and `nx_action_sample2`, OVS `lib/ofp-actions.c`.

use bytes::{BufMut, BytesMut};

use super::nicira::{SAMPLE, SAMPLE2, SAMPLE3};
use super::{Action, open_nx};
use crate::error::{DecodeError, EncodeError};
use crate::wire::Reader;

/// Port of a sample that names none.
const NO_PORT: u16 = 0xffff;

/// `sample(...)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SampleAction {
    /// How many of 65,535 packets.
    pub probability: u16,
    /// Row of `Flow_Sample_Collector_Set` in the database.
    pub collector_set_id: u32,
    /// Observation domain.
    pub obs_domain_id: u32,
    /// Observation point.
    pub obs_point_id: u32,
    /// The port that is sampled, in the 16 bits of a Nicira action; `None` for none.
    pub sampling_port: Option<u16>,
    /// Which way the packet goes there: 0 whatever, 1 in, 2 out.
    pub direction: u8,
}

impl SampleAction {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let subtype = match (self.direction, self.sampling_port) {
            (0, None) => SAMPLE,
            (0, Some(_)) => SAMPLE2,
            _ => SAMPLE3,
        };
        let length = open_nx(out, "sample", subtype);
        out.put_u16(self.probability);
        out.put_u32(self.collector_set_id);
        out.put_u32(self.obs_domain_id);
        out.put_u32(self.obs_point_id);
        if subtype != SAMPLE {
            out.put_u16(self.sampling_port.unwrap_or(NO_PORT));
            out.put_u8(self.direction);
        }
        length.close_padded(out)
    }

    pub(super) fn decode(
        body: &mut Reader<'_>,
        subtype: u16,
    ) -> Result<Option<Action>, DecodeError> {
        let mut sample = Self {
            probability: body.u16("probability")?,
            collector_set_id: body.u32("collector set")?,
            obs_domain_id: body.u32("observation domain")?,
            obs_point_id: body.u32("observation point")?,
            sampling_port: None,
            direction: 0,
        };
        if subtype != SAMPLE {
            sample.sampling_port = Some(body.u16("sampling port")?).filter(|port| *port != NO_PORT);
            sample.direction = body.u8("direction")?;
        }
        Ok(Some(Action::Sample(sample)))
    }
}
