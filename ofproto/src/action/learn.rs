//! `learn(...)`: a flow made from the packet. Source: ovs-actions(7), "The learn action"; layouts `struct
//! nx_action_learn` and `nx_action_learn2`, OVS `lib/ofp-actions.c`.

use bytes::{BufMut, Bytes, BytesMut};

use super::nicira::{LEARN, LEARN2};
use super::subfield::{Subfield, check_run, get_header, put_header};
use super::{Action, open_nx};
use crate::error::{DecodeError, EncodeError};
use crate::oxm::Field;
use crate::types::DEFAULT_PRIORITY;
use crate::wire::Reader;

/// Bits of [`LearnAction::flags`].
pub mod learn_flags {
    /// Tell of the learned flow's end.
    pub const SEND_FLOW_REM: u16 = 1;
    /// Learned flows end with the flow that learned them.
    pub const DELETE_LEARNED: u16 = 2;
    /// Write to [`LearnAction::result`](super::LearnAction::result) whether there was room.
    pub const WRITE_RESULT: u16 = 4;
}

const IMMEDIATE: u16 = 1 << 13;
const DST_MATCH: u16 = 0;
const DST_LOAD: u16 = 1;
const DST_OUTPUT: u16 = 2;

/// `learn(...)`.
///
/// Units: timeouts in seconds, 0 for none.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LearnAction {
    /// Ends the learned flow after this time without a packet.
    pub idle_timeout: u16,
    /// Ends the learned flow after this time.
    pub hard_timeout: u16,
    /// The higher wins.
    pub priority: u16,
    /// The learned flow's cookie.
    pub cookie: u64,
    /// Bits of [`learn_flags`]; `WRITE_RESULT` follows from `result`.
    pub flags: u16,
    /// The table of the learned flow.
    pub table: u8,
    /// The idle timeout once a TCP connection ends.
    pub fin_idle_timeout: u16,
    /// The hard timeout once a TCP connection ends.
    pub fin_hard_timeout: u16,
    /// Most flows with this cookie in this table, 0 for any number.
    pub limit: u32,
    /// The bit that tells whether the flow was learned.
    pub result: Option<Subfield>,
    /// What the learned flow matches and does.
    pub specs: Vec<LearnSpec>,
}

impl Default for LearnAction {
    fn default() -> Self {
        Self {
            idle_timeout: 0,
            hard_timeout: 0,
            priority: DEFAULT_PRIORITY,
            cookie: 0,
            flags: 0,
            table: 1,
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            limit: 0,
            result: None,
            specs: Vec::new(),
        }
    }
}

/// Where a [`LearnSpec`] takes its bits from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum LearnSource {
    /// These, as many bytes as hold the bits and an even number of them.
    Immediate(Bytes),
    /// The packet: a field and its first bit.
    Field(Field, u16),
}

/// What a [`LearnSpec`] does with its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum LearnTarget {
    /// The learned flow matches them in this field, from this bit on.
    Match(Field, u16),
    /// The learned flow writes them to this field, from this bit on.
    Load(Field, u16),
    /// The learned flow sends packets to the port they say.
    Output,
}

/// One part of a learned flow.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LearnSpec {
    /// Number of bits, 1 to 1023 (0x3ff).
    pub bits: u16,
    /// Where they come from.
    pub source: LearnSource,
    /// Where they go.
    pub target: LearnTarget,
}

/// Bytes of an immediate of so many bits.
pub(crate) const fn immediate_len(bits: u16) -> usize {
    (bits as usize).div_ceil(16) * 2
}

