//! The bytes of a change, written directly.
//!
//! A controller encodes hundreds of thousands of objects at once. Going through the generated types would allocate every
//! text twice; this writes the same bytes in one pass, which `tests::direct_bytes_are_those_of_the_generated_types` holds
//! it to.

use std::cmp::Ordering;
use std::net::IpAddr;

use weir_policy::group::Profile;
use weir_policy::ids::{GroupId, PolicyKey, PolicyKind, ProfileId};
use weir_policy::net::{IpBlock, Prefix};
use weir_policy::port::{PortMatch, Service};
use weir_policy::rule::{Action, Direction, Peers, Policy, Rule, Services, Tier};
use weir_policy::state::{Change, Endpoint, NodeInfo};

use crate::v1;

/// An endpoint as it travels, borrowed from wherever its parts are.
#[derive(Clone, Debug)]
pub struct EndpointParts<'a> {
    pub id: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub node: &'a str,
    /// Sorted.
    pub addresses: &'a [IpAddr],
    pub mac: Option<[u8; 6]>,
    pub profile: ProfileId,
}

impl<'a> EndpointParts<'a> {
    /// Of an endpoint and its addresses in a row.
    pub fn of(endpoint: &'a Endpoint, addresses: &'a [IpAddr]) -> Self {
        let Endpoint { id, namespace, name, node, addresses: _, mac, profile } = endpoint;
        Self { id: &id.0, namespace, name, node, addresses, mac: *mac, profile: *profile }
    }
}

/// An endpoint's change with its length before it. It is the smallest form of an endpoint, so that its texts are read here
/// rather than kept once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFrame(Box<[u8]>);

impl EndpointFrame {
    pub fn new(endpoint: &EndpointParts<'_>) -> Self {
        let fields = endpoint_length(endpoint);
        let change = 1 + varint_length(fields) + fields;
        let length = varint_length(change) + change;
        let mut out = Vec::with_capacity(length);
        varint(&mut out, change as u64);
        tag(&mut out, 9, LENGTH);
        varint(&mut out, fields as u64);
        endpoint_fields(&mut out, endpoint);
        debug_assert_eq!(out.len(), length, "{endpoint:?}");
        Self(out.into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Without the length.
    pub fn change(&self) -> &[u8] {
        take_varint(&self.0).1
    }

    pub fn id(&self) -> &str {
        self.text(1)
    }

    pub fn name(&self) -> &str {
        self.text(3)
    }

    pub fn node(&self) -> &str {
        self.text(4)
    }

    /// The text of a field, one of the first four.
    fn text(&self, field: u64) -> &str {
        let mut rest = &*self.0;
        // the frame's length, the tag and length of the one field of the change
        for _ in 0..3 {
            rest = take_varint(rest).1;
        }
        str::from_utf8(text_of(rest, field)).unwrap_or_default()
    }
}

/// The text of one of an endpoint's first four fields. Fields are in order, and an empty one is not there.
fn text_of(mut fields: &[u8], field: u64) -> &[u8] {
    while !fields.is_empty() {
        let (tag, rest) = take_varint(fields);
        let (length, rest) = take_varint(rest);
        let Some((text, rest)) = split(rest, length) else {
            return &[];
        };
        match (tag >> 3).cmp(&field) {
            Ordering::Less => fields = rest,
            Ordering::Equal => return text,
            Ordering::Greater => break,
        }
    }
    &[]
}

/// Appends an endpoint's change, with its length before it.
pub fn frame_endpoint(out: &mut Vec<u8>, endpoint: &Endpoint) {
    delimited(out, |out| self::endpoint(out, endpoint));
}

/// Appends the change that says that an endpoint is gone, with its length before it.
pub fn frame_endpoint_gone(out: &mut Vec<u8>, id: &str) {
    gone(out, id.as_bytes());
}

fn gone(out: &mut Vec<u8>, id: &[u8]) {
    let [tag, ..] = (10 << 3 | LENGTH).to_le_bytes();
    match u8::try_from(id.len()) {
        // nearly all of them, by the hundred: both lengths have one byte
        Ok(length) if length < 0x80 - 2 => {
            out.reserve(3 + id.len());
            out.extend_from_slice(&[length + 2, tag, length]);
            out.extend_from_slice(id);
        }
        _ => delimited(out, |out| remove_endpoint(out, id)),
    }
}

/// Appends for each endpoint among `frames` that it is gone.
pub fn frame_endpoints_gone(out: &mut Vec<u8>, mut frames: &[u8]) {
    const ENDPOINT: u8 = (9 << 3 | LENGTH) as u8;
    const ID: u8 = (1 << 3 | LENGTH) as u8;
    while !frames.is_empty() {
        let (length, rest) = take_varint(frames);
        let Some((change, rest)) = split(rest, length) else {
            return;
        };
        frames = rest;
        let [ENDPOINT, endpoint @ ..] = change else {
            continue;
        };
        let fields = take_varint(endpoint).1;
        let id = match fields {
            // nearly all of them: a length of one byte
            [ID, length @ ..0x80, rest @ ..] => rest.get(..usize::from(*length)),
            _ => Some(text_of(fields, 1)),
        };
        gone(out, id.unwrap_or_default());
    }
}

/// Appends the change that says that a profile is gone, with its length before it.
pub fn frame_profile_gone(out: &mut Vec<u8>, id: ProfileId) {
    delimited(out, |out| always(out, 8, id.0));
}

/// Appends a policy's change, with its length before it.
pub fn frame_policy(out: &mut Vec<u8>, policy: &Policy) {
    delimited(out, |out| message(out, 2, |out| self::policy(out, policy)));
}

/// Appends a profile's change, with its length before it.
pub fn frame_profile(out: &mut Vec<u8>, profile: &Profile) {
    delimited(out, |out| message(out, 7, |out| self::profile(out, profile)));
}

/// Appends a group's change, with its length before it. `members` are sorted.
pub fn frame_group(
    out: &mut Vec<u8>,
    id: GroupId,
    selector: &dyn std::fmt::Display,
    members: impl ExactSizeIterator<Item = ProfileId>,
) {
    delimited(out, |out| message(out, 4, |out| group(out, id, selector, members)));
}

/// Appends a change, with its length before it.
pub fn frame(out: &mut Vec<u8>, change: &Change) {
    delimited(out, |out| self::change(out, change));
}

pub(super) fn change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Node(n) => message(out, 1, |out| node(out, n)),
        Change::Policy(p) => message(out, 2, |out| policy(out, p)),
        Change::RemovePolicy(k) => message(out, 3, |out| key(out, k)),
        Change::Group(g) => message(out, 4, |out| {
            group(out, g.id, &g.selector, g.members.iter().copied());
        }),
        Change::GroupMembers { id, add, remove } => message(out, 5, |out| {
            fixed64(out, 1, id.0);
            packed64(out, 2, add.iter().map(|p| p.0));
            packed64(out, 3, remove.iter().map(|p| p.0));
        }),
        Change::RemoveGroup(id) => always(out, 6, id.0),
        Change::Profile(p) => message(out, 7, |out| profile(out, p)),
        Change::RemoveProfile(id) => always(out, 8, id.0),
        Change::Endpoint(e) => endpoint(out, e),
        Change::RemoveEndpoint(id) => remove_endpoint(out, id.0.as_bytes()),
    }
}

