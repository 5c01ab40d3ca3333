//! The switch of this node, asked over OpenFlow. Nothing is ever changed.

use rust_openflow::conn::{self, ConnError, Options, Target};
use rust_openflow::text::{FlowText, TextStats};
use rust_openflow::{FlowStats, FlowStatsRequest};

use crate::exit::Failure;

/// What a bridge says of itself and its flows.
#[derive(Debug)]
pub struct Dump {
    /// Name of the bridge, as far as the socket tells it.
    pub bridge: String,
    /// `3.1.0`.
    pub ovs: String,
    pub flows: Vec<FlowText>,
}

/// Dumps all flows.
///
/// Errors: [`Failure::Usage`] for a target that is none, [`Failure::Server`] where the switch does not answer.
pub async fn dump(target: &str) -> Result<Dump, Failure> {
    let parsed: Target = target.parse().map_err(|e| Failure::Usage(format!("--switch: {e}")))?;
    let failed = |reason: String| Failure::Server { server: target.to_owned(), reason };
    let bridge = match &parsed {
        Target::Unix(path) => path.file_stem().map(|s| s.to_string_lossy().into_owned()),
        Target::Tcp(_) => None,
    };
    // a length of 0: no events are wanted
    let options = Options { miss_send_len: 0, ..Options::default() };
    let (connection, driver, _events) =
        conn::connect(&parsed, options).await.map_err(|e| failed(chain(&e)))?;
    let ask = async {
        let desc = connection.desc().await?;
        let flows = connection.dump_flows(FlowStatsRequest::default()).await?;
        Ok::<_, ConnError>((desc, flows))
    };
    let (desc, flows) = tokio::select! {
        answer = ask => answer.map_err(|e| failed(chain(&e)))?,
        _ = driver => return Err(failed("the switch closed the connection".to_owned())),
    };
    Ok(Dump {
        bridge: bridge.unwrap_or_default(),
        ovs: desc.software().into_owned(),
        flows: flows.into_iter().map(text).collect(),
    })
}

fn text(flow: FlowStats) -> FlowText {
    FlowText {
        cookie: flow.cookie,
        table: flow.table,
        priority: flow.priority,
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        flags: flow.flags,
        stats: Some(TextStats {
            duration_sec: flow.duration_sec,
            duration_nsec: flow.duration_nsec,
            packets: flow.packets,
            bytes: flow.bytes,
        }),
        match_: flow.match_,
        instructions: flow.instructions,
    }
}

/// An error with its causes: those of a connection say more than itself.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source());
    causes.fold(error.to_string(), |text, cause| {
        let words = cause.to_string();
        if text.ends_with(&words) { text } else { format!("{text}: {words}") }
    })
}
