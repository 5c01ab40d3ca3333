//! The text of actions and instructions. Source: OVS `lib/ofp-actions.c` (`ofpacts_format`).

use std::fmt;

use super::matching::{is_nsh_word, write_big, write_field, write_value};
use super::parse_action::REASONS;
use super::{Names, Show, write_c_hex, write_hex};
use crate::action::link::{BUNDLE_ALGORITHMS, HASH_FIELDS, MULTIPATH_ALGORITHMS};
use crate::action::{
    Action, BundleAction, ControllerAction, CtAction, EncapAction, EncapProperty, LearnAction,
    LearnSource, LearnSpec, LearnTarget, MultipathAction, NatAction, SampleAction, Subfield,
    learn_flags, packet_type,
};
use crate::instruction::Instruction;
use crate::oxm::{Field, FieldMatch, TunMetadata, WideField};
use crate::types::{DEFAULT_PRIORITY, port};

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
            Self::OutputTrunc { port, max_len } => {
                out.write_str("output(port=")?;
                names.write_port(out, port::from_u16(*port))?;
                write!(out, ",max_len={max_len})")
            }
            Self::Group(group) => write!(out, "group:{group}"),
            Self::SetQueue(queue) => write!(out, "set_queue:{queue}"),
            Self::PopQueue => out.write_str("pop_queue"),
            Self::PushVlan(eth_type) => write!(out, "push_vlan:{eth_type:#06x}"),
            Self::PopVlan => out.write_str("pop_vlan"),
            Self::PushMpls(eth_type) => write!(out, "push_mpls:{eth_type:#06x}"),
            Self::PopMpls(eth_type) => write!(out, "pop_mpls:{eth_type:#06x}"),
            Self::SetMplsTtl(ttl) => write!(out, "set_mpls_ttl({ttl})"),
            Self::DecMplsTtl => out.write_str("dec_mpls_ttl"),
            Self::DecNshTtl => out.write_str("dec_nsh_ttl"),
            Self::DecNwTtlIds(ids) => {
                out.write_str("dec_ttl(")?;
                write_list(out, ids, |out, id| write!(out, "{id}"))?;
                out.write_char(')')
            }
            Self::FinTimeout { idle, hard } => {
                let parts = [("idle_timeout", idle), ("hard_timeout", hard)];
                let parts: Vec<_> = parts.into_iter().filter(|(_, value)| **value != 0).collect();
                out.write_str("fin_timeout(")?;
                write_list(out, &parts, |out, (name, value)| write!(out, "{name}={value}"))?;
                out.write_char(')')
            }
            Self::RegLoad2(field) => {
                out.write_str("set_field:")?;
                if field.field.bytes() == 0 {
                    out.write_str("ANY")?;
                } else if is_nsh_word(field.field) && !field.is_exact() {
                    // Zero has a prefix in a match and none here.
                    write_c_hex(out, field.value)?;
                    write!(out, "/{:#x}", field.mask)?;
                } else {
                    write_field(out, field, names)?;
                }
                write!(out, "->{}", field.field.set_name())
            }
            Self::SetWideField(wide) | Self::RegLoad2Wide(wide) => show_wide(wide, out),
            Self::Push(run) => write!(out, "push:{run}"),
            Self::Pop(run) => write!(out, "pop:{run}"),
            Self::DeleteField(field) => write!(out, "delete_field:{}", field.set_name()),
            Self::CheckPktLarger { length, dst } => {
                write!(out, "check_pkt_larger({length})->{dst}")
            }
            Self::SetTunnel(id) => write!(out, "set_tunnel:{id:#x}"),
            Self::SetTunnel64(id) => write!(out, "set_tunnel64:{id:#x}"),
            Self::CopyField { src, dst } => write!(out, "move:{src}->{dst}"),
            Self::Multipath(multipath) => multipath.show(out, names),
            Self::Bundle(bundle) => bundle.show(out, names),
            Self::Learn(learn) => learn.show(out, names),
            Self::Sample(sample) => sample.show(out, names),
            Self::Encap(encap) => encap.show(out, names),
            Self::Decap(packet_type::USE_NEXT_PROTO) => out.write_str("decap()"),
            Self::Decap(packet_type) => {
                let (space, typ) = (packet_type >> 16, packet_type & 0xffff);
                write!(out, "decap(packet_type(ns={space},type=")?;
                write_c_hex(out, typ.into())?;
                out.write_str("))")
            }
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
            Self::ResubmitCt { port, table } => {
                out.write_str("resubmit(")?;
                if *port != port::IN_PORT_16 {
                    names.write_port(out, port::from_u16(*port))?;
                }
                out.write_char(',')?;
                if *table != 0xff {
                    names.write_table(out, *table)?;
                }
                out.write_str(",ct)")
            }
            Self::ResubmitPort(port) => {
                out.write_str("resubmit:")?;
                names.write_port(out, port::from_u16(*port))
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
impl fmt::Display for Subfield {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_subfield(out, self.field, self.offset, self.bits)
    }
}

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

