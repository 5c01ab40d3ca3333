//! What tools ask.

use std::time::Duration;

use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use weir_api::v1::inspection_server::Inspection;
use weir_api::v1::{NodePart, NodeQuery, StatusReply, StatusRequest, WorldPart, WorldRequest};

use super::agent::gone;
use super::body::Body;
use super::{Context, objects};
use crate::publish::{Question, QuestionError};

/// Objects in one part of the world. A pod is some 300 bytes, a policy rarely more than 2 KiB.
const OBJECTS_PER_PART: usize = 200;

/// Parts of an answer that may wait for the tool.
const ANSWER_QUEUE: usize = 16;

/// How long an agent may be silent in the middle of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The service for tools.
#[derive(Debug)]
pub(super) struct Tools {
    context: Context,
}

impl Tools {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }

    /// The picture is complete. That an operator asks is certain by now.
    fn ready(&self) -> Result<(), Status> {
        if self.context.hub.summary().synced {
            return Ok(());
        }
        let reason = self.context.hub.waits_for();
        Err(Status::unavailable(match reason.as_str() {
            "" => "the source has not been read yet, try again".to_owned(),
            _ => format!("the source has not been read yet: {reason}"),
        }))
    }
}

#[tonic::async_trait]
impl Inspection for Tools {
    type WorldStream = Body<WorldPart>;
    type NodeStream = Body<NodePart>;

    async fn world(&self, _: Request<WorldRequest>) -> Result<Response<Self::WorldStream>, Status> {
        self.ready()?;
        let view = self.context.hub.view().await.map_err(gone)?;
        Ok(Response::new(Body::new(|out| async move {
            let revision = view.revision;
            let mut objects = objects(&view);
            loop {
                let part: Vec<String> = objects.by_ref().take(OBJECTS_PER_PART).collect();
                let last = part.len() < OBJECTS_PER_PART;
                out.send(WorldPart { revision, objects: part }).await?;
                if last {
                    return Ok(());
                }
            }
        })))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        self.ready()?;
        let mut status = self.context.hub.status().await.map_err(gone)?;
        if let Some(peers) = &self.context.peers {
            peers.complete_reply(&mut status).await;
        }
        Ok(Response::new(status))
    }

    async fn node(
        &self,
        request: Request<NodeQuery>,
    ) -> Result<Response<Self::NodeStream>, Status> {
        self.ready()?;
        let NodeQuery { node, what } = request.into_inner();
        let (sender, mut parts) = mpsc::channel(ANSWER_QUEUE);
        let question = Question { what, parts: sender };
        self.context.hub.ask(node.clone(), question).await.map_err(|error| match error {
            QuestionError::NotConnected(_) => Status::unavailable(error.to_string()),
            QuestionError::Busy(_) => Status::resource_exhausted(error.to_string()),
            QuestionError::Gone(error) => gone(error),
        })?;
        Ok(Response::new(Body::new(|out| async move {
            loop {
                let part = tokio::time::timeout(ANSWER_TIMEOUT, parts.recv()).await;
                match part {
                    Ok(Some(Ok(data))) => out.send(NodePart { data }).await?,
                    Ok(Some(Err(error))) => {
                        return Err(Status::failed_precondition(format!("node {node}: {error}")));
                    }
                    Ok(None) => return Ok(()),
                    Err(_) => {
                        return Err(Status::deadline_exceeded(format!(
                            "node {node} did not answer within {} s",
                            ANSWER_TIMEOUT.as_secs()
                        )));
                    }
                }
            }
        })))
    }
}
