//! Actions: the standard ones, and the Nicira extensions of Open vSwitch.
//!
//! An action this crate has no name for, or one that OVS would write differently, is [`Action::Unknown`] and
//! encodes to the bytes it came from.

mod controller;
mod ct;
mod encap;
mod learn;
pub(crate) mod link;
mod nicira;
mod sample;
mod standard;
mod subfield;

use bytes::{BufMut, Bytes, BytesMut};

pub use controller::ControllerAction;
pub use ct::{CtAction, NatAction, NatRange};
pub use encap::{EncapAction, EncapProperty, packet_type};
pub(crate) use learn::immediate_len;
pub use learn::{LearnAction, LearnSource, LearnSpec, LearnTarget, learn_flags};
pub use link::{BundleAction, MultipathAction};
pub use sample::SampleAction;
pub use subfield::Subfield;

use crate::error::{DecodeError, EncodeError};
use crate::oxm::{Field, FieldMatch, WideField};
use crate::types::NX;
use crate::wire::{Length, Reader};

/// How deep actions are looked into (ct inside ct, clone inside clone): beyond it they stay [`Action::Unknown`], so
/// that a peer cannot make the decoder recurse without end. OVS itself writes at most two levels.
const MAX_DEPTH: u8 = 8;

/// Type of an action that carries an experimenter number.
const EXPERIMENTER: u16 = 0xffff;

