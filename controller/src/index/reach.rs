//! Profiles and their endpoints: to which nodes they come with a batch, and from which they go.
//!
//! Where one policy names a thousand peers for ten nodes, what is to be sent lies there as bytes, and what takes time is to
//! touch each of the thousand. So it goes by profile. Pods are looked at one by one where one of them is a node's own, where
//! the batch touched one, and where their bytes are not kept yet.

use std::borrow::Cow;

use bytes::Bytes;
use roaring::RoaringBitmap;
use weir_api::convert::wire;

use super::Index;
use super::counts::{Counts, ascending};
use super::emit::{Before, Delivery, News, Out};
use super::encode::Encoder;
use super::marks::Marks;
use super::pod::PodRecord;
use super::profile::ProfileRecord;

/// For each profile the nodes for which something may have changed.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Each sorted.
    nodes: Vec<Vec<u32>>,
    /// Profiles with what is theirs in `nodes`.
    profiles: Vec<(u32, usize)>,
}

impl Candidates {
    pub(super) fn add(&mut self, profiles: impl IntoIterator<Item = u32>, nodes: &RoaringBitmap) {
        if nodes.is_empty() {
            return;
        }
        let at = self.nodes.len();
        self.profiles.extend(profiles.into_iter().map(|profile| (profile, at)));
        self.nodes.push(nodes.iter().collect());
    }

    /// Profile by profile, with all nodes of each. The numbers of nodes are below `end`.
    fn each(mut self, end: u32, mut f: impl FnMut(u32, &[u32])) {
        self.profiles.sort_unstable();
        for same in self.profiles.chunk_by(|(a, _), (b, _)| a == b) {
            match same {
                [(profile, at)] => f(*profile, &self.nodes[*at]),
                [(profile, _), ..] => {
                    let mut union = Marks::new(end);
                    for node in same.iter().flat_map(|(_, at)| &self.nodes[*at]) {
                        union.insert(*node);
                    }
                    f(*profile, &union.iter().collect::<Vec<_>>());
                }
                [] => {}
            }
        }
    }
}

/// How many sets of nodes are looked at before one is taken for new.
const RECENT: usize = 8;

/// Frames, and the nodes that they are for. What is for the same nodes is one delivery, where these come again soon.
#[derive(Debug, Default)]
pub(super) struct Parcels(Vec<Parcel>);

#[derive(Debug)]
struct Parcel {
    /// Sorted.
    nodes: Vec<u32>,
    /// What is there already.
    pieces: Vec<Bytes>,
    /// What is made here.
    written: Vec<u8>,
}

impl Parcels {
    /// For no nodes it is nothing.
    pub(super) fn write(&mut self, nodes: &[u32], write: impl FnOnce(&mut Vec<u8>)) {
        if !nodes.is_empty() {
            write(&mut self.of(nodes).written);
        }
    }

    fn pieces(&mut self, nodes: &[u32], pieces: &[Bytes]) {
        if !nodes.is_empty() {
            self.of(nodes).pieces.extend_from_slice(pieces);
        }
    }

