//! Encoded things that are kept: few allocations for many small ones.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// Size at which a piece of a snapshot is full; one object may exceed it. Units: bytes.
const PIECE: usize = 256 << 10;

/// What is kept in small parts shares allocations of this size. One lives as long as any of its parts, so that it must not
/// be large. Units: bytes.
const BLOCK: usize = 4 << 10;

/// Above this a part has an allocation of its own. Units: bytes.
const LARGE: usize = BLOCK / 4;

/// Frames of one thing; nearly always they are one piece.
pub(super) type Pieces = SmallVec<[Bytes; 1]>;

/// Where things are encoded before it is known how long they are.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    scratch: Vec<u8>,
    block: BytesMut,
}

impl Encoder {
    /// What `write` appends.
    pub(super) fn encode(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        self.write(write);
        self.keep()
    }

    /// The same, to be looked at; [`Self::keep`] keeps it.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        self.scratch.clear();
        write(&mut self.scratch);
        &self.scratch
    }

    pub(super) fn keep(&mut self) -> Bytes {
        let length = self.scratch.len();
        if length > LARGE {
            // exactly as large as it has to be
            return Bytes::copy_from_slice(&self.scratch);
        }
        if self.block.capacity() < length {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        self.block.extend_from_slice(&self.scratch);
        self.block.split().freeze()
    }

    /// The frames of several things, cut into pieces.
    pub(super) fn pieces<T>(
        &mut self,
        things: impl IntoIterator<Item = T>,
        mut write: impl FnMut(T, &mut Vec<u8>),
    ) -> Pieces {
        let mut out = Pieces::new();
        self.scratch.clear();
        for thing in things {
            write(thing, &mut self.scratch);
            if self.scratch.len() >= PIECE {
                out.push(self.keep());
                self.scratch.clear();
            }
        }
        if !self.scratch.is_empty() {
            out.push(self.keep());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_kept_is_what_was_written() {
        let mut encoder = Encoder::default();
        let lengths =
            [0, 1, 700, 5, LARGE, LARGE + 1, 3, BLOCK, BLOCK + 1, 900, 900, 900, 900, 900];
        let kept: Vec<Bytes> = (0_u8..)
            .zip(lengths)
            .map(|(n, length)| encoder.encode(|out| out.resize(length, n)))
            .collect();
        for ((n, length), kept) in (0_u8..).zip(lengths).zip(kept) {
            assert_eq!(kept, vec![n; length]);
        }
    }

    #[test]
    fn pieces_are_cut_between_things() {
        let mut encoder = Encoder::default();
        let third = PIECE / 3 + 1;
        let pieces = encoder.pieces(0..8_u8, |n, out| out.extend(vec![n; third]));
        assert_eq!(
            pieces.iter().map(Bytes::len).collect::<Vec<_>>(),
            [3 * third, 3 * third, 2 * third]
        );
        let all: Vec<u8> = pieces.concat();
        assert!((0..8).flat_map(|n| vec![n; third]).eq(all));
        assert!(encoder.pieces(0..0, |_: u8, _| {}).is_empty());
    }
}
