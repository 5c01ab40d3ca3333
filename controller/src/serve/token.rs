//! Agents that are pods: a ServiceAccount token says which, and which node they run on.
//!
//! The API server judges the token (TokenReview). It must be for us (audience), of the agents' ServiceAccount, and bound
//! to a node, which it is when the kubelet had it made for a pod. Then the node that the API server names is the node.

use std::collections::HashMap;
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
/// Judgements that are kept.
const CACHE: usize = 4096;
/// Longer than any token of a ServiceAccount. Units: bytes.
const MAX_TOKEN: usize = 8 << 10;
/// Reviews under way at once. A crowd of agents waits here and not at the API server.
const REVIEWS: usize = 16;
/// For one review.
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
    /// Nobody's fault here, and to be tried again.
    #[error("the API server cannot be asked about the token: {0}")]
    NoReview(String),
}

/// What was said of a token, by its hash, and when.
type Cache = HashMap<[u8; 32], (Instant, Result<String, TokenError>)>;

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
    pub async fn node(&self, authorization: &str) -> Result<String, TokenError> {
        let token = authorization.strip_prefix("Bearer ").map(str::trim);
        let token = token.filter(|t| !t.is_empty() && t.len() <= MAX_TOKEN);
        let token = token.ok_or(TokenError::Malformed)?;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.known(&digest) {
            return known;
        }
        let _room = self.room.acquire().await.map_err(|e| TokenError::NoReview(e.to_string()))?;
        // another stream may have asked meanwhile
        if let Some(known) = self.known(&digest) {
            return known;
        }
        let judged = match self.review(token).await {
            Ok(status) => self.judge(status),
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE {
            cache.retain(|_, (at, _)| now.duration_since(*at) < CACHED);
            if cache.len() >= CACHE {
                cache.clear();
            }
        }
        cache.insert(digest, (now, judged.clone()));
        judged
    }

    fn known(&self, digest: &[u8; 32]) -> Option<Result<String, TokenError>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, judged) = cache.get(digest)?;
        (at.elapsed() < CACHED).then(|| judged.clone())
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, TokenError> {
        let spec = TokenReviewSpec {
            audiences: Some(vec![self.audience.clone()]),
            token: Some(token.to_owned()),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let params = PostParams::default();
        let asked = tokio::time::timeout(PATIENCE, self.reviews.create(&params, &review)).await;
        let answer = asked
            .map_err(|_| TokenError::NoReview(format!("no answer within {PATIENCE:?}")))?
            .map_err(|error| TokenError::NoReview(error.to_string()))?;
        Ok(answer.status.unwrap_or_default())
    }

    fn judge(&self, status: TokenReviewStatus) -> Result<String, TokenError> {
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