/// Writes items with commas between.
fn write_list<T>(
    out: &mut dyn fmt::Write,
    items: &[T],
    mut write: impl FnMut(&mut dyn fmt::Write, &T) -> fmt::Result,
) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(n, item)| {
        out.write_str(if n == 0 { "" } else { "," })?;
        write(out, item)
    })
}

/// A name of a list, or the number of one it does not have.
fn write_named(out: &mut dyn fmt::Write, names: &[&str], number: u16) -> fmt::Result {
    match names.get(usize::from(number)) {
        Some(name) => out.write_str(name),
        None => write!(out, "<unknown: {number}>"),
    }
}

impl Show for MultipathAction {
    fn show(&self, out: &mut dyn fmt::Write, _names: &Names) -> fmt::Result {
        out.write_str("multipath(")?;
        write_named(out, &HASH_FIELDS, self.fields)?;
        write!(out, ",{},", self.basis)?;
        write_named(out, &MULTIPATH_ALGORITHMS, self.algorithm)?;
        write!(out, ",{},{},{})", u32::from(self.max_link) + 1, self.arg, self.dst)
    }
}

impl Show for BundleAction {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        out.write_str(if self.dst.is_some() { "bundle_load(" } else { "bundle(" })?;
        write_named(out, &HASH_FIELDS, self.fields)?;
        write!(out, ",{},", self.basis)?;
        write_named(out, &BUNDLE_ALGORITHMS, self.algorithm)?;
        out.write_str(",ofport,")?;
        if let Some(dst) = self.dst {
            write!(out, "{dst},")?;
        }
        out.write_str("members:")?;
        write_list(out, &self.members, |out, port| names.write_port(out, port::from_u16(*port)))?;
        out.write_char(')')
    }
}

impl Show for SampleAction {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        write!(
            out,
            "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}",
            self.probability, self.collector_set_id, self.obs_domain_id, self.obs_point_id
        )?;
        if let Some(port) = self.sampling_port {
            out.write_str(",sampling_port=")?;
            names.write_port(out, port::from_u16(port))?;
        }
        out.write_str(match self.direction {
            1 => ",ingress)",
            2 => ",egress)",
            _ => ")",
        })
    }
}

impl Show for EncapAction {
    fn show(&self, out: &mut dyn fmt::Write, _names: &Names) -> fmt::Result {
        out.write_str("encap(")?;
        match self.packet_type {
            packet_type::ETHERNET => out.write_str("ethernet")?,
            packet_type::NSH => out.write_str("nsh")?,
            packet_type::MPLS => out.write_str("mpls")?,
            packet_type::MPLS_MCAST => out.write_str("mpls_mc")?,
            other => write!(out, "{other:#010x}")?,
        }
        if !self.properties.is_empty() {
            out.write_char('(')?;
            write_list(out, &self.properties, |out, property| match property {
                EncapProperty::NshMdType(md_type) => write!(out, "md_type={md_type}"),
                EncapProperty::NshTlv { class, typ, value } => {
                    write!(out, "tlv({class:#06x},{typ},0x")?;
                    write_hex(out, value, "")?;
                    out.write_char(')')
                }
            })?;
            out.write_char(')')?;
        }
        out.write_char(')')
    }
}

