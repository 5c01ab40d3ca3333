//! Tests of the message stream.