fn endpoint(out: &mut Vec<u8>, e: &Endpoint) {
    let addresses: Vec<IpAddr> = e.addresses.iter().copied().collect();
    message(out, 9, |out| endpoint_fields(out, &EndpointParts::of(e, &addresses)));
}

fn remove_endpoint(out: &mut Vec<u8>, id: &[u8]) {
    message(out, 10, |out| out.extend(id));
}

fn endpoint_fields(out: &mut Vec<u8>, e: &EndpointParts<'_>) {
    text(out, 1, e.id);
    text(out, 2, e.namespace);
    text(out, 3, e.name);
    text(out, 4, e.node);
    for a in e.addresses {
        tag(out, 5, LENGTH);
        varint(out, address_length(*a) as u64);
        address(out, *a);
    }
    if let Some(mac) = e.mac {
        message(out, 6, |out| out.extend(mac));
    }
    fixed64(out, 7, e.profile.0);
}

/// How long [`endpoint_fields`] are.
fn endpoint_length(e: &EndpointParts<'_>) -> usize {
    let delimited = |length: usize| 1 + varint_length(length) + length;
    let texts = [e.id, e.namespace, e.name, e.node].into_iter().filter(|t| !t.is_empty());
    texts.map(|t| delimited(t.len())).sum::<usize>()
        + e.addresses.iter().map(|a| delimited(address_length(*a))).sum::<usize>()
        + e.mac.map_or(0, |mac| delimited(mac.len()))
        + if e.profile.0 == 0 { 0 } else { 9 }
}

fn node(out: &mut Vec<u8>, node: &NodeInfo) {
    text(out, 1, &node.name);
    for a in &node.addresses {
        message(out, 2, |out| address(out, *a));
    }
}

fn key(out: &mut Vec<u8>, key: &PolicyKey) {
    let kind = match key.kind {
        PolicyKind::NetworkPolicy => v1::PolicyKind::NetworkPolicy,
    };
    number(out, 1, kind as u64);
    text(out, 2, &key.namespace);
    text(out, 3, &key.name);
}

fn policy(out: &mut Vec<u8>, policy: &Policy) {
    message(out, 1, |out| key(out, &policy.key));
    text(out, 2, &policy.uid);
    number(out, 3, policy.generation.cast_unsigned());
    fixed64(out, 4, policy.subject.0);
    number(out, 5, u64::from(policy.isolates.contains(&Direction::Ingress)));
    number(out, 6, u64::from(policy.isolates.contains(&Direction::Egress)));
    for r in &policy.rules {
        message(out, 7, |out| {
            text(out, 1, &r.path);
            rule(out, &r.rule);
        });
    }
}

