//! A file per command: arguments and objects become data.

pub(crate) mod flows;
pub(crate) mod matrix;
pub(crate) mod policy;
mod resolve;
pub(crate) mod status;
pub(crate) mod why;
