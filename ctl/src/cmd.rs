//! A file per command: arguments and objects become data.

pub(crate) mod matrix;
mod resolve;
pub(crate) mod why;
