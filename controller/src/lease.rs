//! Which replica writes to the cluster: the one that holds a Lease.
//!
//! All replicas watch, compute and serve; only status is written by one. The holder renews the Lease; the others look at
//! it, and one takes it over when it was not renewed for as long as it says. Clocks of different hosts are never
//! compared: what counts is how long the Lease has not changed by our own clock.
//!
//! No two lead at once. The holder counts from before it asked for a renewal, the others from when they saw it, which is
//! later; and the holder stops at [`Pace::deadline`], whatever it is waiting for then, well before the others may begin.
//! What is left is a write that was on its way then and reaches the API server later than the Lease runs out.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The Lease, in Weir's namespace.
pub const NAME: &str = "weir-controller";

/// How the Lease is kept.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After so long without renewal it is anybody's. 15 s.
    pub duration: Duration,
    /// How often the holder renews it and the others look. 3 s.
    pub renew: Duration,
}

impl Pace {
    /// So long after its last renewal the holder stops. Two thirds of the duration.
    fn deadline(&self) -> Duration {
        self.duration * 2 / 3
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { duration: Duration::from_secs(15), renew: Duration::from_secs(3) }
    }
}

/// A replica that would hold the Lease.
#[derive(Clone)]
pub struct Candidate {
    pub client: Client,
    pub namespace: String,
    /// Differs between replicas, also of the same name one after the other.
    pub identity: String,
    pub pace: Pace,
}

/// The Lease as it was last seen, and since when it is so.
struct Observed {
    version: String,
    since: Instant,
}

