//! A Kubernetes API server, watched.
//!
//! Each kind is listed page by page and then followed. Only the end of a list counts: until every kind's first list was
//! read to its end nobody is served, and a later list, after a connection broke for too long (410), lands as one batch:
//! what changed, what came, what went. Meanwhile the picture stays as it was. Objects are trimmed while they are decoded,
//! and one that cannot be understood is named and costs only itself.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use kube::Client;
use tokio::time::Instant;
use weir_runtime::ready::Gate;

use super::{Closed, Code, Feed, Warning};
use crate::event::Event;

mod follow;
mod known;
mod object;
mod shape;

use follow::{Seen, Told, follow};
use known::Known;
use object::{Kind, Namespaces, NetworkPolicies, Nodes, Pods, Workloads};

/// Messages of the API server taken into one batch, if they are there already. It bounds how long a change waits for
/// those that come with it, and what the first list keeps in memory beside the index.
const BATCH: usize = 512;

/// How the API server is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Objects of one page of a list. A page is in memory as a whole, some 20 KiB an object as it is sent. 500.
    pub page: u32,
    /// How long one watch lasts before it is asked for again; a server that is gone without a word is noticed 5 s after
    /// that. Units: seconds. 60.
    pub watch_seconds: u32,
    /// Pauses between attempts. 100 ms to 10 s.
    pub backoff: (Duration, Duration),
    /// How often a kind that the server does not know is asked for again. 30 s.
    pub absent: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            page: 500,
            watch_seconds: 60,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            absent: Duration::from_secs(30),
        }
    }
}

/// What comes of all kinds, with the kind's place in [`Source::kinds`].
type Merged = stream::SelectAll<Pin<Box<dyn Stream<Item = (usize, Told)> + Send>>>;

/// Follows an API server until nobody takes the events any more.
pub async fn run(client: Client, options: Options, feed: Feed, gate: Gate) {
    let mut source = Source {
        kinds: Vec::new(),
        aside: Vec::new(),
        problems: Vec::new(),
        synced: false,
        feed,
        gate,
    };
    let mut merged: Merged = stream::SelectAll::new();
    source.add::<Namespaces>(&client, options, &mut merged);
    source.add::<Nodes>(&client, options, &mut merged);
    source.add::<NetworkPolicies>(&client, options, &mut merged);
    source.add::<Pods>(&client, options, &mut merged);
    source.add::<Workloads>(&client, options, &mut merged);
    source.explain();
    // a stream of this kind does not end
    while let Some(first) = merged.next().await {
        let at = Instant::now();
        let mut taken = source.take(first);
        for _ in 1..BATCH {
            let Some(Some(next)) = merged.next().now_or_never() else {
                break;
            };
            taken.add(source.take(next));
        }
        if source.publish(at, taken).await.is_err() {
            return;
        }
    }
}

struct Source {
    kinds: Vec<Known>,
    /// Pods and workloads that came while it was not certain which policies there are, oldest first.
    aside: Vec<Event>,
    /// What is wrong with the connection, by kind.
    problems: Vec<Option<Warning>>,
    synced: bool,
    feed: Feed,
    gate: Gate,
}

/// What some messages come to.
#[derive(Debug, Default)]
struct Taken {
    events: Vec<Event>,
    /// Warnings or the state of a kind changed.
    news: bool,
}

impl Taken {
    fn add(&mut self, mut more: Self) {
        self.events.append(&mut more.events);
        self.news |= more.news;
    }
}

impl Source {
    fn add<K: Kind>(&mut self, client: &Client, options: Options, merged: &mut Merged) {
        let place = self.kinds.len();
        self.kinds.push(Known::new(K::NAME));
        self.problems.push(None);
        merged.push(follow::<K>(client.clone(), options).map(move |told| (place, told)).boxed());
    }

    fn take(&mut self, (place, told): (usize, Told)) -> Taken {
        let mut out = Taken::default();
        let (kind, problem) = (&mut self.kinds[place], &mut self.problems[place]);
        match told {
            Ok(Seen::Begin) => kind.begin(),
            Ok(Seen::Applied { key, version, manifest }) => {
                out.news = kind.apply(key, &version, manifest, &mut out.events);
            }
            Ok(Seen::Deleted { key, uid }) => {
                out.news = kind.delete(&key, &uid, &mut out.events);
            }
            Ok(Seen::End) => {
                let first = !kind.synced();
                out.news = kind.end(&mut out.events) | first;
                if first || kind.len() > 0 {
                    tracing::info!(kind = kind.kind(), objects = kind.len(), "listed");
                }
            }
            // it works again, and whatever was missed has been told by now
            Ok(Seen::Alive) => out.news = problem.take().is_some(),
            Err(message) => {
                let warning = Warning {
                    code: Code::KindUnavailable,
                    object: kind.kind().to_owned(),
                    field: String::new(),
                    message,
                };
                if problem.as_ref() != Some(&warning) {
                    tracing::warn!(kind = kind.kind(), "{}", warning.message);
                    *problem = Some(warning);
                    out.news = true;
                }
            }
        }
        out
    }

    async fn publish(&mut self, at: Instant, mut taken: Taken) -> Result<(), Closed> {
        let complete = !self.synced && self.kinds.iter().all(Known::synced);
        if complete {
            taken.events.push(Event::Synced);
        }
        if taken.news {
            let warnings = self.kinds.iter().flat_map(Known::warnings);
            let mut warnings: Vec<_> =
                warnings.chain(self.problems.iter().flatten()).cloned().collect();
            warnings.sort();
            self.feed.warn(warnings);
        }
        let events = self.in_order(taken.events);
        self.feed.send(at, events).await?;
        if complete {
            self.synced = true;
            self.gate.open();
        } else if taken.news {
            self.explain();
        }
        Ok(())
    }

    /// A pod that agents hear of before its policy is open until the policy comes. So while policies or namespaces
    /// cannot be followed, what is new of pods waits: unknown pods are closed, and known ones stay as they were.
    fn in_order(&mut self, events: Vec<Event>) -> Vec<Event> {
        let uncertain = self.synced
            && self.kinds.iter().zip(&self.problems).any(|(kind, problem)| {
                matches!(kind.kind(), Namespaces::NAME | NetworkPolicies::NAME)
                    && (problem.is_some() || kind.listing())
            });
        if !uncertain && self.aside.is_empty() {
            return events;
        }
        let (endpoints, mut others): (Vec<_>, Vec<_>) =
            events.into_iter().partition(Event::is_of_endpoint);
        self.aside.extend(endpoints);
        if !uncertain {
            others.append(&mut self.aside);
        }
        others
    }

    /// Which kinds are waited for, and why they do not come. Once complete, the picture stays so.
    fn explain(&self) {
        if self.synced {
            return;
        }
        let waiting = self.kinds.iter().zip(&self.problems).filter(|(kind, _)| !kind.synced());
        let reasons: Vec<String> = waiting
            .map(|(kind, problem)| match problem {
                Some(problem) => format!("{} ({})", kind.kind(), problem.message),
                None => kind.kind().to_owned(),
            })
            .collect();
        self.gate.close(&format!("waiting for {}", reasons.join(", ")));
    }
}
