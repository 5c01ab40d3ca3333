//! A response stream with the work that fills it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

/// Messages that wait for the network. The work waits for room, so that nothing piles up behind a slow reader. They are in
/// boxes, because tokio makes room for 32 of them however few may wait, and a response has this room as long as it lives.
const QUEUE: usize = 2;

/// What fills a response, and how it ends.
type Work = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// The messages of one response. It owns the work: when the client goes away, both end.
pub(super) struct Body<T> {
    work: Option<Work>,
    messages: mpsc::Receiver<Box<T>>,
    /// How the work ended, to be told after its last message.
    end: Option<Status>,
}

/// Where the work puts its messages.
#[derive(Clone, Debug)]
pub(super) struct Out<T>(mpsc::Sender<Box<T>>);

impl<T> Out<T> {
    /// Waits for room.
    ///
    /// Errors: cancelled, when the client is gone; nobody will see it.
    pub(super) async fn send(&self, message: T) -> Result<(), Status> {
        self.0.send(Box::new(message)).await.map_err(|_| Status::cancelled("the client is gone"))
    }
}

impl<T> Body<T> {
    /// A response made by `work`. An error ends the response as its status.
    pub(super) fn new<F>(work: impl FnOnce(Out<T>) -> F) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, messages) = mpsc::channel(QUEUE);
        Self { work: Some(Box::pin(work(Out(sender)))), messages, end: None }
    }
}

impl<T: Unpin> Stream for Body<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(work) = &mut self.work
            && let Poll::Ready(result) = work.as_mut().poll(cx)
        {
            self.work = None;
            self.end = result.err();
        }
        match self.messages.poll_recv(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(*message))),
            Poll::Ready(None) => Poll::Ready(self.end.take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}
