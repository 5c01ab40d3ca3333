//! Reports on their way to the controller. What waits is merged: only the last word on a policy is sent.

use std::collections::BTreeMap;

use tokio::sync::watch;
use weir_api::convert::key_to_proto;
use weir_api::v1;
use weir_policy::ids::PolicyKey;

/// Results in one message: with failure texts of a kilobyte each it stays well below
/// [`weir_api::version::MAX_TO_CONTROLLER`].
const RESULTS: usize = 1_000;
/// The longest failure text that is sent. Units: bytes.
const MAX_FAILURE: usize = 1_000;
/// The most failure texts of one policy that are sent.
const MAX_FAILURES: usize = 3;

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub generation: i64,
    /// Empty = realised.
    pub failures: Vec<String>,
    /// Flows that have a part in its rules.
    pub flows: u32,
}

/// What the switch has of what the controller said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The stream whose words it is about.
    pub stream: u64,
    pub revision: u64,
    /// Policies whose outcome is news to this stream.
    pub results: BTreeMap<PolicyKey, Outcome>,
    pub gaps: Vec<String>,
    pub ports_ready: u32,
    pub ports_closed: u32,
    pub flows: u32,
}

/// Where reports wait. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    waiting: watch::Sender<Option<Report>>,
}

impl Outbox {
    /// Adds a report to what waits. Never blocks.
    pub fn push(&self, report: Report) {
        self.waiting.send_modify(|waiting| match waiting {
            Some(old) if old.stream == report.stream => {
                let mut results = std::mem::take(&mut old.results);
                results.extend(report.results);
                *old = Report { results, ..report };
            }
            _ => *waiting = Some(report),
        });
    }

    /// Sends what is for stream `number` to `send`, until that is closed.
    pub(super) async fn drain(
        &self,
        number: u64,
        send: &tokio::sync::mpsc::Sender<v1::AgentMessage>,
    ) {
        let mut waiting = self.waiting.subscribe();
        waiting.mark_changed();
        while waiting.changed().await.is_ok() {
            // room first, so that what comes meanwhile is still merged
            let Ok(permit) = send.reserve().await else {
                return;
            };
            let Some(report) = self.take(number) else {
                continue;
            };
            let mut messages = messages(report).into_iter();
            if let Some(message) = messages.next() {
                permit.send(message);
            }
            for message in messages {
                if send.send(message).await.is_err() {
                    return;
                }
            }
        }
    }

    /// What waits for stream `number`. What was meant for an earlier one is dropped: the next is told everything anew.
    fn take(&self, number: u64) -> Option<Report> {
        let mut report = None;
        self.waiting.send_if_modified(|waiting| {
            report = waiting.take();
            false
        });
        report.filter(|r| r.stream == number)
    }
}

fn messages(report: Report) -> Vec<v1::AgentMessage> {
    let mut results: Vec<v1::PolicyResult> = report
        .results
        .into_iter()
        .map(|(key, outcome)| v1::PolicyResult {
            policy: Some(key_to_proto(&key)),
            generation: outcome.generation,
            realized: outcome.failures.is_empty(),
            failures: cut(outcome.failures),
            flows: outcome.flows,
        })
        .collect();
    let mut out = Vec::new();
    loop {
        let rest = results.split_off(results.len().min(RESULTS));
        let realized = v1::Realized {
            revision: report.revision,
            results,
            gaps: report.gaps.clone(),
            ports_ready: report.ports_ready,
            ports_closed: report.ports_closed,
            flows: report.flows,
        };
        let kind = Some(v1::agent_message::Kind::Realized(realized));
        out.push(v1::AgentMessage { kind });
        if rest.is_empty() {
            return out;
        }
        results = rest;
    }
}

/// Failure texts as they are sent: bounded, and saying what was left out.
fn cut(mut failures: Vec<String>) -> Vec<String> {
    let more = failures.len().saturating_sub(MAX_FAILURES);
    failures.truncate(MAX_FAILURES);
    for text in &mut failures {
        if text.len() > MAX_FAILURE {
            let end = (0..=MAX_FAILURE).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
            text.truncate(end);
            text.push_str("...");
        }
    }
    if more > 0 {
        failures.push(format!("and {more} more"));
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(
        stream: u64,
        revision: u64,
        policies: impl IntoIterator<Item = (u32, i64)>,
    ) -> Report {
        let results = policies
            .into_iter()
            .map(|(n, generation)| {
                let key = PolicyKey::network_policy("shop", &format!("p{n}"));
                (key, Outcome { generation, ..Outcome::default() })
            })
            .collect();
        Report { stream, revision, results, ..Report::default() }
    }

    #[test]
    fn what_waits_is_merged_and_the_last_word_counts() {
        let outbox = Outbox::default();
        outbox.push(report(1, 10, [(1, 1), (2, 1)]));
        outbox.push(report(1, 11, [(2, 2)]));
        assert_eq!(outbox.take(1), Some(report(1, 11, [(1, 1), (2, 2)])));
        assert_eq!(outbox.take(1), None);
    }

    #[test]
    fn an_earlier_stream_is_forgotten() {
        let outbox = Outbox::default();
        outbox.push(report(1, 10, [(1, 1)]));
        outbox.push(report(2, 3, [(2, 1)]));
        assert_eq!(outbox.take(2), Some(report(2, 3, [(2, 1)])));
        outbox.push(report(2, 4, []));
        assert_eq!(outbox.take(3), None);
    }

    #[test]
    fn a_long_report_comes_in_parts() {
        let messages = messages(report(1, 7, (0..2_500).map(|n| (n, 1))));
        let parts: Vec<(u64, usize)> = messages
            .iter()
            .map(|m| match &m.kind {
                Some(v1::agent_message::Kind::Realized(r)) => (r.revision, r.results.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(parts, [(7, 1_000), (7, 1_000), (7, 500)]);
    }

    #[test]
    fn failure_texts_are_bounded() {
        let texts = cut(vec!["é".repeat(2_000), "b".to_owned(), "c".to_owned(), "d".to_owned()]);
        assert_eq!(texts.len(), 4);
        assert!(texts[0].len() <= MAX_FAILURE + 3 && texts[0].ends_with("..."));
        assert_eq!(texts[3], "and 1 more");
    }
}
