//! Which node needs which group, by reference counts.
//!
//! `active` counts, for a subject group and a node, the members with pods there. Where it is active, each group that its
//! policies name is counted once (`named` or `peer`): one count per edge, not per policy.

use smallvec::SmallVec;

use super::Index;
use super::group::{Edge, Naming};

impl Index {
    fn note_group(&mut self, group: u32) {
        let record = &self.groups[group];
        self.journal.group(group, || record.before());
    }

    /// One more member of a subject group has pods on a node.
    pub(super) fn active_add(&mut self, group: u32, node: u32) {
        if self.groups[group].active.contains(node) {
            self.groups[group].active.add(node);
            return;
        }
        self.note_group(group);
        self.groups[group].active.add(node);
        self.nodes[node].subjects.insert(group);
        self.each_edge(group, |index, named, naming| index.reach_add(named, node, naming));
    }

    /// One member of a subject group less has pods on a node.
    pub(super) fn active_sub(&mut self, group: u32, node: u32) {
        if !self.groups[group].active.is_last(node) {
            self.groups[group].active.sub(node);
            return;
        }
        self.note_group(group);
        self.groups[group].active.sub(node);
        self.nodes[node].subjects.remove(group);
        self.each_edge(group, |index, named, naming| index.reach_sub(named, node, naming));
    }

    fn each_edge(&mut self, group: u32, mut f: impl FnMut(&mut Self, u32, Naming)) {
        let edges = std::mem::take(&mut self.groups[group].edges);
        for (named, edge) in &edges {
            if let Some(naming) = edge.naming() {
                f(self, *named, naming);
            }
        }
        self.groups[group].edges = edges;
    }

    fn reach_add(&mut self, group: u32, node: u32, naming: Naming) {
        let record = &mut self.groups[group];
        let known = match naming {
            Naming::Members => &record.named,
            Naming::Peer => &record.peer,
        };
        if !known.contains(node) {
            self.journal.group(group, || record.before());
        }
        match naming {
            Naming::Members => record.named.add(node),
            Naming::Peer => record.peer.add(node),
        };
    }

    fn reach_sub(&mut self, group: u32, node: u32, naming: Naming) {
        let record = &mut self.groups[group];
        let known = match naming {
            Naming::Members => &record.named,
            Naming::Peer => &record.peer,
        };
        if known.is_last(node) {
            self.journal.group(group, || record.before());
        }
        match naming {
            Naming::Members => record.named.sub(node),
            Naming::Peer => record.peer.sub(node),
        };
    }

    /// A group becomes a subject: it is active where its members have pods.
    pub(super) fn start_subject(&mut self, group: u32) {
        let members = self.groups[group].members.clone();
        for profile in &members {
            let nodes: SmallVec<[u32; 8]> = self.profiles[profile].local.numbers().collect();
            for node in nodes {
                self.active_add(group, node);
            }
        }
    }

    /// A group is no subject any more; its edges are gone already.
    pub(super) fn end_subject(&mut self, group: u32) {
        self.note_group(group);
        debug_assert!(self.groups[group].edges.is_empty(), "edges go before their subject");
        let active = std::mem::take(&mut self.groups[group].active);
        for node in active.numbers() {
            self.nodes[node].subjects.remove(group);
        }
    }

    /// One more policy of a subject group names a group.
    pub(super) fn edge_add(&mut self, subject: u32, named: u32, naming: Naming) {
        self.change_edge(subject, named, |edge| {
            edge.policies += 1;
            edge.as_peer += u32::from(naming == Naming::Peer);
        });
    }

    /// One policy of a subject group less names a group.
    pub(super) fn edge_sub(&mut self, subject: u32, named: u32, naming: Naming) {
        self.change_edge(subject, named, |edge| {
            edge.policies -= 1;
            edge.as_peer -= u32::from(naming == Naming::Peer);
        });
    }

    fn change_edge(&mut self, subject: u32, named: u32, change: impl FnOnce(&mut Edge)) {
        let edges = &mut self.groups[subject].edges;
        let found = edges.binary_search_by_key(&named, |(g, _)| *g);
        let at = found.unwrap_or_else(|at| at);
        if found.is_err() {
            edges.insert(at, (named, Edge::default()));
        }
        let edge = &mut edges[at].1;
        let before = edge.naming();
        change(edge);
        let after = edge.naming();
        if after.is_none() {
            edges.remove(at);
        }
        match (before, after) {
            (None, Some(_)) => self.groups.edges += 1,
            (Some(_), None) => self.groups.edges -= 1,
            _ => {}
        }
        if before == after {
            return;
        }
        let nodes: SmallVec<[u32; 8]> = self.groups[subject].active.numbers().collect();
        for node in nodes {
            if let Some(naming) = after {
                self.reach_add(named, node, naming);
            }
            if let Some(naming) = before {
                self.reach_sub(named, node, naming);
            }
        }
    }
}
