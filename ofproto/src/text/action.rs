//! The text of actions and instructions. Source: OVS `lib/ofp-actions.c` (`ofpacts_format`).

use std::fmt;

use super::matching::write_value;
use super::{Names, Show, write_c_hex, write_hex};
use crate::action::{Action, ControllerAction, CtAction, NatAction};
use crate::instruction::Instruction;
use crate::oxm::Field;
use crate::types::port;

impl Show for [Instruction] {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        let mut any = false;
        for instruction in self {
            if matches!(instruction, Instruction::ApplyActions(actions) if actions.is_empty()) {
                continue;
            }
            if any {
                out.write_char(',')?;
            }
            any = true;
            instruction.show(out, names)?;
        }
        if any { Ok(()) } else { out.write_str("drop") }
    }
}

impl Show for Instruction {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        match self {
            Self::GotoTable(table) => {
                out.write_str("goto_table:")?;
                names.write_table(out, *table)
            }
            Self::WriteMetadata { value, mask } => {
                out.write_str("write_metadata:")?;
                write_c_hex(out, (*value).into())?;
                if *mask == u64::MAX {
                    return Ok(());
                }
                out.write_char('/')?;
                write_c_hex(out, (*mask).into())
            }
            Self::WriteActions(actions) => {
                out.write_str("write_actions(")?;
                actions.show(out, names)?;
                out.write_char(')')
            }
            Self::ApplyActions(actions) => actions.show(out, names),
            Self::ClearActions => out.write_str("clear_actions"),
            Self::Meter(meter) => write!(out, "meter:{meter}"),
            Self::Unknown { typ, body } => write_unknown(out, *typ, body),
        }
    }
}

fn write_unknown(out: &mut dyn fmt::Write, typ: u16, body: &[u8]) -> fmt::Result {
    write!(out, "unknown({typ:#06x},")?;
    write_hex(out, body, "")?;
    out.write_char(')')
}

impl Show for Vec<Action> {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        self.as_slice().show(out, names)
    }
}

impl Show for [Action] {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        if self.is_empty() {
            return out.write_str("drop");
        }
        for (n, action) in self.iter().enumerate() {
            if n > 0 {
                out.write_char(',')?;
            }
            action.show(out, names)?;
        }
        Ok(())
    }
}

impl Show for Action {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        match self {
            Self::Output { port: port::CONTROLLER, max_len } => {
                write!(out, "CONTROLLER:{max_len}")
            }
            Self::Output { port, .. } => {
                if *port < port::MAX {
                    out.write_str("output:")?;
                }
                names.write_port(out, *port)
            }
            Self::OutputReg { src, offset, bits, .. } => {
                out.write_str("output:")?;
                write_subfield(out, *src, *offset, *bits)
            }
            Self::Group(group) => write!(out, "group:{group}"),
            Self::SetQueue(queue) => write!(out, "set_queue:{queue}"),
            Self::PopQueue => out.write_str("pop_queue"),
            Self::PushVlan(eth_type) => write!(out, "push_vlan:{eth_type:#06x}"),
            Self::PopVlan => out.write_str("pop_vlan"),
            Self::SetNwTtl(ttl) => write!(out, "mod_nw_ttl:{ttl}"),
            Self::DecNwTtl => out.write_str("dec_ttl"),
            Self::SetField(field) => {
                out.write_str("set_field:")?;
                write_value(out, field.field, field.value, names)?;
                write!(out, "->{}", field.field.set_name())
            }
            Self::RegLoad { dst, offset, bits, value } => {
                out.write_str("load:")?;
                write_c_hex(out, (*value).into())?;
                out.write_str("->")?;
                write_subfield(out, *dst, (*offset).into(), (*bits).into())
            }
            Self::RegMove { bits, src, src_offset, dst, dst_offset } => {
                out.write_str("move:")?;
                write_subfield(out, *src, *src_offset, *bits)?;
                out.write_str("->")?;
                write_subfield(out, *dst, *dst_offset, *bits)
            }
            Self::Resubmit { port, table: 0xff } => {
                out.write_str("resubmit:")?;
                names.write_port(out, port::from_u16(*port))
            }
            Self::Resubmit { port, table } => {
                out.write_str("resubmit(")?;
                if *port != port::IN_PORT_16 {
                    names.write_port(out, port::from_u16(*port))?;
                }
                out.write_char(',')?;
                names.write_table(out, *table)?;
                out.write_char(')')
            }
            Self::Conjunction { id, clause, n_clauses } => {
                write!(out, "conjunction({id},{}/{n_clauses})", u16::from(*clause) + 1)
            }
            Self::Ct(ct) => ct.show(out, names),
            Self::Nat(nat) => nat.show(out, names),
            Self::CtClear => out.write_str("ct_clear"),
            Self::Note(text) => {
                out.write_str("note:")?;
                write_hex(out, text, ".")
            }
            Self::Controller(controller) => controller.show(out, names),
            Self::Clone(actions) => {
                out.write_str("clone(")?;
                actions.show(out, names)?;
                out.write_char(')')
            }
            Self::Exit => out.write_str("exit"),
            Self::Unknown { typ, body } => write_unknown(out, *typ, body),
        }
    }
}