    /// The last one is the one that was wanted last.
    fn of(&mut self, nodes: &[u32]) -> &mut Parcel {
        let recent = self.0.len().saturating_sub(RECENT);
        let last = self.0.len().saturating_sub(1);
        match self.0[recent..].iter().rposition(|known| known.nodes == nodes) {
            Some(at) => self.0.swap(recent + at, last),
            None => self.0.push(Parcel {
                nodes: nodes.to_vec(),
                pieces: Vec::new(),
                written: Vec::new(),
            }),
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    pub(super) fn end(self) -> impl Iterator<Item = Delivery> {
        self.0.into_iter().map(|Parcel { nodes, mut pieces, written }| {
            if !written.is_empty() {
                pieces.push(written.into());
            }
            Delivery { news: News::Frames(pieces), nodes: ascending(nodes.into_iter()) }
        })
    }
}

// What a node has to do with a profile: a pod of it runs there, or a peer group there holds it.
const WAS_LOCAL: u32 = 1;
const IS_LOCAL: u32 = 2;
const WAS_REACHED: u32 = 4;
const IS_REACHED: u32 = 8;
const BITS: u32 = 15;

/// These bits by node, for one profile after the other. Above them is the number of the profile's turn: what is left of an
/// earlier one counts for nothing, and nothing has to be cleared.
#[derive(Debug)]
struct Ties {
    of: Vec<u32>,
    turn: u32,
}

impl Ties {
    /// Of nodes whose numbers are below `end`.
    fn new(end: u32) -> Self {
        Self { of: vec![0; end as usize], turn: 0 }
    }

    fn next(&mut self) {
        self.turn = self.turn.wrapping_add(BITS + 1);
        if self.turn == 0 {
            self.of.fill(0);
            self.turn = BITS + 1;
        }
    }

    /// Notes nodes that are counted: at least those of `wanted`.
    fn add(&mut self, counts: &Counts, wanted: &[u32], bits: u32) {
        let turn = self.turn;
        counts.each_of(wanted, |node| {
            let ties = &mut self.of[node as usize];
            let kept = if *ties & !BITS == turn { *ties } else { turn };
            *ties = kept | bits;
        });
    }

    fn get(&self, node: u32) -> u32 {
        let ties = self.of[node as usize];
        if ties & !BITS == self.turn { ties & BITS } else { 0 }
    }
}

/// The nodes to which a profile and its endpoints come, and from which they go. Each sorted.
#[derive(Debug, Default)]
struct Moves {
    /// The profile comes with all its endpoints: the node has none of them.
    whole: Vec<u32>,
    /// The profile comes.
    profile: Vec<u32>,
    /// Those endpoints come that run elsewhere and that the batch did not touch.
    endpoints: Vec<u32>,
    /// All endpoints go.
    gone_whole: Vec<u32>,
    /// Those endpoints go that run elsewhere and that the batch did not touch.
    gone_endpoints: Vec<u32>,
    /// The profile goes.
    gone_profile: Vec<u32>,
}

impl Moves {
    fn clear(&mut self) {
        let Self { whole, profile, endpoints, gone_whole, gone_endpoints, gone_profile } = self;
        for nodes in [whole, profile, endpoints, gone_whole, gone_endpoints, gone_profile] {
            nodes.clear();
        }
    }

    /// `touched`: the batch touched a pod that the profile has now.
    fn add(&mut self, node: u32, ties: u32, touched: bool) {
        let was_known = ties & (WAS_LOCAL | WAS_REACHED) != 0;
        let is_known = ties & (IS_LOCAL | IS_REACHED) != 0;
        let comes = ties & (WAS_REACHED | IS_REACHED) == IS_REACHED;
        let goes = ties & (WAS_REACHED | IS_REACHED) == WAS_REACHED;
        if comes && !was_known && !touched {
            self.whole.push(node);
            return;
        }
        if is_known && !was_known {
            self.profile.push(node);
        }
        if comes {
            self.endpoints.push(node);
        }
        if goes && ties & IS_LOCAL == 0 && !touched {
            self.gone_whole.push(node);
        } else if goes {
            self.gone_endpoints.push(node);
        }
        if was_known && !is_known {
            self.gone_profile.push(node);
        }
    }
}

impl Index {
    /// Profiles that come to nodes or go, and the endpoints of these that the batch did not touch.
    pub(super) fn emit_profiles(&self, before: &Before<'_>, candidates: Candidates, out: &mut Out) {
        if candidates.profiles.is_empty() {
            return;
        }
        let touched = self.journal.pods.keys().filter_map(|pod| self.pods[*pod].as_ref()?.place);
        let mut touched: Vec<u32> = touched.map(|place| place.profile).collect();
        touched.sort_unstable();
        let encoder = &mut *self.encoder.borrow_mut();
        let mut ties = Ties::new(self.nodes.end());
        let mut moves = Moves::default();
        candidates.each(self.nodes.end(), |profile, nodes| {
            self.mark(before, profile, nodes, &mut ties);
            let touched = touched.binary_search(&profile).is_ok();
            moves.clear();
            for node in nodes {
                moves.add(*node, ties.get(*node), touched);
            }
            self.emit_profile(profile, &moves, encoder, out);
        });
    }

    /// What each of `nodes` had to do with a profile, and what it has now.
    fn mark(&self, before: &Before<'_>, profile: u32, nodes: &[u32], ties: &mut Ties) {
        ties.next();
        let record = &self.profiles[profile];
        let Some(was) = before.profile(profile) else {
            ties.add(&record.local, nodes, WAS_LOCAL | IS_LOCAL);
            for group in &record.groups {
                let peer = &self.groups[*group].peer;
                match before.group(*group) {
                    Some(was) => {
                        ties.add(&was.peer, nodes, WAS_REACHED);
                        ties.add(peer, nodes, IS_REACHED);
                    }
                    None => ties.add(peer, nodes, WAS_REACHED | IS_REACHED),
                }
            }
            return;
        };
        ties.add(&was.local, nodes, WAS_LOCAL);
        ties.add(&record.local, nodes, IS_LOCAL);
        for group in &was.groups {
            ties.add(before.peer(*group), nodes, WAS_REACHED);
        }
        for group in &record.groups {
            ties.add(&self.groups[*group].peer, nodes, IS_REACHED);
        }
    }

    fn emit_profile(&self, profile: u32, moves: &Moves, encoder: &mut Encoder, out: &mut Out) {
        let record = &self.profiles[profile];
        if !moves.whole.is_empty() {
            out.profiles.pieces(&moves.whole, self.profile_encoded(profile, encoder));
        }
        out.profiles.write(&moves.profile, |out| out.extend_from_slice(&record.frame));
        self.each_elsewhere(record, &moves.endpoints, |nodes, pod| {
            out.endpoints.write(nodes, |out| out.extend_from_slice(pod.frame()));
        });
        // a profile without pods has nothing that could go
        if !record.pods.is_empty() {
            let encoded = self.profile_if_encoded(profile);
            out.gone_endpoints.write(&moves.gone_whole, |out| match encoded {
                Some(pieces) => {
                    for frames in pieces {
                        wire::frame_endpoints_gone(out, frames);
                    }
                }
                None => {
                    for pod in record.pods.iter().filter_map(|n| self.pods[n].as_ref()) {
                        wire::frame_endpoint_gone(out, pod.id());
                    }
                }
            });
        }
        self.each_elsewhere(record, &moves.gone_endpoints, |nodes, pod| {
            out.gone_endpoints.write(nodes, |out| wire::frame_endpoint_gone(out, pod.id()));
        });
        out.gone_profiles
            .write(&moves.gone_profile, |out| wire::frame_profile_gone(out, record.id));
    }

    /// The pods of a profile that the batch did not touch, each with those of `nodes` that are not its own: that one has
    /// it in any case.
    fn each_elsewhere(
        &self,
        record: &ProfileRecord,
        nodes: &[u32],
        mut f: impl FnMut(&[u32], &PodRecord),
    ) {
        if nodes.is_empty() {
            return;
        }
        // by their own nodes, so that each set of others comes once, however many pods there are
        let untouched = record.pods.iter().filter(|n| !self.journal.pods.contains_key(n));
        let mut pods: Vec<(Option<usize>, &PodRecord)> = untouched
            .filter_map(|number| {
                let pod = self.pods[number].as_deref()?;
                let own = pod.place.and_then(|place| place.node);
                Some((own.and_then(|own| nodes.binary_search(&own).ok()), pod))
            })
            .collect();
        pods.sort_by_key(|(own, _)| *own);
        for same in pods.chunk_by(|(a, _), (b, _)| a == b) {
            let others = match same {
                [(Some(at), _), ..] => Cow::Owned([&nodes[..*at], &nodes[at + 1..]].concat()),
                _ => Cow::Borrowed(nodes),
            };
            for (_, pod) in same {
                f(&others, pod);
            }
        }
    }
}
