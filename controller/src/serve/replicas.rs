//! What other replicas ask.

use tonic::{Request, Response, Status};
use weir_api::convert::key_from_proto;
use weir_api::v1::replicas_server::Replicas;
use weir_api::v1::{ToldReply, ToldRequest};

use super::Context;
use super::agent::gone;

/// Policies in one question. Looking them up keeps the index busy for a millisecond or two.
const MAX_POLICIES: usize = 512;

/// The service for replicas.
#[derive(Debug)]
pub(super) struct Others {
    context: Context,
}

impl Others {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Replicas for Others {
    async fn told(&self, request: Request<ToldRequest>) -> Result<Response<ToldReply>, Status> {
        let ToldRequest { policies, nodes } = request.into_inner();
        if policies.len() > MAX_POLICIES {
            let reason = format!("more than {MAX_POLICIES} policies in one question");
            return Err(Status::invalid_argument(reason));
        }
        let keys: Result<Vec<_>, _> = policies.into_iter().map(key_from_proto).collect();
        let keys = keys.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(self.context.hub.told(keys, nodes).await.map_err(gone)?))
    }
}
