//! The picture of a controller.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use weir_api::v1::WorldRequest;
use weir_api::v1::inspection_client::InspectionClient;

use super::{Collector, Objects, Origin};
use crate::args::SourceArgs;
use crate::exit::Failure;
use crate::out::Out;

/// For the connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest part of the world that is taken. Units: bytes. Parts hold some hundred objects of a few KiB.
const MAX_PART: usize = 64 << 20;

/// Connects to a controller with an operator's certificate.
///
/// Errors: [`Failure::Usage`] where the certificate files are not named, [`Failure::File`] where they cannot be read,
/// [`Failure::Server`] where nobody answers.
pub async fn connect(server: &str, args: &SourceArgs) -> Result<Channel, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Server {
        server: server.to_owned(),
        reason: chain(error),
    };
    let (Some(ca), Some(cert), Some(key)) = (&args.ca, &args.cert, &args.key) else {
        return Err(Failure::Usage("--server needs --ca, --cert and --key".to_owned()));
    };
    let read = async |path: &std::path::PathBuf| {
        tokio::fs::read(path).await.map_err(|source| Failure::File { path: path.clone(), source })
    };
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(ca).await?))
        .identity(Identity::from_pem(read(cert).await?, read(key).await?));
    if let Some(name) = &args.server_name {
        tls = tls.domain_name(name);
    }
    let url = match server.strip_prefix("https://") {
        Some(_) => server.to_owned(),
        None => format!("https://{server}"),
    };
    let endpoint = Endpoint::from_shared(url)
        .map_err(|e| failed(&e))?
        .tls_config(tls)
        .map_err(|e| failed(&e))?
        .connect_timeout(CONNECT_TIMEOUT);
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(Failure::Server {
            server: server.to_owned(),
            reason: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        }),
    }
}

/// Reads the whole picture.
pub async fn read(server: &str, args: &SourceArgs, out: &mut Out<'_>) -> Result<Objects, Failure> {
    let failed = |status: &tonic::Status| Failure::Server {
        server: server.to_owned(),
        reason: format!("{} ({})", status.message(), status.code()),
    };
    let channel = connect(server, args).await?;
    let mut client = InspectionClient::new(channel).max_decoding_message_size(MAX_PART);
    let mut parts = client.world(WorldRequest {}).await.map_err(|s| failed(&s))?.into_inner();
    let mut collector = Collector::default();
    let mut revision = 0;
    while let Some(part) = parts.message().await.map_err(|s| failed(&s))? {
        revision = part.revision;
        for object in &part.objects {
            match serde_json::from_str(object) {
                Ok(value) => collector.document(value, server, out),
                Err(error) => out.remark(&format!("{server}: warning: unreadable object: {error}")),
            }
        }
    }
    Ok(collector.finish(Origin::Server { revision }, out))
}

/// An error with its causes: those of a transport say more than itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let c_text = c.to_string();
        if !text.ends_with(&c_text) {
            text = format!("{text}: {c_text}");
        }
        cause = c.source();
    }
    text
}
