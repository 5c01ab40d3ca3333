//! The parts of messages on their own: a match, a list of actions, a list of instructions, as bytes.
//!
//! They are what other protocols and tools carry without a message around them, such as the input of
//! `ovs-ofctl parse-actions`.

use bytes::{Bytes, BytesMut};

use crate::action::{self, Action};
use crate::error::{DecodeError, EncodeError};
use crate::instruction::{self, Instruction};
use crate::oxm::Match;
use crate::wire::{Reader, padding};

/// Reads an `ofp_match` that fills `bytes`. The zeros that pad it to 8 bytes may be missing.
///
/// Errors: [`DecodeError`].
pub fn decode_match(bytes: &Bytes) -> Result<Match, DecodeError> {
    let missing = padding(bytes.len());
    let padded;
    let whole = if missing == 0 {
        bytes
    } else {
        let mut copy = BytesMut::from(&bytes[..]);
        copy.resize(bytes.len() + missing, 0);
        padded = copy.freeze();
        &padded
    };
    let mut reader = Reader::new(whole);
    let match_ = Match::decode(&mut reader)?;
    reader.finish("match")?;
    Ok(match_)
}

/// Writes an `ofp_match` with its padding.
///
/// Errors: [`EncodeError`]; what is in `out` then is of no use.
pub fn encode_match(match_: &Match, out: &mut BytesMut) -> Result<(), EncodeError> {
    match_.encode(out)
}

/// Reads a list of actions that fills `bytes`.
///
/// Errors: [`DecodeError`].
pub fn decode_actions(bytes: &Bytes) -> Result<Vec<Action>, DecodeError> {
    action::decode_list(&mut Reader::new(bytes))
}

/// Writes a list of actions.
///
/// Errors: [`EncodeError`]; what is in `out` then is of no use.
pub fn encode_actions(actions: &[Action], out: &mut BytesMut) -> Result<(), EncodeError> {
    action::encode_list(actions, out)
}

/// Reads a list of instructions that fills `bytes`.
///
/// Errors: [`DecodeError`].
pub fn decode_instructions(bytes: &Bytes) -> Result<Vec<Instruction>, DecodeError> {
    instruction::decode_list(&mut Reader::new(bytes))
}

/// Writes a list of instructions in the order OVS has for them.
///
/// Errors: [`EncodeError`]; what is in `out` then is of no use.
pub fn encode_instructions(list: &[Instruction], out: &mut BytesMut) -> Result<(), EncodeError> {
    instruction::encode_list(list, out)
}
