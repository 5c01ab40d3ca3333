//! The arguments of the Nicira actions that have many: controller, multipath, bundle, sample, encap and decap.

use super::{hex, parts, refused, subfield, unsigned};
use crate::action::link::{BUNDLE_ALGORITHMS, HASH_FIELDS, MULTIPATH_ALGORITHMS};
use crate::action::{
    Action, BundleAction, ControllerAction, EncapAction, EncapProperty, MultipathAction,
    SampleAction, packet_type,
};
use crate::text::Names;
use crate::text::parse::{Pair, ParseError, pairs};
use crate::types::port;

/// Reasons of a packet-in by name. Source: ovs-actions(7), "The controller action".
pub(in crate::text) const REASONS: [&str; 6] =
    ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];

pub(super) fn controller(argument: &str) -> Result<Option<Action>, ParseError> {
    if argument.bytes().all(|b| b.is_ascii_digit()) {
        let max_len = if argument.is_empty() { Some(u16::MAX) } else { unsigned(argument) };
        return Ok(max_len.map(|max_len| Action::Output { port: port::CONTROLLER, max_len }));
    }
    let mut action = ControllerAction::default();
    for pair in pairs(argument) {
        let Pair { key, value, .. } = pair?;
        let refuse = || refused("controller", &format!("{key}={value}"));
        match key {
            "max_len" => action.max_len = unsigned(value).ok_or_else(refuse)?,
            "id" => action.controller_id = unsigned(value).ok_or_else(refuse)?,
            "reason" => {
                let reason = REASONS.iter().position(|name| *name == value);
                let reason = reason.and_then(|reason| u8::try_from(reason).ok());
                action.reason = reason.ok_or_else(refuse)?;
            }
            "userdata" => {
                let data = hex(value).ok_or_else(refuse)?;
                action.userdata = Some(data).filter(|data| !data.is_empty());
            }
            "pause" => action.pause = true,
            "meter_id" => {
                action.meter = Some(unsigned(value).ok_or_else(refuse)?).filter(|id| *id != 0);
            }
            _ => return Err(refuse()),
        }
    }
    let plain = ControllerAction { max_len: action.max_len, ..ControllerAction::default() };
    Ok(Some(if action == plain {
        Action::Output { port: port::CONTROLLER, max_len: action.max_len }
    } else {
        Action::Controller(action)
    }))
}

/// The number of a name in a list.
fn named(names: &[&str], name: &str) -> Option<u16> {
    names.iter().position(|n| *n == name).and_then(|n| u16::try_from(n).ok())
}

pub(super) fn multipath(argument: &str) -> Option<Action> {
    let words: Vec<&str> = parts(argument).collect();
    let [fields, basis, algorithm, links, arg, dst] = words.as_slice() else { return None };
    let dst = subfield(dst).filter(|dst| !dst.field.is_read_only())?;
    let links: u32 = unsigned(links)?;
    let max_link = u16::try_from(links.checked_sub(1)?).ok()?;
    if dst.bits < 16 && u32::from(max_link) >> dst.bits != 0 {
        return None;
    }
    Some(Action::Multipath(MultipathAction {
        fields: named(&HASH_FIELDS, fields)?,
        basis: unsigned(basis)?,
        algorithm: named(&MULTIPATH_ALGORITHMS, algorithm)?,
        max_link,
        arg: unsigned(arg)?,
        dst,
    }))
}

pub(super) fn bundle(argument: &str, load: bool, names: &Names) -> Option<Action> {
    let (head, members) = ["members:", "slaves:"].iter().find_map(|m| argument.split_once(m))?;
    let words: Vec<&str> = parts(head).collect();
    let (fields, basis, algorithm, dst) = match (words.as_slice(), load) {
        ([fields, basis, algorithm, "ofport"], false) => (fields, basis, algorithm, None),
        ([fields, basis, algorithm, "ofport", dst], true) => {
            let dst = subfield(dst).filter(|dst| !dst.field.is_read_only() && dst.bits >= 16)?;
            (fields, basis, algorithm, Some(dst))
        }
        _ => return None,
    };
    let member = |name: &str| names.read_port(name).and_then(port::to_u16);
    Some(Action::Bundle(BundleAction {
        algorithm: named(&BUNDLE_ALGORITHMS, algorithm)?,
        fields: named(&HASH_FIELDS, fields)?,
        basis: unsigned(basis)?,
        dst,
        members: parts(members).map(member).collect::<Option<_>>()?,
    }))
}

