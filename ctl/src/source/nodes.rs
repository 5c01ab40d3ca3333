//! What a controller knows of nodes and policies, and what agents answer through it.

use std::time::Duration;

use tonic::transport::Channel;
use weir_api::v1::inspection_client::InspectionClient;
use weir_api::v1::{NodeQuery, StatusReply, StatusRequest};

use super::server;
use crate::args::SourceArgs;
use crate::exit::Failure;

/// The largest message that is taken. Units: bytes. A status holds a few hundred bytes per policy.
const MAX_MESSAGE: usize = 256 << 20;
/// For a whole answer: a dump of 100,000 flows takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller that was reached.
#[derive(Debug)]
pub struct Nodes {
    server: String,
    client: InspectionClient<Channel>,
}

impl Nodes {
    /// Connects with an operator's certificate.
    ///
    /// Errors: those of [`server::connect`].
    pub async fn connect(server: &str, args: &SourceArgs) -> Result<Self, Failure> {
        let channel = server::connect(server, args).await?;
        let client = InspectionClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        Ok(Self { server: server.to_owned(), client })
    }

    /// Nodes, realisation of policies, warnings.
    ///
    /// Errors: [`Failure::Server`].
    pub async fn status(&self) -> Result<StatusReply, Failure> {
        let mut client = self.client.clone();
        let work = async { Ok(client.status(StatusRequest {}).await?.into_inner()) };
        self.in_time(work).await
    }

    /// Asks the agent of a node: `flows`, `symbols`, `state`, `verdict ...`.
    ///
    /// Errors: [`Failure::Server`] where the controller or the agent gives no answer.
    pub async fn ask(&self, node: &str, what: &str) -> Result<String, Failure> {
        let mut client = self.client.clone();
        let query = NodeQuery { node: node.to_owned(), what: what.to_owned() };
        let work = async {
            let mut parts = client.node(query).await?.into_inner();
            let mut data = Vec::new();
            while let Some(part) = parts.message().await? {
                data.extend_from_slice(&part.data);
            }
            Ok(data)
        };
        let data = self.in_time(work).await?;
        String::from_utf8(data).map_err(|_| self.failed("an answer that is no text".to_owned()))
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => {
                Err(self.failed(format!("{} ({})", status.message(), status.code())))
            }
            Err(_) => Err(self.failed(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    fn failed(&self, reason: String) -> Failure {
        Failure::Server { server: self.server.clone(), reason }
    }
}