/// `NXM_NX_REG0[0..15]`, `NXM_NX_REG0[3]`, `NXM_NX_REG0[]`.
fn write_subfield(out: &mut dyn fmt::Write, field: Field, offset: u16, bits: u16) -> fmt::Result {
    write!(out, "{}[", field.wire_name())?;
    if offset != 0 || bits != field.bits() {
        write!(out, "{offset}")?;
        if bits != 1 {
            write!(out, "..{}", u32::from(offset) + u32::from(bits).saturating_sub(1))?;
        }
    }
    out.write_char(']')
}

/// Writes parts with commas between.
fn write_parts(out: &mut dyn fmt::Write, parts: &[String]) -> fmt::Result {
    parts.iter().enumerate().try_for_each(|(n, part)| {
        out.write_str(if n == 0 { "" } else { "," })?;
        out.write_str(part)
    })
}

impl Show for CtAction {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        let mut parts = Vec::new();
        if self.commit {
            parts.push("commit".to_owned());
        }
        if self.force {
            parts.push("force".to_owned());
        }
        if let Some(table) = self.table {
            let mut part = "table=".to_owned();
            names.write_table(&mut part, table)?;
            parts.push(part);
        }
        if self.zone != 0 {
            parts.push(format!("zone={}", self.zone));
        }
        let exec = match self.actions.split_first() {
            // A nat that comes first stands outside of exec.
            Some((first @ Action::Nat(_), rest)) => {
                parts.push(super::shown(first, names));
                rest
            }
            _ => self.actions.as_slice(),
        };
        if !exec.is_empty() {
            parts.push(format!("exec({})", super::shown(exec, names)));
        }
        match self.alg {
            0 => {}
            21 => parts.push("alg=ftp".to_owned()),
            69 => parts.push("alg=tftp".to_owned()),
            other => parts.push(format!("alg={other}")),
        }
        out.write_str("ct(")?;
        write_parts(out, &parts)?;
        out.write_char(')')
    }
}

impl Show for NatAction {
    fn show(&self, out: &mut dyn fmt::Write, _names: &Names) -> fmt::Result {
        if self.flags == 0 {
            return out.write_str("nat");
        }
        let mut parts = Vec::new();
        let mut first = if self.flags & 1 != 0 { "src" } else { "dst" }.to_owned();
        if let Some(range) = self.addresses {
            let brackets = range.first.is_ipv6() && self.ports.is_some();
            let mut address = |mark: char, address: std::net::IpAddr| {
                first.push(mark);
                first.push_str(&if brackets {
                    format!("[{address}]")
                } else {
                    address.to_string()
                });
            };
            address('=', range.first);
            if let Some(last) = range.last {
                address('-', last);
            }
        }
        if let Some((low, high)) = self.ports {
            first.push_str(if self.addresses.is_some() { ":" } else { "=:" });
            first.push_str(&low.to_string());
            if let Some(high) = high {
                first.push_str(&format!("-{high}"));
            }
        }
        parts.push(first);
        for (bit, name) in [(4, "persistent"), (8, "hash"), (0x10, "random")] {
            if self.flags & bit != 0 {
                parts.push(name.to_owned());
            }
        }
        out.write_str("nat(")?;
        write_parts(out, &parts)?;
        out.write_char(')')
    }
}

impl Show for ControllerAction {
    fn show(&self, out: &mut dyn fmt::Write, _names: &Names) -> fmt::Result {
        let userdata = self.userdata.as_ref().filter(|bytes| !bytes.is_empty());
        let plain = Self { max_len: self.max_len, ..Self::default() };
        if *self == plain
            || (userdata.is_none() && Self { userdata: None, ..self.clone() } == plain)
        {
            return write!(out, "CONTROLLER:{}", self.max_len);
        }
        let mut parts = Vec::new();
        match self.reason {
            0 => parts.push("reason=no_match".to_owned()),
            1 => {}
            2 => parts.push("reason=invalid_ttl".to_owned()),
            other => parts.push(format!("reason={other}")),
        }
        if self.max_len != u16::MAX {
            parts.push(format!("max_len={}", self.max_len));
        }
        if self.controller_id != 0 {
            parts.push(format!("id={}", self.controller_id));
        }
        if let Some(userdata) = userdata {
            let mut part = "userdata=".to_owned();
            write_hex(&mut part, userdata, ".")?;
            parts.push(part);
        }
        if self.pause {
            parts.push("pause".to_owned());
        }
        if let Some(meter) = self.meter {
            parts.push(format!("meter_id={meter}"));
        }
        out.write_str("controller(")?;
        write_parts(out, &parts)?;
        out.write_char(')')
    }
}
