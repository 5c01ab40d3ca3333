//! Protobuf types <-> policy types, nowhere else.
//!
//! Writing cannot fail. Reading takes nothing for granted: an enum value, a length or a `oneof` that this build does
//! not know is a [`ConvertError`] that names the resource and the field, so that a receiver refuses that one resource
//! and applies the rest. *Absent* and *empty* stay apart (`Rule.peers`, `Rule.services`).

mod error;
mod read;
pub mod wire;
mod write;

use bytes::Bytes;
use prost::Message;
use weir_policy::ids::PolicyKey;
use weir_policy::rule::Policy;
use weir_policy::state::Change;

pub use error::{BadPolicy, Cause, ConvertError, Resource};

use crate::v1;

/// Encodes a change. Equal changes have equal bytes.
pub fn change_to_bytes(change: &Change) -> Bytes {
    let mut out = Vec::with_capacity(128);
    wire::change(&mut out, change);
    out.into()
}

/// The changes that [`wire`] put one after the other, without copying them. It ends at what is no such thing.
pub fn frames(mut piece: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = prost::encoding::decode_varint(&mut piece).ok()?;
        let length = usize::try_from(length).ok().filter(|n| *n <= piece.len())?;
        Some(piece.split_to(length))
    })
}

/// How long each change is that [`frames`] would give. Units: bytes.
pub fn frame_lengths(mut piece: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let length = prost::encoding::decode_varint(&mut piece).ok()?;
        let length = usize::try_from(length).ok()?;
        piece = piece.get(length..)?;
        Some(length)
    })
}

/// Decodes a change.
///
/// Errors: [`ConvertError`]; for a policy it carries what could be read of it. A change of a kind that this build does
/// not know is [`Cause::UnknownChange`]: a receiver passes over it.
pub fn change_from_bytes(bytes: &[u8]) -> Result<Change, ConvertError> {
    let message = v1::Change::decode(bytes).map_err(|cause| ConvertError {
        resource: Resource::Change,
        field: String::new(),
        cause: Cause::Malformed(cause),
        policy: None,
    })?;
    read::change(message)
}

/// The changes of a batch, in order, and the errors of those that cannot be understood: these cost the others nothing.
pub fn batch_from_proto(batch: &v1::Batch) -> (Vec<Change>, Vec<ConvertError>) {
    let mut changes = Vec::with_capacity(batch.changes.len());
    let mut errors = Vec::new();
    for bytes in &batch.changes {
        match change_from_bytes(bytes) {
            Ok(change) => changes.push(change),
            Err(error) => errors.push(error),
        }
    }
    (changes, errors)
}

/// A policy's key as protobuf.
pub fn key_to_proto(key: &PolicyKey) -> v1::PolicyKey {
    write::key(key)
}

/// A policy's key from protobuf.
///
/// Errors: [`ConvertError`] for a kind this build does not know and for an empty name.
pub fn key_from_proto(key: v1::PolicyKey) -> Result<PolicyKey, ConvertError> {
    read::key(key).map_err(|e| e.into_error(&Resource::PolicyKey))
}

/// A policy as protobuf.
pub fn policy_to_proto(policy: &Policy) -> v1::Policy {
    write::policy(policy)
}

/// A policy from protobuf.
///
/// Errors: [`ConvertError`], with what could be read in [`ConvertError::policy`].
pub fn policy_from_proto(policy: v1::Policy) -> Result<Policy, ConvertError> {
    read::policy(policy)
}

#[cfg(test)]
mod tests;
