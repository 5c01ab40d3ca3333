//! The home of nom and bytes: reading from a bounded slice, writing with back-patched lengths.
//!
//! A structure is sliced off by its length first and parsed inside that slice, so that a lying length can never
//! make one structure read the bytes of the next.

use bytes::{BufMut, Bytes, BytesMut};
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64, be_u128};

use crate::error::{DecodeError, EncodeError};

/// The nom error the parsers below produce; it never leaves this module.
type NomError<'a> = nom::error::Error<&'a [u8]>;
/// What a nom parser returns here.
type Parsed<'a, T> = nom::IResult<&'a [u8], T, NomError<'a>>;

/// A cursor over a bounded part of one frame.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

macro_rules! number {
    ($name:ident, $parser:ident, $type:ty) => {
        #[inline]
        pub(crate) fn $name(&mut self, what: &'static str) -> Result<$type, DecodeError> {
            // Not a call for each number; what is missing is for nom to say, as below.
            self.parse(what, size_of::<$type>(), |input| match input.split_first_chunk() {
                Some((head, rest)) => Ok((rest, <$type>::from_be_bytes(*head))),
                None => $parser(input),
            })
        }
    };
}

impl<'a> Reader<'a> {
    /// Reads the whole of `frame`.
    pub(crate) fn new(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame }
    }

    #[inline]
    fn parse<T>(
        &mut self,
        what: &'static str,
        needed: usize,
        parser: impl FnOnce(&'a [u8]) -> Parsed<'a, T>,
    ) -> Result<T, DecodeError> {
        match parser(self.rest) {
            Ok((rest, value)) => {
                self.rest = rest;
                Ok(value)
            }
            Err(_) => Err(DecodeError::Truncated {
                what,
                offset: self.offset(),
                needed,
                had: self.rest.len(),
            }),
        }
    }

    number!(u8, be_u8, u8);
    number!(u16, be_u16, u16);
    number!(u32, be_u32, u32);
    number!(u64, be_u64, u64);
    number!(u128, be_u128, u128);

    /// Position in the frame.
    pub(crate) fn offset(&self) -> usize {
        (self.rest.as_ptr() as usize).saturating_sub(self.frame.as_ptr() as usize)
    }

    /// Bytes left.
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing but padding is left.
    pub(crate) fn only_zeros(&self) -> bool {
        self.rest.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    #[inline]
    pub(crate) fn take(&mut self, what: &'static str, n: usize) -> Result<&'a [u8], DecodeError> {
        self.parse(what, n, |input| match input.split_at_checked(n) {
            Some((taken, rest)) => Ok((rest, taken)),
            // Not inlined and so several times as slow, but nom's own word on what is missing.
            None => take(n)(input),
        })
    }

    /// Passes over `n` bytes of padding.
    pub(crate) fn skip(&mut self, what: &'static str, n: usize) -> Result<(), DecodeError> {
        self.take(what, n).map(|_| ())
    }

    /// A reader bounded to the next `n` bytes, which this one passes over.
    pub(crate) fn sub(&mut self, what: &'static str, n: usize) -> Result<Self, DecodeError> {
        Ok(Self { frame: self.frame, rest: self.take(what, n)? })
    }

    /// An unsigned number of `n` bytes, at most 16.
    #[inline]
    pub(crate) fn uint(&mut self, what: &'static str, n: usize) -> Result<u128, DecodeError> {
        match n {
            1 => return self.u8(what).map(u128::from),
            2 => return self.u16(what).map(u128::from),
            4 => return self.u32(what).map(u128::from),
            8 => return self.u64(what).map(u128::from),
            _ => {}
        }
        let bytes = self.take(what, n)?;
        Ok(bytes.iter().fold(0, |value, byte| (value << 8) | u128::from(*byte)))
    }

    /// A fixed array.
    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(what, N)?);
        Ok(array)
    }

    /// Records ahead, each of a length that `length_of` reads from its first four bytes: what a list will hold, so
    /// that it need not grow. Of malformed records it tells the number before the first of them.
    ///
    /// Never more than the bytes left divided by `least`, the least bytes of a record.
    pub(crate) fn count_records(
        &self,
        least: usize,
        length_of: impl Fn([u8; 4]) -> usize,
    ) -> usize {
        let (mut rest, mut count) = (self.rest, 0);
        while let Some(head) = rest.first_chunk() {
            let length = length_of(*head);
            match rest.get(length..) {
                Some(behind) if length >= least => rest = behind,
                _ => break,
            }
            count += 1;
        }
        count
    }

    /// Everything that is left, without a copy.
    pub(crate) fn bytes(&mut self) -> Bytes {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() { Bytes::new() } else { self.frame.slice_ref(rest) }
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::Trailing { what, offset: self.offset(), left: self.rest.len() })
    }
}

/// Writes a length that is known only when the body is written.
#[must_use]
pub(crate) struct Length {
    what: &'static str,
    start: usize,
    field: usize,
}

impl Length {
    /// Opens a structure at the end of `out`, whose u16 length is to stand `field` bytes into it.
    pub(crate) fn open(out: &BytesMut, what: &'static str, field: usize) -> Self {
        Self { what, start: out.len(), field }
    }

    /// Patches the length, counting everything written since [`Length::open`].
    pub(crate) fn close(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = out.len().saturating_sub(self.start);
        let value = u16::try_from(length).map_err(|_| EncodeError::TooLong {
            what: self.what,
            length,
            limit: usize::from(u16::MAX),
        })?;
        let at = self.start.saturating_add(self.field);
        if let Some(slot) = out.get_mut(at..at.saturating_add(2)) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
        Ok(())
    }

    /// Bytes written since [`Length::open`].
    pub(crate) fn written(&self, out: &BytesMut) -> usize {
        out.len().saturating_sub(self.start)
    }

    /// Pads to a multiple of 8, then patches the length (which counts the padding).
    pub(crate) fn close_padded(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.pad(out);
        self.close(out)
    }

    /// Pads to a multiple of 8 counted from the opening.
    pub(crate) fn pad(&self, out: &mut BytesMut) {
        let padded = out.len() + padding(out.len().saturating_sub(self.start));
        // One store instead of a call for a few bytes.
        out.put_u64(0);
        out.truncate(padded);
    }
}

/// Zero bytes that bring `length` to a multiple of 8.
pub(crate) const fn padding(length: usize) -> usize {
    length.wrapping_neg() & 7
}

/// Writes the low `n` bytes of `value`, at most 16.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low bytes are what is wanted")]
pub(crate) fn put_uint(out: &mut BytesMut, value: u128, n: usize) {
    match n {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16),
        4 => out.put_u32(value as u32),
        8 => out.put_u64(value as u64),
        _ => {
            let bytes = value.to_be_bytes();
            out.put_slice(bytes.get(bytes.len().saturating_sub(n)..).unwrap_or(&bytes));
        }
    }
}
