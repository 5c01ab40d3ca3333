//! Identity before anything else: a request is answered, and its body read, only when its head has shown who asks.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{self, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::door::Arrival;
use super::{Context, Identity};

/// Who may use a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Nodes,
    Operators,
    Replicas,
}

impl For {
    fn admits(self, identity: &Identity) -> bool {
        matches!(
            (self, identity),
            (Self::Nodes, Identity::Node(_))
                | (Self::Operators, Identity::Operator(_))
                | (Self::Replicas, Identity::Replica(_))
        )
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Nodes => "node",
            Self::Operators => "operator",
            Self::Replicas => "replica",
        }
    }
}

/// A service behind the question who asks. The service finds the [`Identity`] among the request's extensions.
#[derive(Clone, Debug)]
pub(super) struct Gate<S> {
    context: Context,
    whom: For,
    inner: S,
}

impl<S> Gate<S> {
    pub(super) fn new(context: Context, whom: For, inner: S) -> Self {
        Self { context, whom, inner }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

/// What every request of ours comes to.
type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Answer {
        // the one that is ready is the one to call
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let (context, whom) = (self.context.clone(), self.whom);
        let arrival = request.extensions().get::<Arrival>().cloned();
        let authorization = request.headers().get(http::header::AUTHORIZATION);
        // what is no text is no token, and will be told so
        let authorization = authorization.map(|a| a.to_str().unwrap_or_default().to_owned());
        Box::pin(async move {
            match admit(&context, whom, arrival, authorization).await {
                Ok(identity) => {
                    request.extensions_mut().insert(identity);
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

async fn admit(
    context: &Context,
    whom: For,
    arrival: Option<Arrival>,
    authorization: Option<String>,
) -> Result<Identity, Status> {
    let arrival = arrival.ok_or_else(|| Status::internal("a request without a connection"))?;
    let identity = context.identity(&arrival, authorization.as_deref()).await?;
    if whom.admits(&identity) {
        return Ok(identity);
    }
    Err(context.stranger(&arrival, &format!("{identity} is no {}", whom.word())))
}
