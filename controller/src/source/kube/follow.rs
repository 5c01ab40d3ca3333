//! One kind at the API server: list, watch, and both again.

use std::collections::VecDeque;
use std::error::Error as _;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde_json::Value;
use tokio::time::Instant;
use weir_runtime::backoff::Backoff;

use super::Options;
use super::object::{Kind, Object};

/// A watch that has not failed for so long works, though nothing came by it. Longer than it takes to find that there is no
/// connection to be had.
const QUIET: Duration = Duration::from_secs(15);

/// How often in a row discovery must say that a kind is gone which was there, before its objects count as gone.
const CONVINCED: u32 = 2;

/// What is seen of a kind.
pub(super) enum Seen {
    /// A list begins.
    Begin,
    /// By a list or a watch.
    Applied { key: String, version: String, manifest: Value },
    /// By a watch.
    Deleted { key: String, uid: String },
    /// The list was read to its end.
    End,
    /// Something worked after something had failed.
    Alive,
}

/// What is seen, or why nothing is: one line for people.
pub(super) type Told = Result<Seen, String>;

struct Follower<K> {
    client: Client,
    options: Options,
    watcher: stream::BoxStream<'static, watcher::Result<Event<Object<K>>>>,
    backoff: Backoff,
    failed: bool,
    /// A list was read to its end, ever, and not for want of the kind.
    listed: bool,
    /// How often in a row the server has said that it knows no such kind.
    absent: u32,
    /// The end of the pause after a failure.
    resume: Option<Instant>,
    /// To be told before the next message is waited for.
    next: VecDeque<Told>,
}

/// Lists and watches a kind for ever.
pub(super) fn follow<K: Kind>(
    client: Client,
    options: Options,
) -> impl Stream<Item = Told> + Send + 'static {
    let watcher = start::<K>(&client, options);
    let backoff = Backoff::new(options.backoff.0, options.backoff.1);
    let follower = Follower {
        client,
        options,
        watcher,
        backoff,
        failed: false,
        listed: false,
        absent: 0,
        resume: None,
        next: VecDeque::new(),
    };
    stream::unfold(follower, |mut follower| async move {
        let told = follower.step().await?;
        Some((told, follower))
    })
}

fn start<K: Kind>(
    client: &Client,
    options: Options,
) -> stream::BoxStream<'static, watcher::Result<Event<Object<K>>>> {
    let config = Config::default().page_size(options.page).timeout(options.watch_seconds);
    watcher(Api::<Object<K>>::all(client.clone()), config).boxed()
}