pub(super) fn sample(argument: &str, names: &Names) -> Result<Option<Action>, ParseError> {
    let mut sample = SampleAction {
        probability: 0,
        collector_set_id: 0,
        obs_domain_id: 0,
        obs_point_id: 0,
        sampling_port: None,
        direction: 0,
    };
    for pair in pairs(argument) {
        let Pair { key, value, .. } = pair?;
        let refuse = || refused("sample", &format!("{key}={value}"));
        match key {
            "probability" => sample.probability = unsigned(value).ok_or_else(refuse)?,
            "collector_set_id" => sample.collector_set_id = unsigned(value).ok_or_else(refuse)?,
            "obs_domain_id" => sample.obs_domain_id = unsigned(value).ok_or_else(refuse)?,
            "obs_point_id" => sample.obs_point_id = unsigned(value).ok_or_else(refuse)?,
            "sampling_port" => {
                let port = names.read_port(value).and_then(port::to_u16).ok_or_else(refuse)?;
                sample.sampling_port = Some(port).filter(|port| *port != 0xffff);
            }
            "ingress" => sample.direction = 1,
            "egress" => sample.direction = 2,
            _ => return Err(refuse()),
        }
    }
    Ok((sample.probability > 0).then_some(Action::Sample(sample)))
}

pub(super) fn encap(argument: &str) -> Result<Option<Action>, ParseError> {
    let mut all = pairs(argument);
    let Some(header) = all.next().transpose()? else { return Ok(None) };
    let packet_type = match header.key {
        "ethernet" => packet_type::ETHERNET,
        "nsh" => packet_type::NSH,
        "mpls" => packet_type::MPLS,
        "mpls_mc" => packet_type::MPLS_MCAST,
        _ => return Ok(None),
    };
    let mut properties = Vec::new();
    for pair in pairs(header.value) {
        let Pair { key, value, .. } = pair?;
        let refuse = || refused("encap", &format!("{key}={value}"));
        match key {
            "md_type" if packet_type == packet_type::NSH => {
                let md_type =
                    unsigned(value).filter(|md| matches!(md, 1 | 2)).ok_or_else(refuse)?;
                properties.push(EncapProperty::NshMdType(md_type));
            }
            "tlv" if packet_type == packet_type::NSH => {
                let words: Vec<&str> = parts(value).collect();
                let [class, typ, data] = words.as_slice() else { return Err(refuse()) };
                let data = data.strip_prefix("0x").and_then(hex).filter(|data| data.len() <= 124);
                properties.push(EncapProperty::NshTlv {
                    class: unsigned(class).ok_or_else(refuse)?,
                    typ: unsigned(typ).ok_or_else(refuse)?,
                    value: data.ok_or_else(refuse)?,
                });
            }
            _ => return Err(refuse()),
        }
    }
    let alone = all.next().is_none();
    Ok(alone.then_some(Action::Encap(EncapAction { packet_type, properties })))
}

pub(super) fn decap(argument: &str) -> Result<Option<Action>, ParseError> {
    let mut all = pairs(argument);
    let Some(pair) = all.next().transpose()? else {
        return Ok(Some(Action::Decap(packet_type::USE_NEXT_PROTO)));
    };
    if pair.key != "packet_type" || all.next().is_some() {
        return Ok(None);
    }
    let (mut space, mut typ) = (None, None);
    for pair in pairs(pair.value) {
        let pair = pair?;
        match pair.key {
            "ns" => space = unsigned::<u16>(pair.value),
            "type" => typ = unsigned::<u16>(pair.value),
            _ => return Ok(None),
        }
    }
    Ok(space.zip(typ).map(|(space, typ)| Action::Decap(u32::from(space) << 16 | u32::from(typ))))
}