fn rule(out: &mut Vec<u8>, rule: &Rule) {
    let tier = match rule.tier {
        Tier::Admin => v1::Tier::Admin,
        Tier::NetworkPolicy => v1::Tier::NetworkPolicy,
        Tier::Baseline => v1::Tier::Baseline,
    };
    let direction = match rule.direction {
        Direction::Ingress => v1::Direction::Ingress,
        Direction::Egress => v1::Direction::Egress,
    };
    let action = match rule.action {
        Action::Allow => v1::Action::Allow,
        Action::Deny => v1::Action::Deny,
        Action::Pass => v1::Action::Pass,
    };
    number(out, 2, tier as u64);
    number(out, 3, u64::from(rule.order));
    number(out, 4, direction as u64);
    fixed64(out, 5, rule.subject.0);
    if let Peers::Of { groups, blocks } = &rule.peers {
        message(out, 6, |out| {
            packed64(out, 1, groups.iter().map(|g| g.0));
            for b in blocks {
                message(out, 2, |out| block(out, b));
            }
        });
    }
    if let Services::Of(items) = &rule.services {
        message(out, 7, |out| {
            for s in items {
                message(out, 1, |out| service(out, s));
            }
        });
    }
    number(out, 8, action as u64);
}

fn block(out: &mut Vec<u8>, block: &IpBlock) {
    message(out, 1, |out| prefix(out, &block.cidr));
    for e in &block.except {
        message(out, 2, |out| prefix(out, e));
    }
}

fn prefix(out: &mut Vec<u8>, prefix: &Prefix) {
    message(out, 1, |out| address(out, prefix.address()));
    number(out, 2, u64::from(prefix.length()));
}

fn service(out: &mut Vec<u8>, service: &Service) {
    number(out, 1, u64::from(service.protocol.number()));
    match &service.port {
        PortMatch::Any => message(out, 2, |_| {}),
        PortMatch::Range { first, last } => message(out, 3, |out| {
            number(out, 1, u64::from(*first));
            number(out, 2, u64::from(*last));
        }),
        PortMatch::Named(name) => message(out, 4, |out| out.extend(name.as_bytes())),
    }
}

fn group(
    out: &mut Vec<u8>,
    id: GroupId,
    selector: &dyn std::fmt::Display,
    members: impl ExactSizeIterator<Item = ProfileId>,
) {
    use std::fmt::Write;
    fixed64(out, 1, id.0);
    // a selector's text is never empty
    message(out, 2, |out| {
        // it cannot fail
        let _ = write!(Text(out), "{selector}");
    });
    packed64(out, 3, members.map(|p| p.0));
}

/// Text at the end of bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn profile(out: &mut Vec<u8>, profile: &Profile) {
    text(out, 1, &profile.namespace);
    for (k, v) in profile.labels.iter() {
        message(out, 2, |out| {
            text(out, 1, k);
            text(out, 2, v);
        });
    }
    for p in &profile.named_ports {
        message(out, 3, |out| {
            text(out, 1, &p.name);
            number(out, 2, u64::from(p.protocol.number()));
            number(out, 3, u64::from(p.number));
        });
    }
}

// Protocol buffers, version 3: a field that has its default value is not written, except where presence is told.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn varint_length(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

/// A number and what comes after it; 0 where there is none.
fn take_varint(bytes: &[u8]) -> (u64, &[u8]) {
    if let [byte @ ..0x80, rest @ ..] = bytes {
        return (u64::from(*byte), rest);
    }
    let mut value = 0;
    let mut rest = bytes;
    for shift in (0..64).step_by(7) {
        let Some((byte, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (value, rest)
}

fn split(bytes: &[u8], length: u64) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(length.try_into().unwrap_or(usize::MAX))
}

fn tag(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn always(out: &mut Vec<u8>, field: u64, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        always(out, field, value);
    }
}

fn fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        tag(out, field, FIXED64);
        out.extend(value.to_le_bytes());
    }
}

fn packed64(out: &mut Vec<u8>, field: u64, values: impl ExactSizeIterator<Item = u64>) {
    if values.len() > 0 {
        tag(out, field, LENGTH);
        varint(out, values.len() as u64 * 8);
        out.extend(values.flat_map(u64::to_le_bytes));
    }
}

fn text(out: &mut Vec<u8>, field: u64, text: &str) {
    if !text.is_empty() {
        tag(out, field, LENGTH);
        varint(out, text.len() as u64);
        out.extend(text.as_bytes());
    }
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => out.extend(a.octets()),
        IpAddr::V6(a) => out.extend(a.octets()),
    }
}

fn address_length(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 16,
    }
}

fn message(out: &mut Vec<u8>, field: u64, content: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, LENGTH);
    delimited(out, content);
}

/// Content with its length before it. Most are shorter than 128 bytes and have a length of one byte.
fn delimited(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    content(out);
    let length = out.len() - at - 1;
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out[at] = short,
        _ => {
            let mut bytes = Vec::with_capacity(5);
            varint(&mut bytes, length as u64);
            out.splice(at..=at, bytes);
        }
    }
}