impl LearnSpec {
    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let bits = self.bits;
        if bits == 0 || bits > 0x7ff {
            return Err(EncodeError::TooLarge {
                what: "learn bits",
                value: bits.into(),
                limit: 0x7ff,
            });
        }
        let target = match self.target {
            LearnTarget::Match(..) => DST_MATCH,
            LearnTarget::Load(..) => DST_LOAD,
            LearnTarget::Output => DST_OUTPUT,
        } << 11;
        match &self.source {
            LearnSource::Immediate(bytes) => {
                if bytes.len() != immediate_len(bits) {
                    return Err(EncodeError::TooLong {
                        what: "learn immediate",
                        length: bytes.len(),
                        limit: immediate_len(bits),
                    });
                }
                out.put_u16(IMMEDIATE | target | bits);
                out.put_slice(bytes);
            }
            LearnSource::Field(field, offset) => {
                check_run(*field, *offset, bits)?;
                out.put_u16(target | bits);
                put_header(out, *field);
                out.put_u16(*offset);
            }
        }
        match self.target {
            LearnTarget::Match(field, offset) | LearnTarget::Load(field, offset) => {
                check_run(field, offset, bits)?;
                put_header(out, field);
                out.put_u16(offset);
            }
            LearnTarget::Output => {}
        }
        Ok(())
    }

    fn decode(header: u16, body: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let bits = header & 0x7ff;
        let source = if header & IMMEDIATE != 0 {
            LearnSource::Immediate(body.sub("learn immediate", immediate_len(bits))?.bytes())
        } else {
            LearnSource::Field(get_header(body)?, body.u16("learn offset")?)
        };
        let target = match (header >> 11) & 3 {
            DST_MATCH => LearnTarget::Match(get_header(body)?, body.u16("learn offset")?),
            DST_LOAD => LearnTarget::Load(get_header(body)?, body.u16("learn offset")?),
            DST_OUTPUT => LearnTarget::Output,
            _ => return Ok(None),
        };
        let known = header & !(IMMEDIATE | 0x1fff) == 0 && bits > 0;
        let fits = |field, offset| check_run(field, offset, bits).is_ok();
        let known = known
            && match source {
                LearnSource::Immediate(_) => true,
                LearnSource::Field(field, offset) => fits(field, offset),
            }
            && match target {
                LearnTarget::Match(field, offset) | LearnTarget::Load(field, offset) => {
                    fits(field, offset)
                }
                LearnTarget::Output => true,
            };
        Ok(known.then_some(Self { bits, source, target }))
    }
}

impl LearnAction {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let long = self.limit != 0 || self.result.is_some();
        let length = open_nx(out, "learn", if long { LEARN2 } else { LEARN });
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u64(self.cookie);
        let result = if self.result.is_some() { learn_flags::WRITE_RESULT } else { 0 };
        out.put_u16((self.flags & !learn_flags::WRITE_RESULT) | result);
        out.put_u8(self.table);
        out.put_u8(0);
        out.put_u16(self.fin_idle_timeout);
        out.put_u16(self.fin_hard_timeout);
        if long {
            out.put_u32(self.limit);
            out.put_u16(self.result.map_or(0, |result| result.offset));
            out.put_u16(0);
            if let Some(result) = self.result {
                result.check(1)?;
                put_header(out, result.field);
            }
        }
        self.specs.iter().try_for_each(|spec| spec.encode(out))?;
        length.close_padded(out)
    }

    pub(super) fn decode(body: &mut Reader<'_>, long: bool) -> Result<Option<Action>, DecodeError> {
        let mut learn = Self {
            idle_timeout: body.u16("idle timeout")?,
            hard_timeout: body.u16("hard timeout")?,
            priority: body.u16("priority")?,
            cookie: body.u64("cookie")?,
            flags: body.u16("learn flags")?,
            table: body.u8("table")?,
            ..Self::default()
        };
        body.skip("learn padding", 1)?;
        learn.fin_idle_timeout = body.u16("fin_idle_timeout")?;
        learn.fin_hard_timeout = body.u16("fin_hard_timeout")?;
        let writes = learn.flags & learn_flags::WRITE_RESULT != 0;
        if long {
            learn.limit = body.u32("learn limit")?;
            let offset = body.u16("result offset")?;
            body.skip("learn padding", 2)?;
            if writes {
                let field = get_header(body)?;
                learn.result = Some(Subfield { field, offset, bits: 1 });
            } else if offset != 0 {
                return Ok(None);
            }
        } else if writes {
            return Ok(None);
        }
        learn.flags &= !learn_flags::WRITE_RESULT;
        while body.len() >= 2 {
            let header = body.u16("learn spec")?;
            if header == 0 {
                break;
            }
            let Some(spec) = LearnSpec::decode(header, body)? else { return Ok(None) };
            learn.specs.push(spec);
        }
        let written = long == (learn.limit != 0 || learn.result.is_some());
        Ok((written && body.len() < 8).then_some(Action::Learn(learn)))
    }
}