/// One action.
///
/// Source: OpenFlow 1.3, "Action Structures"; ovs-actions(7) and OVS `lib/ofp-actions.c` for the Nicira actions.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Action {
    /// To a port. Units: `max_len` in bytes, of use only towards the controller.
    Output {
        /// The port, or one of [`crate::types::port`].
        port: u32,
        /// Bytes of the packet a packet-in carries; 0xffff the whole.
        max_len: u16,
    },
    /// To the port a field holds.
    OutputReg {
        /// The field.
        src: Field,
        /// First bit, 0 = least significant.
        offset: u16,
        /// Number of bits.
        bits: u16,
        /// Bytes of the packet a packet-in carries.
        max_len: u16,
    },
    /// To a port, with the packet cut short.
    OutputTrunc {
        /// The port, in the 16 bits of a Nicira action.
        port: u16,
        /// Bytes that are left of the packet, 14 at least.
        max_len: u32,
    },
    /// To a group.
    Group(u32),
    /// Chooses the queue for later outputs.
    SetQueue(u32),
    /// Chooses the default queue again.
    PopQueue,
    /// A new VLAN header of this EtherType.
    PushVlan(u16),
    /// Without the outer VLAN header.
    PopVlan,
    /// A new MPLS header of this EtherType.
    PushMpls(u16),
    /// Without the outer MPLS header; what is below has this EtherType.
    PopMpls(u16),
    /// Sets the time to live of the outer MPLS header.
    SetMplsTtl(u8),
    /// Takes one from the time to live of the outer MPLS header.
    DecMplsTtl,
    /// Sets the time to live.
    SetNwTtl(u8),
    /// Takes one from the time to live.
    DecNwTtl,
    /// Takes one from the time to live; a packet that thereby expires goes to the controllers with these ids.
    DecNwTtlIds(Vec<u16>),
    /// Takes one from the time to live of a Network Service Header.
    DecNshTtl,
    /// Gives the flow other timeouts once it sees a TCP FIN or RST. Units: seconds, 0 leaves it as it is.
    FinTimeout {
        /// Idle timeout.
        idle: u16,
        /// Hard timeout.
        hard: u16,
    },
    /// Sets a whole field. A mask other than all ones has no encoding in OpenFlow 1.3.
    SetField(FieldMatch),
    /// Sets tunnel metadata of more than 16 bytes. One with a mask has no encoding in OpenFlow 1.3.
    SetWideField(WideField),
    /// Sets a run of bits.
    RegLoad {
        /// The field.
        dst: Field,
        /// First bit, 0 = least significant.
        offset: u8,
        /// Number of bits, 1 to 64.
        bits: u8,
        /// The value.
        value: u64,
    },
    /// Sets some bits of a field that a [`Action::RegLoad`] does not reach: tunnel metadata, fields of experimenters.
    RegLoad2(FieldMatch),
    /// Sets tunnel metadata of more than 16 bytes, or some bits of it.
    RegLoad2Wide(WideField),
    /// Puts a run of bits on the stack.
    Push(Subfield),
    /// Takes a run of bits from the stack.
    Pop(Subfield),
    /// Removes a field from the packet; tunnel metadata only.
    DeleteField(Field),
    /// Writes to a bit whether the packet is larger than this. Units: bytes.
    CheckPktLarger {
        /// The size.
        length: u16,
        /// The bit.
        dst: Subfield,
    },
    /// Sets the tunnel id, in the old form of Nicira. OVS gives back a [`Action::SetField`].
    SetTunnel(u32),
    /// Sets the tunnel id, in the old form of Nicira. OVS gives back a [`Action::SetField`].
    SetTunnel64(u64),
    /// Copies a run of bits, in the form of the ONF's extension 320.
    CopyField {
        /// From here.
        src: Subfield,
        /// To here.
        dst: Subfield,
    },
    /// Chooses a link by a hash of the packet.
    Multipath(MultipathAction),
    /// Chooses a port by a hash of the packet.
    Bundle(BundleAction),
    /// Adds a flow made from the packet.
    Learn(LearnAction),
    /// Sends samples to collectors.
    Sample(SampleAction),
    /// A new outer header.
    Encap(EncapAction),
    /// Without the outer header; what is below is of this [`packet_type`].
    Decap(u32),
    /// Copies a run of bits.
    RegMove {
        /// Number of bits.
        bits: u16,
        /// From this field.
        src: Field,
        /// First bit there.
        src_offset: u16,
        /// To this field.
        dst: Field,
        /// First bit there.
        dst_offset: u16,
    },
    /// Looks the packet up again, then goes on.
    Resubmit {
        /// Ingress port for the look-up, [`crate::types::port::IN_PORT_16`] for the present one.
        port: u16,
        /// The table, 255 for the present one.
        table: u8,
    },
    /// The same, with the five-tuple the connection tracker knows.
    ResubmitCt {
        /// Ingress port for the look-up, [`crate::types::port::IN_PORT_16`] for the present one.
        port: u16,
        /// The table, 255 for the present one.
        table: u8,
    },
    /// Looks the packet up again in the present table, in the old form. OVS gives back a [`Action::Resubmit`].
    ResubmitPort(u16),
    /// `conjunction(id, k/n)`: the flow satisfies clause `k` of `n` of conjunction `id`.
    ///
    /// Units: `clause` counts from 0, as on the wire; text counts from 1, as ovs-ofctl does.
    Conjunction {
        /// The conjunction, as the field conj_id names it.
        id: u32,
        /// The clause, from 0.
        clause: u8,
        /// Clauses of the conjunction, 2 to 64.
        n_clauses: u8,
    },
    /// Through the connection tracker.
    Ct(CtAction),
    /// Address translation; inside [`CtAction::actions`] only.
    Nat(NatAction),
    /// Forgets what the connection tracker said.
    CtClear,
    /// Text for people. OVS keeps 6 + 8k bytes; shorter text comes back with zeros behind it.
    Note(Bytes),
    /// To the controller, with the options of the Nicira actions.
    Controller(ControllerAction),
    /// Carries these out on a copy.
    Clone(Vec<Self>),
    /// No further actions of this list.
    Exit,
    /// Any other action: type and everything behind the length (for type 0xffff beginning with the experimenter).
    Unknown {
        /// Action type.
        typ: u16,
        /// The bytes behind type and length.
        body: Bytes,
    },
}

impl Action {
    /// To a port, without a limit of length.
    pub const fn output(port: u32) -> Self {
        Self::Output { port, max_len: 0 }
    }

    /// Sets a whole field.
    pub fn set_field(field: Field, value: u128) -> Self {
        Self::SetField(FieldMatch::exact(field, value))
    }

    /// Looks the packet up in `table`, with the present ingress port.
    pub const fn resubmit_table(table: u8) -> Self {
        Self::Resubmit { port: crate::types::port::IN_PORT_16, table }
    }

    /// A note as OVS gives it back: with zeros up to 6 + 8k bytes.
    pub fn note(text: &[u8]) -> Self {
        let mut padded = BytesMut::from(text);
        padded.put_bytes(0, nicira::note_padding(text.len()));
        Self::Note(padded.freeze())
    }

