//! What tables can do. Source: OVS `lib/ofp-table.c`.

use std::fmt;

use super::super::Names;
use crate::multipart::TableFeatures;

pub(super) fn show(_out: &mut String, _tables: &[TableFeatures], _names: &Names) -> fmt::Result {
    Ok(())
}
