//! A client whose API server is a function, for tests of what is asked and of answers that do not come.

use std::convert::Infallible;
use std::task::{Context, Poll};

use kube::Client;
use kube::client::Body;
use tonic::codegen::{BoxFuture, Service, http};

#[derive(Clone)]
struct Server<F>(F);

impl<F, A> Service<http::Request<Body>> for Server<F>
where
    F: Fn(http::Request<Body>) -> A,
    A: Future<Output = http::Response<Body>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = (self.0)(request);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// A client that is answered so.
pub(crate) fn client<F, A>(answer: F) -> Client
where
    F: Fn(http::Request<Body>) -> A + Send + 'static,
    A: Future<Output = http::Response<Body>> + Send + 'static,
{
    Client::new(Server(answer), "weir")
}
