//! Named tasks that somebody owns.
//!
//! A task whose handle is dropped is aborted, and a panic is seen by the owner: nothing runs or dies unnoticed.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tracing::Instrument;

/// Spawns a task on the current tokio runtime. All its log lines carry its name.
///
/// Panics outside a tokio runtime, as `tokio::spawn` does.
pub fn spawn<F>(name: impl Into<Cow<'static, str>>, future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let name = name.into();
    let span = tracing::info_span!("task", %name);
    #[expect(clippy::disallowed_methods, reason = "this is the one place that replaces it")]
    let handle = tokio::spawn(future.instrument(span));
    Task { name, handle }
}

/// A running task; dropping it aborts the task.
#[derive(Debug)]
#[must_use = "dropping the handle aborts the task"]
pub struct Task<T> {
    name: Cow<'static, str>,
    handle: JoinHandle<T>,
}

impl<T> Task<T> {
    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True once it ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Asks the task to stop at its next `await`.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Waits for the task's output. Dropping the returned future aborts the task.
    ///
    /// Errors: [`TaskError::Panicked`], [`TaskError::Aborted`].
    pub async fn join(mut self) -> Result<T, TaskError> {
        let outcome = (&mut self.handle).await;
        outcome.map_err(|error| {
            let name = self.name.to_string();
            match reason(error) {
                EndReason::Panicked(message) => TaskError::Panicked { name, message },
                _ => TaskError::Aborted { name },
            }
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Why a task has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked.
    #[error("task {name} panicked: {message}")]
    Panicked {
        /// The task.
        name: String,
        /// The panic's message.
        message: String,
    },
    /// It was aborted.
    #[error("task {name} was aborted")]
    Aborted {
        /// The task.
        name: String,
    },
}

/// Tasks that are to run as long as the program: the end of any is news.
///
/// Dropping the set aborts them all.
#[derive(Debug, Default)]
pub struct TaskSet {
    tasks: JoinSet<EndReason>,
    names: HashMap<Id, Cow<'static, str>>,
}

impl TaskSet {
    /// A set without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task whose output does not matter.
    pub fn spawn<F>(&mut self, name: impl Into<Cow<'static, str>>, future: F)
    where
        F: Future + Send + 'static,
    {
        self.start(name.into(), async {
            future.await;
            EndReason::Ended
        });
    }

    /// Spawns a task that may give up with an error, which [`TaskSet::failed`] then tells.
    pub fn spawn_fallible<F, T, E>(&mut self, name: impl Into<Cow<'static, str>>, future: F)
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.start(name.into(), async {
            match future.await {
                Ok(_) => EndReason::Ended,
                // with the sources, for an anyhow::Error
                Err(error) => EndReason::Failed(format!("{error:#}")),
            }
        });
    }

    fn start(
        &mut self,
        name: Cow<'static, str>,
        future: impl Future<Output = EndReason> + Send + 'static,
    ) {
        let span = tracing::info_span!("task", %name);
        let id = self.tasks.spawn(future.instrument(span)).id();
        self.names.insert(id, name);
    }

    /// The number of tasks that run, or ended and were not yet reported.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// True without tasks.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for a task to end and tells which and why; waits for ever in an empty set. Nothing is lost when the
    /// returned future is dropped.
    pub async fn failed(&mut self) -> TaskEnd {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, reason))) => self.end(id, reason),
            Some(Err(error)) => {
                let id = error.id();
                self.end(id, reason(error))
            }
            None => std::future::pending().await,
        }
    }

    /// Waits for all tasks to end, as they should once told to, and aborts those that have not within `deadline`.
    /// Tells of each task how it ended, in that order.
    pub async fn drain(mut self, deadline: Duration) -> Vec<TaskEnd> {
        let mut ends = Vec::new();
        let all = async {
            while !self.is_empty() {
                let end = self.failed().await;
                ends.push(end);
            }
        };
        if tokio::time::timeout(deadline, all).await.is_err() {
            self.tasks.abort_all();
            while !self.is_empty() {
                let end = self.failed().await;
                ends.push(end);
            }
        }
        ends
    }

    fn end(&mut self, id: Id, reason: EndReason) -> TaskEnd {
        let name = self.names.remove(&id).unwrap_or_default();
        TaskEnd { name, reason }
    }
}

/// How a task of a [`TaskSet`] ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {name} {reason}")]
pub struct TaskEnd {
    /// The task.
    pub name: Cow<'static, str>,
    /// Why it ended.
    pub reason: EndReason,
}

/// Why a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// It returned.
    Ended,
    /// It returned this error.
    Failed(String),
    /// It panicked with this message.
    Panicked(String),
    /// It was aborted.
    Aborted,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("ended"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Aborted => f.write_str("was aborted"),
        }
    }
}

fn reason(error: JoinError) -> EndReason {
    match error.try_into_panic() {
        Ok(payload) => EndReason::Panicked(message(payload.as_ref())),
        Err(_) => EndReason::Aborted,
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn join_gives_the_output() {
        assert_eq!(spawn("sum", async { 1 + 1 }).join().await, Ok(2));
    }

    #[tokio::test]
    async fn a_panic_is_told_by_name() {
        let task: Task<()> = spawn("bad", async { panic!("number {}", 7) });
        assert_eq!(
            task.join().await,
            Err(TaskError::Panicked { name: "bad".into(), message: "number 7".into() })
        );
    }

    #[tokio::test]
    async fn dropping_the_handle_aborts() {
        let (sender, dropped) = oneshot::channel::<()>();
        let task = spawn("waits", async move {
            let _held = sender;
            pending::<()>().await;
        });
        drop(task);
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn dropping_a_join_aborts() {
        let (sender, dropped) = oneshot::channel::<()>();
        let join = spawn("waits", async move {
            let _held = sender;
            pending::<()>().await;
        })
        .join();
        drop(join);
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn a_set_tells_which_task_ended_and_why() {
        let mut set = TaskSet::new();
        set.spawn("stays", pending::<()>());
        set.spawn("panics", async { panic!("oh") });
        let end = set.failed().await;
        assert_eq!(end.to_string(), "task panics panicked: oh");
        set.spawn_fallible("fails", async { Err::<(), _>("no socket") });
        assert_eq!(set.failed().await.reason, EndReason::Failed("no socket".into()));
        set.spawn("returns", async {});
        assert_eq!(
            set.failed().await,
            TaskEnd { name: "returns".into(), reason: EndReason::Ended }
        );
        assert_eq!(set.len(), 1);
    }

    #[tokio::test]
    async fn waiting_for_a_failure_can_be_dropped() {
        let mut set = TaskSet::new();
        let (go, gone) = oneshot::channel::<()>();
        set.spawn("later", async {
            let _ = gone.await;
        });
        tokio::select! {
            biased;
            end = set.failed() => panic!("{end}"),
            () = async {} => {}
        }
        go.send(()).unwrap();
        assert_eq!(set.failed().await.name, "later");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_at_its_deadline() {
        let mut set = TaskSet::new();
        set.spawn("stuck", pending::<()>());
        set.spawn("quick", async {});
        let ends = set.drain(Duration::from_secs(5)).await;
        let reasons: Vec<_> = ends.iter().map(|end| (&*end.name, &end.reason)).collect();
        assert_eq!(reasons, [("quick", &EndReason::Ended), ("stuck", &EndReason::Aborted)]);
    }
}
