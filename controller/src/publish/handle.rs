//! How others talk to the hub.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use weir_api::v1;
use weir_policy::ids::PolicyKey;

use super::{
    Counters, Question, QuestionError, Request, Session, SubscribeError, Subscription, Summary,
};
use crate::index::View;
use crate::source::Warnings;
use crate::status::Page;

/// The hub has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller is shutting down")]
pub struct HubGone;

/// A way to the hub; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    summary: watch::Receiver<Summary>,
    waits_for: watch::Receiver<String>,
    counters: Arc<Counters>,
    warnings: watch::Receiver<Warnings>,
}

impl Handle {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        summary: watch::Receiver<Summary>,
        waits_for: watch::Receiver<String>,
        counters: Arc<Counters>,
        warnings: watch::Receiver<Warnings>,
    ) -> Self {
        Self { requests, summary, waits_for, counters, warnings }
    }

    /// What keeps the source from having told everything; empty when nothing is known to.
    pub fn waits_for(&self) -> String {
        self.waits_for.borrow().clone()
    }

    /// Waits until the source has told everything there is.
    ///
    /// Errors: [`HubGone`].
    pub async fn synced(&self) -> Result<(), HubGone> {
        let mut summary = self.summary.clone();
        summary.wait_for(|s| s.synced).await.map(|_| ()).map_err(|_| HubGone)
    }

    /// Waits until the picture has at least this revision.
    ///
    /// Errors: [`HubGone`].
    pub async fn revision(&self, at_least: u64) -> Result<(), HubGone> {
        let mut summary = self.summary.clone();
        summary.wait_for(|s| s.revision >= at_least).await.map(|_| ()).map_err(|_| HubGone)
    }

    pub fn summary(&self) -> Summary {
        *self.summary.borrow()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A snapshot for a stream and what follows it.
    ///
    /// Errors: [`SubscribeError`].
    pub async fn subscribe(&self, session: Session) -> Result<Subscription, SubscribeError> {
        self.ask_hub(|reply| Request::Subscribe { session, reply }).await?
    }

    /// What the agent of a node says it has done, at the time when it said so.
    ///
    /// Errors: [`HubGone`].
    pub async fn realized(
        &self,
        node: u32,
        session: u64,
        report: v1::Realized,
    ) -> Result<(), HubGone> {
        let request = Request::Realized { node, session, at: Instant::now(), report };
        self.requests.send(request).await.map_err(|_| HubGone)
    }

    /// The picture.
    ///
    /// Errors: [`HubGone`].
    pub async fn view(&self) -> Result<View, HubGone> {
        self.ask_hub(Request::View).await
    }

    /// Nodes, policies, warnings.
    ///
    /// Errors: [`HubGone`].
    pub async fn status(&self) -> Result<v1::StatusReply, HubGone> {
        self.ask_hub(Request::Status).await
    }

    /// How far some policies are: `limit` from the `from`th on.
    ///
    /// Errors: [`HubGone`].
    pub async fn policies(&self, from: usize, limit: usize) -> Result<Page, HubGone> {
        self.ask_hub(|reply| Request::Policies { from, limit, reply }).await
    }

    /// What the nodes connected here have made of some policies, for another replica.
    ///
    /// Errors: [`HubGone`].
    pub async fn told(&self, keys: Vec<PolicyKey>, nodes: bool) -> Result<v1::ToldReply, HubGone> {
        self.ask_hub(|reply| Request::Told { keys, nodes, reply }).await
    }

    /// Requests that wait for the hub.
    pub fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Those of the policies that there are not.
    ///
    /// Errors: [`HubGone`].
    pub async fn missing(&self, keys: Vec<PolicyKey>) -> Result<Vec<PolicyKey>, HubGone> {
        self.ask_hub(|reply| Request::Missing { keys, reply }).await
    }

    /// All warnings of the source that hold now.
    pub fn warnings(&self) -> Warnings {
        Arc::clone(&self.warnings.borrow())
    }

    /// Passes a question on to the agent of a node.
    ///
    /// Errors: [`QuestionError`].
    pub async fn ask(&self, node: String, question: Question) -> Result<(), QuestionError> {
        self.ask_hub(|reply| Request::Ask { node, question, reply }).await?
    }

    async fn ask_hub<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, HubGone> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| HubGone)?;
        answer.await.map_err(|_| HubGone)
    }

    /// Sizes and counts as sorted lines, for people.
    pub fn describe(&self) -> String {
        let summary = self.summary();
        let sizes = summary.sizes;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let lines = [
            ("batches", read(&self.counters.batches)),
            ("bytes encoded", read(&self.counters.bytes_encoded)),
            ("changes encoded", read(&self.counters.changes_encoded)),
            ("deltas sent", read(&self.counters.deltas_sent)),
            ("edges", sizes.edges as u64),
            ("groups", sizes.groups as u64),
            ("namespaces", sizes.namespaces as u64),
            ("nodes", sizes.nodes as u64),
            ("pods", sizes.pods as u64),
            ("policies", sizes.policies as u64),
            ("profiles", sizes.profiles as u64),
            ("revision", summary.revision),
            ("snapshots for agents in doubt", read(&self.counters.snapshots_doubted)),
            ("snapshots for new streams", read(&self.counters.snapshots_new)),
            ("snapshots for slow streams", read(&self.counters.snapshots_slow)),
            ("snapshots of what differs", read(&self.counters.snapshots_partial)),
            ("streams", summary.streams as u64),
            ("streams behind, ever", read(&self.counters.streams_behind)),
            ("synced", u64::from(summary.synced)),
        ];
        let mut out = String::new();
        for (name, value) in lines {
            // writing to a String cannot fail
            let _ = writeln!(out, "{name}: {value}");
        }
        out
    }
}