impl Candidate {
    /// Tries to hold the Lease until `drain`, and then gives it up. `holds` says whether we do.
    pub async fn run(self, holds: watch::Sender<bool>, drain: CancellationToken) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut observed: Option<Observed> = None;
        let mut renewed: Option<Instant> = None;
        let mut problem = String::new();
        loop {
            let round = Instant::now();
            let attempt =
                tokio::time::timeout(self.pace.duration / 2, self.attempt(&leases, &mut observed));
            let Some(outcome) = self.or_stop(attempt, &renewed, &holds, &drain).await else {
                break;
            };
            match outcome {
                Ok(Ok(true)) => {
                    renewed = Some(round);
                    problem.clear();
                }
                Ok(Ok(false)) => {
                    renewed = None;
                    problem.clear();
                }
                failed => {
                    let error = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer in time".to_owned(),
                    };
                    if error != problem {
                        tracing::warn!(error, "Lease {}/{NAME}", self.namespace);
                        problem = error;
                    }
                }
            }
            self.say(&holds, renewed.is_some_and(|at| at.elapsed() < self.pace.deadline()));
            let pause = tokio::time::sleep(self.pace.renew);
            if self.or_stop(pause, &renewed, &holds, &drain).await.is_none() {
                break;
            }
        }
        if holds.send_replace(false) {
            drop(tokio::time::timeout(self.pace.renew, self.release(&leases)).await);
        }
    }

    /// Waits for something, and stops leading meanwhile when the time for that has come. None: the drain has begun.
    async fn or_stop<T>(
        &self,
        what: impl Future<Output = T>,
        renewed: &Option<Instant>,
        holds: &watch::Sender<bool>,
        drain: &CancellationToken,
    ) -> Option<T> {
        let end = renewed.filter(|_| *holds.borrow()).map(|at| at + self.pace.deadline());
        let overdue = async {
            if let Some(end) = end {
                tokio::time::sleep_until(end).await;
                self.say(holds, false);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = drain.cancelled() => None,
            done = what => Some(done),
            () = overdue => None,
        }
    }

    fn say(&self, holds: &watch::Sender<bool>, now: bool) {
        if holds.send_replace(now) != now {
            let what = if now { "leading" } else { "not leading" };
            tracing::info!(identity = self.identity, "{what}");
        }
    }

    /// One look, and what follows from it: whether the Lease is ours now.
    async fn attempt(
        &self,
        leases: &Api<Lease>,
        observed: &mut Option<Observed>,
    ) -> Result<bool, kube::Error> {
        let conflict = |result: Result<Lease, kube::Error>| match result {
            Ok(_) => Ok(true),
            // another was quicker, which the next look will show
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        };
        let Some(mut lease) = leases.get_opt(NAME).await? else {
            let metadata = ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease { metadata, spec: Some(self.spec(LeaseSpec::default())) };
            return conflict(leases.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match observed {
            Some(seen) if seen.version == version => seen.since,
            _ => {
                let since = Instant::now();
                *observed = Some(Observed { version, since });
                since
            }
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let ours = holder == self.identity;
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let lasts = seconds.map_or(self.pace.duration, Duration::from_secs);
        if !ours && !holder.is_empty() && since.elapsed() < lasts {
            return Ok(false);
        }
        lease.spec = Some(self.spec(spec));
        conflict(leases.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn spec(&self, before: LeaseSpec) -> LeaseSpec {
        let now = MicroTime(jiff::Timestamp::now());
        let ours = before.holder_identity.as_ref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            // a duration below a second is for tests, and is not written as 0
            lease_duration_seconds: i32::try_from(self.pace.duration.as_secs().max(1)).ok(),
            acquire_time: before.acquire_time.filter(|_| ours).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if ours { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }

    /// Lets another have it at once.
    async fn release(&self, leases: &Api<Lease>) -> Result<(), kube::Error> {
        let Some(mut lease) = leases.get_opt(NAME).await? else {
            return Ok(());
        };
        let ours = |spec: &&mut LeaseSpec| spec.holder_identity.as_ref() == Some(&self.identity);
        if let Some(spec) = lease.spec.as_mut().filter(ours) {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
            leases.replace(NAME, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::client::Body;
    use tonic::codegen::http;

    use super::*;
    use crate::fake_client;

    /// The same code with what was sent, or with an error.
    async fn answer(code: u16, request: http::Request<Body>) -> http::Response<Body> {
        let body = match code {
            200..300 => request.into_body().collect_bytes().await.unwrap().to_vec(),
            code => serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "no", "code": code,
                "reason": if code == 404 { "NotFound" } else { "InternalError" },
            })
            .to_string()
            .into_bytes(),
        };
        http::Response::builder().status(code).body(body.into()).unwrap()
    }

    /// An API server with these answers; after the last one it takes questions and says nothing.
    fn client(answers: &'static [u16], asked: &Arc<AtomicUsize>) -> Client {
        let asked = Arc::clone(asked);
        fake_client::client(move |request| {
            let code = answers.get(asked.fetch_add(1, Ordering::Relaxed));
            async move {
                match code {
                    Some(code) => answer(*code, request).await,
                    None => pending().await,
                }
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_holder_stops_before_another_may_begin() {
        // there is none, it is made; then errors, and in the end silence
        for answers in [&[404, 201][..], &[404, 201, 500], &[404, 201, 500, 500]] {
            let asked = Arc::default();
            let candidate = Candidate {
                client: client(answers, &asked),
                namespace: "weir".to_owned(),
                identity: "a".to_owned(),
                pace: Pace::default(),
            };
            let (holds, mut leading) = watch::channel(false);
            let begun = Instant::now();
            let deadline = candidate.pace.deadline();
            let run = candidate.run(holds, CancellationToken::new());
            let ends = async {
                leading.wait_for(|l| *l).await.unwrap();
                leading.wait_for(|l| !*l).await.unwrap();
            };
            tokio::select! {
                () = run => panic!("it ended"),
                ended = tokio::time::timeout(deadline * 10, ends) => {
                    ended.unwrap_or_else(|_| panic!("{answers:?}: asked {asked:?}"));
                }
            }
            let stopped = begun.elapsed();
            assert!(stopped <= deadline + Duration::from_millis(1), "{answers:?}: {stopped:?}");
        }
    }
}
