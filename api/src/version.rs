//! What the two ends may assume of each other.

/// The protocol that this build speaks. It grows when a peer must know about a change; fields that are merely added
/// leave it alone.
pub const PROTOCOL: u32 = 1;

/// The oldest protocol this build still understands.
pub const OLDEST: u32 = 1;

/// The largest message an agent or a tool may send. Units: bytes. A report on 10,000 policies is below 2 MiB.
pub const MAX_TO_CONTROLLER: usize = 4 << 20;

/// The largest message a controller sends. Units: bytes. Snapshots are cut into parts well below it, and a delta that
/// would exceed it is replaced by a snapshot; a single object cannot, as Kubernetes keeps objects below 1.5 MiB.
pub const MAX_TO_AGENT: usize = 16 << 20;

/// The peer speaks a protocol from before [`OLDEST`], or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "protocol {theirs} is too old: this build understands {OLDEST} and later; upgrade that side"
)]
pub struct TooOld {
    pub theirs: u32,
}

/// The protocol two ends use: the lower of both.
///
/// Errors: [`TooOld`]. A newer peer is never refused: it speaks the older protocol.
pub fn agree(theirs: u32) -> Result<u32, TooOld> {
    if theirs < OLDEST {
        return Err(TooOld { theirs });
    }
    Ok(theirs.min(PROTOCOL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_protocol_is_used_and_none_is_refused() {
        assert_eq!(agree(0), Err(TooOld { theirs: 0 }));
        assert_eq!(agree(PROTOCOL), Ok(PROTOCOL));
        assert_eq!(agree(PROTOCOL + 7), Ok(PROTOCOL));
    }
}
