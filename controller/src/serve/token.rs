//! Agents that are pods: a ServiceAccount token says which, and which node they run on.
//!
//! The API server judges the token (TokenReview). It must be for us (audience), of the agents' ServiceAccount, and bound
//! to a node, which it is when the kubelet had it made for a pod. Then the node that the API server names is the node.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Where the API server says which node a token is bound to.
///
/// Source: KEP-4193, "Bound service account token improvements"; in tokens of pods since Kubernetes 1.30.
pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// How long a judgement holds. An agent that comes back at once costs no review, and one whose token was taken away
/// comes in no longer than that.
const CACHED: Duration = Duration::from_secs(30);
/// Judgements that are kept: so many good ones, which tokens that somebody makes up displace none of, and so many bad.
const CACHE: usize = 4096;
/// Longer than any token of a ServiceAccount. Units: bytes.
const MAX_TOKEN: usize = 8 << 10;
/// Reviews under way at once. A crowd of agents waits here and not at the API server.
const REVIEWS: usize = 16;
/// For one review, the wait for its turn included.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a token speaks for no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    #[error("tokens are not taken here; a client certificate is needed")]
    NotTaken,
    #[error("the token is not `Bearer TOKEN`, or too long")]
    Malformed,
    /// Expired, forged, of another cluster, or for another audience: the API server's words.
    #[error("the API server refuses the token for audience {audience}: {reason}")]
    Refused { audience: String, reason: String },
    #[error("the token is that of {user:?}, agents are {account:?}")]
    Account { user: String, account: String },
    #[error("the token is not bound to a node; the kubelet makes such tokens for pods")]
    NotBound,
    #[error("an earlier token of this connection was refused")]
    Again,
    /// Nobody's fault here, and to be tried again.
    #[error("the API server cannot be asked about the token: {0}")]
    NoReview(String),
}

/// What was said of a token.
type Judgement = Result<String, TokenError>;

/// Judgements by the token's hash. The oldest goes when there are too many.
#[derive(Debug, Default)]
struct Recent {
    by_hash: HashMap<[u8; 32], (Instant, Judgement)>,
    /// Oldest first.
    order: VecDeque<([u8; 32], Instant)>,
}

impl Recent {
    fn get(&self, hash: &[u8; 32]) -> Option<Judgement> {
        let (at, judged) = self.by_hash.get(hash)?;
        (at.elapsed() < CACHED).then(|| judged.clone())
    }

    fn put(&mut self, hash: [u8; 32], judged: Judgement) {
        let now = Instant::now();
        while let Some((oldest, at)) = self.order.front()
            && (self.order.len() >= CACHE || now.duration_since(*at) >= CACHED)
        {
            self.by_hash.remove(oldest);
            self.order.pop_front();
        }
        self.order.push_back((hash, now));
        self.by_hash.insert(hash, (now, judged));
    }
}

/// What is remembered.
#[derive(Debug, Default)]
struct Cache {
    good: Recent,
    bad: Recent,
}

/// Judges tokens.
#[derive(Clone)]
pub struct Tokens {
    reviews: Api<TokenReview>,
    audience: String,
    account: String,
    room: Arc<Semaphore>,
    cache: Arc<Mutex<Cache>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { audience, account, .. } = self;
        f.debug_struct("Tokens").field("audience", audience).field("account", account).finish()
    }
}

impl Tokens {
    /// Takes tokens for `audience` of one ServiceAccount.
    pub fn new(client: Client, audience: &str, namespace: &str, account: &str) -> Self {
        Self {
            reviews: Api::all(client),
            audience: audience.to_owned(),
            account: format!("system:serviceaccount:{namespace}:{account}"),
            room: Arc::new(Semaphore::new(REVIEWS)),
            cache: Arc::default(),
        }
    }

    /// The node that the bearer of this `authorization` speaks for.
    ///
    /// Errors: [`TokenError`].
    pub async fn node(&self, authorization: &str) -> Judgement {
        let token = authorization.strip_prefix("Bearer ").map(str::trim);
        let token = token.filter(|t| !t.is_empty() && t.len() <= MAX_TOKEN);
        let token = token.ok_or(TokenError::Malformed)?;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.known(&digest) {
            return known;
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask(token, digest)).await;
        asked.unwrap_or_else(|_| {
            Err(TokenError::NoReview(format!("no answer within {} s", PATIENCE.as_secs())))
        })
    }