impl Show for LearnAction {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        out.write_str("learn(table=")?;
        names.write_table(out, self.table)?;
        for (name, value, default) in [
            ("idle_timeout", self.idle_timeout, 0),
            ("hard_timeout", self.hard_timeout, 0),
            ("fin_idle_timeout", self.fin_idle_timeout, 0),
            ("fin_hard_timeout", self.fin_hard_timeout, 0),
            ("priority", self.priority, DEFAULT_PRIORITY),
        ] {
            if value != default {
                write!(out, ",{name}={value}")?;
            }
        }
        if self.flags & learn_flags::SEND_FLOW_REM != 0 {
            out.write_str(",send_flow_rem")?;
        }
        if self.flags & learn_flags::DELETE_LEARNED != 0 {
            out.write_str(",delete_learned")?;
        }
        if self.cookie != 0 {
            write!(out, ",cookie={:#x}", self.cookie)?;
        }
        if self.limit != 0 {
            write!(out, ",limit={}", self.limit)?;
        }
        if let Some(result) = self.result {
            write!(out, ",result_dst={result}")?;
        }
        for spec in &self.specs {
            out.write_char(',')?;
            spec.show(out, names)?;
        }
        out.write_char(')')
    }
}

impl Show for LearnSpec {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        let bits = self.bits;
        let source = match &self.source {
            LearnSource::Immediate(_) => None,
            LearnSource::Field(field, offset) => {
                Some(Subfield { field: *field, offset: *offset, bits })
            }
        };
        let immediate = |out: &mut dyn fmt::Write| match &self.source {
            LearnSource::Immediate(bytes) => write_immediate(out, bytes),
            LearnSource::Field(..) => Ok(()),
        };
        match (self.target, source) {
            (LearnTarget::Match(field, offset), None) => {
                let dst = Subfield { field, offset, bits };
                match (&self.source, dst.is_whole() && bits <= 128) {
                    (LearnSource::Immediate(bytes), true) => {
                        let value = bytes.iter().fold(0, |v, byte| (v << 8) | u128::from(*byte));
                        write!(out, "{}=", learned_name(field))?;
                        if field == Field::EthType {
                            return write_c_hex(out, value);
                        }
                        write_field(out, &FieldMatch::exact(field, value), names)
                    }
                    _ => {
                        write!(out, "{dst}=")?;
                        immediate(out)
                    }
                }
            }
            (LearnTarget::Match(field, offset), Some(source)) => {
                let dst = Subfield { field, offset, bits };
                if source == dst { write!(out, "{dst}") } else { write!(out, "{dst}={source}") }
            }
            (LearnTarget::Load(field, offset), None) => {
                out.write_str("load:")?;
                immediate(out)?;
                write!(out, "->{}", Subfield { field, offset, bits })
            }
            (LearnTarget::Load(field, offset), Some(source)) => {
                write!(out, "load:{source}->{}", Subfield { field, offset, bits })
            }
            (LearnTarget::Output, Some(source)) => write!(out, "output:{source}"),
            (LearnTarget::Output, None) => {
                out.write_str("output:")?;
                immediate(out)
            }
        }
    }
}

/// The name of a field as a learn shows it.
fn learned_name(field: Field) -> std::borrow::Cow<'static, str> {
    field.set_name()
}

/// Writes bytes as one hexadecimal number, zero without a prefix.
fn write_immediate(out: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    let mut digits = bytes.iter().skip_while(|byte| **byte == 0);
    match digits.next() {
        None => out.write_char('0'),
        Some(first) => {
            write!(out, "0x{first:x}")?;
            digits.try_for_each(|byte| write!(out, "{byte:02x}"))
        }
    }
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
        match self.zone_field {
            Some(run) => parts.push(format!("zone={run}")),
            None if self.zone != 0 => parts.push(format!("zone={}", self.zone)),
            None => {}
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
        match (self.reason, REASONS.get(usize::from(self.reason))) {
            (1, _) => {}
            (_, Some(name)) => parts.push(format!("reason={name}")),
            (other, None) => parts.push(format!("reason={other}")),
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

/// The setting of tunnel metadata of more than 16 bytes.
fn show_wide(wide: &WideField, out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(TunMetadata { value, mask, .. }) = wide.as_tun_metadata() else {
        return write!(out, "set_field:?->{}", wide.field().set_name());
    };
    out.write_str("set_field:")?;
    write_big(out, value)?;
    if let Some(mask) = mask {
        out.write_char('/')?;
        write_big(out, mask)?;
    }
    write!(out, "->{}", wide.field().set_name())
}