impl<K: Kind> Follower<K> {
    async fn step(&mut self) -> Option<Told> {
        if let Some(told) = self.next.pop_front() {
            return Some(told);
        }
        if let Some(at) = self.resume {
            tokio::time::sleep_until(at).await;
            self.resume = None;
        }
        // Dropping the wait loses nothing: the watcher keeps what it was about.
        let next = match self.failed {
            true => match tokio::time::timeout(QUIET, self.watcher.next()).await {
                Ok(next) => next,
                Err(_) => {
                    self.failed = false;
                    return Some(Ok(Seen::Alive));
                }
            },
            false => self.watcher.next().await,
        };
        match next? {
            Ok(event) => {
                let seen = match event {
                    // said before anything was asked of the server
                    Event::Init => return Some(Ok(Seen::Begin)),
                    Event::InitApply(object) => return Some(Ok(applied(object))),
                    Event::InitDone => {
                        (self.listed, self.absent) = (true, 0);
                        Seen::End
                    }
                    Event::Apply(object) => applied(object),
                    Event::Delete(object) => Seen::Deleted {
                        key: object.key(),
                        uid: object.meta().uid.clone().unwrap_or_default(),
                    },
                };
                if std::mem::take(&mut self.failed) {
                    self.backoff.reset();
                    self.next.push_back(Ok(Seen::Alive));
                }
                Some(Ok(seen))
            }
            // what looks as if there were none may be a mistake of something in between: the server must say so itself
            Err(error)
                if K::OPTIONAL && is_absent(&error) && unknown_kind::<K>(&self.client).await =>
            {
                self.absent = self.absent.saturating_add(1);
                self.backoff.reset();
                self.resume = Some(Instant::now() + self.options.absent);
                if !self.listed {
                    // there are none, and there may be some once somebody has installed the kind
                    self.failed = false;
                    self.next.push_back(Ok(Seen::End));
                    return Some(Ok(Seen::Begin));
                }
                // There were some. Their kind was taken away, and they with it; nobody does that every day.
                self.failed = true;
                if self.absent < CONVINCED {
                    return Some(Err(format!(
                        "{0}.{1} is not served any more; what is known stays until that is certain",
                        K::PLURAL,
                        K::GROUP
                    )));
                }
                self.next.extend([Ok(Seen::Begin), Ok(Seen::End)]);
                Some(Err(format!(
                    "{0}.{1} is not served any more, its CustomResourceDefinition is gone: all {2}s count as deleted",
                    K::PLURAL,
                    K::GROUP,
                    K::NAME
                )))
            }
            Err(error) => {
                // a watch that goes on may be silent for long, and says nothing of being well again; a list ends
                if K::GUARDS || needs_list(&error) {
                    self.watcher = start::<K>(&self.client, self.options);
                }
                self.failed = true;
                // the reason first: whoever looks during the pause can see it
                let told = explain(&error);
                self.resume = Some(Instant::now() + self.backoff.pause());
                Some(Err(told))
            }
        }
    }
}

/// Whether discovery, asked now, says that there is no such kind. An answer that is no answer says nothing.
async fn unknown_kind<K: Kind>(client: &Client) -> bool {
    let version = format!("{}/{}", K::GROUP, K::VERSION);
    let asked = tokio::time::timeout(QUIET, async {
        let groups = client.list_api_groups().await.ok()?.groups;
        // a server of Kubernetes has more groups than ours
        let ours = groups.iter().filter(|g| g.name == K::GROUP);
        let served = ours.flat_map(|g| &g.versions).any(|v| v.group_version == version);
        if !served {
            return Some(!groups.is_empty());
        }
        let all = client.list_api_group_resources(&version).await.ok()?;
        Some(all.resources.iter().all(|r| r.name != K::PLURAL))
    });
    asked.await.ok().flatten().unwrap_or(false)
}

fn applied<K: Kind>(object: Object<K>) -> Seen {
    let (key, version) = (object.key(), object.version().to_owned());
    Seen::Applied { key, version, manifest: object.manifest }
}

/// The server has no such kind.
fn is_absent(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(s)) if s.code == 404)
}

/// The server will not go on from where we were, and says so otherwise than by the event that the watcher knows.
fn needs_list(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 400 | 404 | 410 | 504)
        }
        // something was missed: a line that is no event, or an error in the place of one
        watcher::Error::WatchFailed(kube::Error::SerdeError(_) | kube::Error::Api(_)) => true,
        watcher::Error::WatchError(status) => status.code != 410,
        _ => false,
    }
}

/// `cannot list: 403 Forbidden: pods is forbidden: ...`
fn explain(error: &watcher::Error) -> String {
    use watcher::Error;
    let of = |verb: &str, error: &kube::Error| match error {
        kube::Error::Api(status) => {
            format!("cannot {verb}: {} {}: {}", status.code, status.reason, status.message)
        }
        error => {
            let mut text = format!("cannot {verb}: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                let words = error.to_string();
                if !text.ends_with(&words) {
                    text = format!("{text}: {words}");
                }
                cause = error.source();
            }
            text
        }
    };
    match error {
        Error::InitialListFailed(error) => of("list", error),
        Error::WatchStartFailed(error) | Error::WatchFailed(error) => of("watch", error),
        Error::WatchError(status) => {
            format!("cannot watch: {} {}: {}", status.code, status.reason, status.message)
        }
        Error::NoResourceVersion => "cannot watch: an object came without a version".to_owned(),
    }
}
