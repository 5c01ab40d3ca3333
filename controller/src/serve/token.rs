//! Agents that are pods: a ServiceAccount token says which, and which node they run on.
//!
//! The API server judges the token (TokenReview). It must be for us (audience), of the agents' ServiceAccount, and bound
//! to a node, which it is when the kubelet had it made for a pod. Then the node that the API server names is the node.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
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
    /// The API server's words, and what we make of them.
    #[error("the API server refuses the token for audience {audience}: {fault}: {reason}")]
    Refused { audience: String, fault: Fault, reason: String },
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

/// What is the matter with a token that the API server has refused.
///
/// TokenReview says no more than that it is refused, with a text for people. So this is what the token says of itself,
/// which nobody has verified: it tells apart refusals, and decides none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its time is over, as it says.
    Expired,
    /// It was made for somebody else, as it says.
    Audience,
    /// Neither: forged, of another cluster, or its pod, node or account is gone.
    Other,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Expired => "it has expired",
            Self::Audience => "it was made for another audience",
            Self::Other => "forged, of another cluster, or its pod, node or ServiceAccount is gone",
        })
    }
}

/// Claims of a token.
///
/// Source: RFC 7519, "Registered Claim Names".
#[derive(serde::Deserialize)]
struct Claims {
    /// Units: seconds since 1970, which may have a fraction.
    exp: Option<f64>,
    #[serde(default)]
    aud: Audiences,
}

/// One may stand alone.
#[derive(Default, serde::Deserialize)]
#[serde(untagged)]
enum Audiences {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Fault {
    /// Of a refused token, with the time in seconds since 1970.
    fn of(token: &str, audience: &str, now: f64) -> Self {
        let Some(Claims { exp, aud }) = claims(token) else {
            return Self::Other;
        };
        let ours = match &aud {
            // whom a token without audience is for is the API server's affair
            Audiences::None => true,
            Audiences::One(one) => one == audience,
            Audiences::Many(many) => many.iter().any(|one| one == audience),
        };
        match exp {
            Some(exp) if exp <= now => Self::Expired,
            _ if !ours => Self::Audience,
            _ => Self::Other,
        }
    }
}

/// What a token says of itself. None for what is no JWT.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (payload, _signature) = (parts.nth(1)?, parts.next()?);
    // base64url without padding (RFC 7515), to the one with which Kubernetes writes bytes
    let mut text = payload.replace('-', "+").replace('_', "/");
    text.extend(std::iter::repeat_n('=', (4 - text.len() % 4) % 4));
    let bytes: ByteString = serde_json::from_value(text.into()).ok()?;
    serde_json::from_slice(&bytes.0).ok()
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
        let judged = self.judge(self.review(token).await?, token);
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

    fn judge(&self, status: TokenReviewStatus, token: &str) -> Judgement {
        let ours = status.audiences.iter().flatten().any(|a| *a == self.audience);
        if status.authenticated != Some(true) || !ours {
            let reason = status.error.filter(|e| !e.is_empty());
            let reason = reason.unwrap_or_else(|| "not authenticated".to_owned());
            let audience = self.audience.clone();
            // refused it is; from here on it is only about what to call it
            let fault = Fault::of(token, &audience, Timestamp::now().as_duration().as_secs_f64());
            return Err(TokenError::Refused { audience, fault, reason });
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
    use std::future::pending;

    use kube::client::Body;
    use tonic::codegen::http;

    use super::*;
    use crate::fake_client;

    /// Takes what begins with `good`.
    async fn review(request: http::Request<Body>) -> http::Response<Body> {
        let body = request.into_body().collect_bytes().await.unwrap();
        let mut review: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let good = review["spec"]["token"].as_str().unwrap().starts_with("good");
        review["status"] = serde_json::json!({
            "authenticated": good, "audiences": ["a"],
            "user": {"username": "system:serviceaccount:weir:agent", "extra": {NODE_NAME: ["n1"]}},
        });
        http::Response::new(review.to_string().into_bytes().into())
    }

    /// With an API server that answers no review, or all of them.
    fn tokens(answers: bool) -> Tokens {
        let client = fake_client::client(move |request| async move {
            match answers {
                true => review(request).await,
                false => pending().await,
            }
        });
        Tokens::new(client, "a", "weir", "agent")
    }

    /// A token that claims this. Nobody signs it.
    fn claiming(claims: &serde_json::Value) -> String {
        let bytes = ByteString(claims.to_string().into_bytes());
        let text = serde_json::to_value(bytes).unwrap();
        let text = text.as_str().unwrap().trim_end_matches('=');
        format!("e30.{}.c2ln", text.replace('+', "-").replace('/', "_"))
    }

    #[test]
    fn what_a_refused_token_says_of_itself_names_its_refusal() {
        let fault = |claims: serde_json::Value| Fault::of(&claiming(&claims), "weir", 100.0);
        for (claims, expected) in [
            (serde_json::json!({"aud": ["weir"], "exp": 200}), Fault::Other),
            (serde_json::json!({"aud": "weir"}), Fault::Other),
            (serde_json::json!({"aud": ["weir"], "exp": 100}), Fault::Expired),
            (serde_json::json!({"aud": ["other"], "exp": 99.5}), Fault::Expired),
            (serde_json::json!({"aud": ["other", "another"], "exp": 200}), Fault::Audience),
            (serde_json::json!({"aud": "other", "sub": "???>>>~~~"}), Fault::Audience),
            (serde_json::json!({"aud": [], "exp": 200}), Fault::Audience),
            (serde_json::json!({"exp": 200}), Fault::Other),
            (serde_json::json!({"aud": 7, "exp": 1}), Fault::Other),
            (serde_json::json!(["exp"]), Fault::Other),
        ] {
            assert_eq!(fault(claims.clone()), expected, "{claims}");
        }
        for text in ["", "opaque", "a.b", "..", "a.!.c", "a.\u{fffd}.c", "a.e30.c"] {
            assert_eq!(Fault::of(text, "weir", 100.0), Fault::Other, "{text:?}");
        }
    }

    /// What a token says of itself lets nobody in and keeps nobody out.
    #[tokio::test]
    async fn claims_decide_nothing() {
        let tokens = tokens(true);
        let bad = claiming(&serde_json::json!({"aud": ["a"], "exp": 9_999_999_999_u64}));
        let judged = tokens.node(&format!("Bearer {bad}")).await;
        assert!(
            matches!(judged, Err(TokenError::Refused { fault: Fault::Other, .. })),
            "{judged:?}"
        );
        // this server takes what begins so, and asks no claim of it
        let good = format!("good{}", claiming(&serde_json::json!({"aud": ["b"], "exp": 1})));
        assert_eq!(tokens.node(&format!("Bearer {good}")).await.as_deref(), Ok("n1"));
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