    /// Has a token judged, when its turn comes.
    async fn ask(&self, token: &str, digest: [u8; 32]) -> Judgement {
        let _room = self.room.acquire().await.map_err(|e| TokenError::NoReview(e.to_string()))?;
        // another stream may have asked meanwhile
        if let Some(known) = self.known(&digest) {
            return known;
        }
        let judged = self.judge(self.review(token).await?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let of_its_kind = if judged.is_ok() { &mut cache.good } else { &mut cache.bad };
        of_its_kind.put(digest, judged.clone());
        judged
    }

    fn known(&self, digest: &[u8; 32]) -> Option<Judgement> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.good.get(digest).or_else(|| cache.bad.get(digest))
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, TokenError> {
        let spec = TokenReviewSpec {
            audiences: Some(vec![self.audience.clone()]),
            token: Some(token.to_owned()),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let params = PostParams::default();
        let answer = self.reviews.create(&params, &review).await;
        let answer = answer.map_err(|error| TokenError::NoReview(error.to_string()))?;
        Ok(answer.status.unwrap_or_default())
    }

    fn judge(&self, status: TokenReviewStatus) -> Judgement {
        let ours = status.audiences.iter().flatten().any(|a| *a == self.audience);
        if status.authenticated != Some(true) || !ours {
            let reason = status.error.filter(|e| !e.is_empty());
            let reason = reason.unwrap_or_else(|| "not authenticated".to_owned());
            return Err(TokenError::Refused { audience: self.audience.clone(), reason });
        }
        let user = status.user.unwrap_or_default();
        let name = user.username.unwrap_or_default();
        if name != self.account {
            return Err(TokenError::Account { user: name, account: self.account.clone() });
        }
        match user.extra.unwrap_or_default().remove(NODE_NAME).as_deref() {
            Some([node]) if !node.is_empty() => Ok(node.clone()),
            _ => Err(TokenError::NotBound),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::task::{Context, Poll};

    use kube::client::Body;
    use tonic::codegen::{BoxFuture, Service, http};

    use super::*;

    /// An API server that answers no review, or all of them with what it is asked for.
    #[derive(Clone)]
    struct Server {
        answers: bool,
    }

    impl Service<http::Request<Body>> for Server {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let answers = self.answers;
            Box::pin(async move {
                if !answers {
                    return pending().await;
                }
                let body = request.into_body().collect_bytes().await.unwrap();
                let mut review: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let good = review["spec"]["token"].as_str().unwrap().starts_with("good");
                review["status"] = serde_json::json!({
                    "authenticated": good, "audiences": ["a"],
                    "user": {"username": "system:serviceaccount:weir:agent", "extra": {NODE_NAME: ["n1"]}},
                });
                Ok(http::Response::new(review.to_string().into_bytes().into()))
            })
        }
    }

    fn tokens(answers: bool) -> Tokens {
        Tokens::new(Client::new(Server { answers }, "weir"), "a", "weir", "agent")
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_that_for_a_review() {
        let (tokens, begun) = (tokens(false), Instant::now());
        let all = (0..REVIEWS * 3).map(|n| {
            let tokens = tokens.clone();
            async move { tokens.node(&format!("Bearer {n}")).await }
        });
        for judged in futures_util::future::join_all(all).await {
            assert!(matches!(judged, Err(TokenError::NoReview(_))), "{judged:?}");
        }
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_tokens_displace_no_good_one() {
        let tokens = tokens(true);
        assert_eq!(tokens.node("Bearer good").await.as_deref(), Ok("n1"));
        for n in 0..=CACHE {
            tokens.node(&format!("Bearer bad-{n}")).await.unwrap_err();
        }
        let cache = tokens.cache.lock().unwrap();
        let known = |token: &str| {
            let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
            cache.good.get(&digest).or_else(|| cache.bad.get(&digest)).is_some()
        };
        assert!(known("good"));
        // of the bad ones the oldest is gone, and only that
        assert!(!known("bad-0"));
        assert!(known("bad-1") && known(&format!("bad-{CACHE}")));
        assert_eq!((cache.bad.order.len(), cache.bad.by_hash.len()), (CACHE, CACHE));
    }
}