    /// Writes the action.
    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Output { .. }
            | Self::Group(_)
            | Self::SetQueue(_)
            | Self::PushVlan(_)
            | Self::PopVlan
            | Self::PushMpls(_)
            | Self::PopMpls(_)
            | Self::SetMplsTtl(_)
            | Self::DecMplsTtl
            | Self::SetNwTtl(_)
            | Self::DecNwTtl
            | Self::SetField(_)
            | Self::SetWideField(_) => standard::encode(self, out),
            Self::Ct(ct) => ct.encode(out),
            Self::Nat(nat) => nat.encode(out),
            Self::Controller(controller) => controller.encode(out),
            Self::Multipath(multipath) => multipath.encode(out),
            Self::Bundle(bundle) => bundle.encode(out),
            Self::Learn(learn) => learn.encode(out),
            Self::Sample(sample) => sample.encode(out),
            Self::Encap(encap) => encap.encode(out),
            Self::Decap(packet_type) => encap::encode_decap(*packet_type, out),
            Self::Unknown { typ, body } => {
                if !(body.len() + 4).is_multiple_of(8) {
                    let length = body.len() + 4;
                    return Err(EncodeError::Unaligned { what: "unknown action", length });
                }
                let length = Length::open(out, "unknown action", 2);
                out.put_u16(*typ);
                out.put_u16(0);
                out.put_slice(body);
                length.close(out)
            }
            _ => nicira::encode(self, out),
        }
    }

    /// Whether this is what `body`, behind type and length, says: padding may say more.
    fn writes(&self, typ: u16, body: &Reader<'_>) -> bool {
        match self {
            // The most frequent ones, which have no padding but at the end.
            Self::Output { .. } | Self::Conjunction { .. } => true,
            other => {
                let mut out = BytesMut::with_capacity(body.len() + 4);
                other.encode(&mut out).is_ok()
                    && out.get(..2) == Some(&typ.to_be_bytes()[..])
                    && out.get(4..) == Some(body.rest())
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, depth: u8) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let typ = reader.u16("action type")?;
        let length = usize::from(reader.u16("action length")?);
        let Some(rest) = length.checked_sub(4).filter(|_| length >= 8 && length % 8 == 0) else {
            return Err(DecodeError::Length { what: "action", offset, length });
        };
        let mut body = reader.sub("action", rest)?;
        let mut inner = body.clone();
        let known = if typ == EXPERIMENTER {
            nicira::decode(&mut inner, depth)
        } else {
            standard::decode(typ, &mut inner)
        };
        // A body that a named action cannot hold, or would write differently, is not an error of the list: it stays as
        // it came.
        Ok(match known {
            Ok(Some(action)) if inner.only_zeros() && action.writes(typ, &body) => action,
            _ => Self::Unknown { typ, body: body.bytes() },
        })
    }
}

/// Writes a list of actions.
pub(crate) fn encode_list(actions: &[Action], out: &mut BytesMut) -> Result<(), EncodeError> {
    actions.iter().try_for_each(|action| action.encode(out))
}

/// Reads a list of actions that fills the rest of `reader`.
pub(crate) fn decode_list(reader: &mut Reader<'_>) -> Result<Vec<Action>, DecodeError> {
    decode_nested(reader, 0)
}

fn decode_nested(reader: &mut Reader<'_>, depth: u8) -> Result<Vec<Action>, DecodeError> {
    let mut actions = Vec::with_capacity(reader.count_records(8, length_field));
    while !reader.is_empty() {
        actions.push(Action::decode(reader, depth)?);
    }
    Ok(actions)
}

/// The length field of an action or instruction, which follows its type.
pub(crate) fn length_field([_, _, high, low]: [u8; 4]) -> usize {
    usize::from(u16::from_be_bytes([high, low]))
}

/// Opens a Nicira action: type, length to come, experimenter, subtype.
fn open_nx(out: &mut BytesMut, what: &'static str, subtype: u16) -> Length {
    let length = Length::open(out, what, 2);
    out.put_u16(EXPERIMENTER);
    out.put_u16(0);
    out.put_u32(NX);
    out.put_u16(subtype);
    length
}

/// Writes a Nicira action with its padding.
fn write_nx(
    out: &mut BytesMut,
    what: &'static str,
    subtype: u16,
    body: impl FnOnce(&mut BytesMut),
) -> Result<(), EncodeError> {
    let length = open_nx(out, what, subtype);
    body(out);
    length.close_padded(out)
}
