//! What the controller is told.

use std::collections::{BTreeMap, BTreeSet};

use weir_policy::ids::PolicyKey;

use super::{Phase, Reconciler};
use crate::seam::{Switch, Uplink};
use crate::uplink::{Outcome, Report};

/// What the controller has not heard yet.
#[derive(Default)]
pub(super) struct News {
    /// Policies whose outcome may be another.
    policies: BTreeSet<PolicyKey>,
    /// All of them.
    everything: bool,
    /// The failures last told.
    failures: BTreeMap<PolicyKey, Vec<String>>,
    /// How many flows each policy was told to have.
    flows: BTreeMap<PolicyKey, u32>,
    /// The last report, without results.
    last: Option<Report>,
}

impl News {
    pub(super) fn tell_everything(&mut self) {
        self.everything = true;
        self.last = None;
    }

    pub(super) fn touched(&mut self, policies: &BTreeSet<PolicyKey>) {
        self.policies.extend(policies.iter().cloned());
    }
}

impl<S: Switch, U: Uplink> Reconciler<S, U> {
    /// Tells the controller and whoever looks what is in force now. Says nothing that was said before.
    pub(super) fn publish(&mut self) {
        self.time_arrivals();
        self.publish_overview();
        // before the first word of a controller there is nobody to tell
        if self.stream == 0 {
            return;
        }
        let settled = matches!(self.phase, Phase::Following) && !self.pending;
        let mut report = self.counts();
        if settled {
            report.revision = self.revision;
        } else if let Some(last) = &self.news.last {
            report.revision = last.revision;
        }
        let same = self.news.last.as_ref() == Some(&report);
        if settled {
            report.results = self.results();
        }
        if same && report.results.is_empty() {
            return;
        }
        self.news.last = Some(Report { results: BTreeMap::new(), ..report.clone() });
        self.uplink.report(report);
    }

    fn counts(&self) -> Report {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (ready, closed) = self.port_counts();
        Report {
            stream: self.stream,
            gaps: self.gaps(),
            ports_ready: number(ready),
            ports_closed: number(closed),
            flows: number(self.installed.len()),
            ..Report::default()
        }
    }

    pub(super) fn port_counts(&self) -> (usize, usize) {
        self.desired.as_ref().map_or((0, 0), crate::desired::Desired::port_counts)
    }

    /// What this node cannot do, as sentences.
    pub(super) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if !self.pipeline.sctp_tracked {
            gaps.push(
                "connection tracking of this datapath knows no SCTP ports (netdev before OVS 3.2): SCTP is not \
                 tracked, and does not reach or leave isolated pods"
                    .to_owned(),
            );
        }
        gaps.extend(self.unswept.as_ref().map(|why| {
            format!("UDP connections that only their responders use go on after a change: {why}")
        }));
        if self.ports.is_some() && self.fail_mode.as_deref() != Some(super::SECURE) {
            gaps.push(format!(
                "fail_mode of {} is not secure: without its flows the bridge forwards everything",
                self.config.ports.bridge
            ));
        }
        gaps.extend(self.trouble.as_ref().map(|t| format!("not in force: {t}")));
        gaps.extend(self.saver.trouble().map(|t| format!("state cannot be saved: {t}")));
        gaps.extend(self.refusals.others.iter().map(|r| format!("not understood: {r}")));
        gaps
    }

    /// Outcomes that are news; they count as told from now on.
    fn results(&mut self) -> BTreeMap<PolicyKey, Outcome> {
        let Some(state) = &self.state else {
            return BTreeMap::new();
        };
        let mut failures = self.desired.as_ref().map(|d| d.failures()).unwrap_or_default();
        for (key, (_, reason)) in &self.refusals.policies {
            failures
                .entry(key.clone())
                .or_default()
                .push(format!("{}{reason}", super::NOT_UNDERSTOOD));
        }
        let mut keys = std::mem::take(&mut self.news.policies);
        if std::mem::take(&mut self.news.everything) {
            keys.extend(state.policies.keys().cloned());
        }
        // a rule of one policy may fail, or work again, by a change of another
        let before = std::mem::replace(&mut self.news.failures, failures.clone());
        for (one, other) in [(&before, &failures), (&failures, &before)] {
            keys.extend(
                one.iter().filter(|(k, v)| other.get(*k) != Some(*v)).map(|(k, _)| k.clone()),
            );
        }
        let recounted = self.desired.as_mut().map(|d| d.take_recounted()).unwrap_or_default();
        let flows_of = |key: &PolicyKey| {
            let flows = self.desired.as_ref().map_or(0, |d| d.flows_of(key));
            u32::try_from(flows).unwrap_or(u32::MAX)
        };
        keys.extend(recounted.into_iter().filter(|k| self.news.flows.get(k) != Some(&flows_of(k))));
        let mut out = BTreeMap::new();
        for key in keys {
            let refused = self.refusals.policies.get(&key).map(|(generation, _)| *generation);
            let known = || state.policies.get(&key).map(|p| p.generation);
            let Some(generation) = refused.or_else(known) else {
                self.news.flows.remove(&key);
                continue;
            };
            let failures = failures.remove(&key).unwrap_or_default();
            let flows = flows_of(&key);
            self.news.flows.insert(key.clone(), flows);
            out.insert(key, Outcome { generation, failures, flows });
        }
        out
    }

    /// Failures last told, for people.
    pub(super) fn told_failures(&self) -> &BTreeMap<PolicyKey, Vec<String>> {
        &self.news.failures
    }
}
