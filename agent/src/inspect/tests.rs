use rust_openflow::{FlowStats, Match};

use super::*;
use crate::seam::MockSwitch;

struct Asked {
    answers: mpsc::Receiver<v1::AgentMessage>,
    query: Query,
}

fn ask(what: &str) -> Asked {
    let (reply, answers) = mpsc::channel(4);
    Asked { answers, query: Query { id: 7, what: what.to_owned(), reply } }
}

/// Asks one thing, and gives the parts, the text and the error.
async fn answer(
    what: &str,
    switch: Option<MockSwitch>,
    symbols: &'static str,
) -> (usize, String, String) {
    let (queries, waiting) = mpsc::channel(1);
    let (_sessions, session) = watch::channel(switch.map(Arc::new));
    let (asks, mut asked) = mpsc::channel(1);
    let (_overview, overview) =
        watch::channel(Overview { node: "n1".to_owned(), ..Overview::default() });
    let (_uplink, uplink) = watch::channel(UplinkStatus::default());
    let Asked { mut answers, query } = ask(what);
    queries.send(query).await.unwrap();
    drop(queries);
    let inspector = Inspector { queries: waiting, sessions: session, asks, overview, uplink };
    let _running = weir_runtime::task::spawn("inspect", inspector.run());
    let _reconciler = weir_runtime::task::spawn("reconcile", async move {
        while let Some(ask) = asked.recv().await {
            let Ask::Symbols(reply) = ask else { panic!("{ask:?}") };
            reply.send(symbols.to_owned()).unwrap();
        }
    });
    let (mut parts, mut data, mut error) = (0, Vec::new(), String::new());
    while let Some(message) = answers.recv().await {
        let Some(v1::agent_message::Kind::Answer(answer)) = message.kind else {
            panic!("{message:?}");
        };
        assert_eq!(answer.query, 7);
        assert!(answer.data.len() <= PART + 1_000, "{}", answer.data.len());
        parts += 1;
        data.extend_from_slice(&answer.data);
        error = answer.error;
        if answer.last {
            break;
        }
    }
    (parts, String::from_utf8(data).unwrap(), error)
}

#[tokio::test]
async fn flows_come_as_ofctl_text_in_parts() {
    let mut switch = MockSwitch::new();
    switch.expect_dump().returning(|| {
        Box::pin(async {
            let flow = |n: u16| FlowStats {
                table: 30,
                priority: n,
                cookie: 0x5701_0000_0000_0005,
                packets: 12,
                match_: Match::ip(),
                ..FlowStats::default()
            };
            Ok((0..5_000).map(flow).collect())
        })
    });
    let (parts, text, error) = answer("flows", Some(switch), "").await;
    assert_eq!((text.lines().count(), error.as_str()), (5_000, ""));
    assert!(parts > 1, "{parts}");
    let line = text.lines().nth(1).unwrap();
    for word in
        ["cookie=0x5701000000000005", "table=30", "n_packets=12", "priority=1", "actions=drop"]
    {
        assert!(line.contains(word), "{line}");
    }
}

#[tokio::test]
async fn symbols_come_from_the_reconciler_and_state_from_its_overview() {
    let (parts, text, error) = answer("symbols", None, "{\"id\":\"1\"}\n{\"id\":\"2\"}\n").await;
    assert_eq!((parts, error.as_str()), (1, ""));
    assert_eq!(text, "{\"id\":\"1\"}\n{\"id\":\"2\"}\n");
    let (_, text, _) = answer("state", None, "").await;
    assert!(text.starts_with("node: n1\n") && text.contains("controller:"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_answered_is_said() {
    let (_, text, error) = answer("flows", None, "").await;
    assert_eq!((text.as_str(), error.as_str()), ("", "the agent has no connection to the switch"));
    let (_, _, error) = answer("secrets", None, "").await;
    assert_eq!(
        error,
        "\"secrets\" is none of flows, symbols, state, verdict SRC DST PROTOCOL PORT"
    );
    let mut switch = MockSwitch::new();
    switch
        .expect_dump()
        .returning(|| Box::pin(async { Err(SwitchError { source: "connection closed".into() }) }));
    let (_, _, error) = answer("flows", Some(switch), "").await;
    assert!(error.ends_with("connection closed"), "{error}");
}
