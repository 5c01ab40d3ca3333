//! What can go wrong between bytes and values. One enum per direction, one variant per cause.

/// Bytes that are not a well-formed OpenFlow structure.
///
/// Units: offsets and lengths are bytes from the beginning of the frame that was decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The structure ends before its fields do.
    #[error("{what} at offset {offset} needs {needed} bytes and has {had}")]
    Truncated {
        /// The field or structure being read.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// Bytes it needs.
        needed: usize,
        /// Bytes that are left.
        had: usize,
    },
    /// A length field that contradicts the structure it describes.
    #[error("{what} at offset {offset} has the impossible length {length}")]
    Length {
        /// The structure.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// What its length field says.
        length: usize,
    },
    /// Bytes behind a structure that should end here.
    #[error("{what} is followed by {left} unexpected bytes at offset {offset}")]
    Trailing {
        /// The structure.
        what: &'static str,
        /// Where it should end.
        offset: usize,
        /// Bytes left over.
        left: usize,
    },
    /// A value that no revision of the structure knows.
    #[error("{what} at offset {offset} has the unknown value {value:#x}")]
    Value {
        /// The field.
        what: &'static str,
        /// Where it is.
        offset: usize,
        /// What it holds.
        value: u64,
    },
    /// A frame of another OpenFlow version. Only HELLO may carry one.
    #[error("frame of OpenFlow version {version:#04x}, this codec speaks 0x04")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// A match that names one field twice (OVS answers it with DUP_FIELD).
    #[error("match at offset {offset} has field {field:?} twice")]
    DuplicateField {
        /// Where the second one begins.
        offset: usize,
        /// The field.
        field: crate::oxm::Field,
    },
}

/// A value that has no OpenFlow encoding. Nothing is ever cut short to make it fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A structure longer than its length field can say.
    #[error("{what} takes {length} bytes, the limit is {limit}")]
    TooLong {
        /// The structure.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The most it may have.
        limit: usize,
    },
    /// A number that does not fit its field.
    #[error("{what} is {value:#x}, the limit is {limit:#x}")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u128,
        /// The largest value with an encoding.
        limit: u128,
    },
    /// A set_field with a mask: OpenFlow 1.3 has none (use one reg_load for each run of bits).
    #[error("set_field of {field:?} has the mask {mask:#x}, OpenFlow 1.3 sets whole fields only")]
    MaskedSetField {
        /// The field.
        field: crate::oxm::Field,
        /// Its mask.
        mask: u128,
    },
    /// A register beyond those the field family has.
    #[error("there is no field {field:?}")]
    NoSuchField {
        /// The field.
        field: crate::oxm::Field,
    },
    /// A run of bits outside its field.
    #[error("{field:?} has {width} bits, there is no run of {bits} at {offset}")]
    BitRange {
        /// The field.
        field: crate::oxm::Field,
        /// First bit, 0 = least significant.
        offset: u16,
        /// Number of bits.
        bits: u16,
        /// Bits the field has.
        width: u16,
    },
    /// An opaque body whose length breaks the alignment of the list it stands in.
    #[error("{what} has {length} bytes, not a multiple of 8")]
    Unaligned {
        /// The structure.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
}
