//! One bundle from OPEN to COMMIT.
//!
//! A flow mod that fails to decode inside an addition gives one error and leaves the bundle open; a COMMIT would
//! then install the rest. So the CLOSE is awaited and every error under one of our xids discards the bundle.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::pending::{BundleState, Control};
use super::{BundleError, CHUNK, ConnError, Connection};
use crate::bundle::{
    ATOMIC, BundleControl, BundleControlType, ORDERED, encode_add, encode_add_message,
};
use crate::error::EncodeError;
use crate::flow_mod::FlowMod;
use crate::message::Message;

/// The same in every message of a bundle, or OVS destroys it.
const FLAGS: u16 = ATOMIC | ORDERED;

/// What a bundle is made of.
pub(super) trait Bundled: Sync {
    /// Writes the message that adds it to a bundle.
    fn encode_add(&self, id: u32, xid: u32, out: &mut BytesMut) -> Result<(), EncodeError>;
}

impl Bundled for FlowMod {
    fn encode_add(&self, id: u32, xid: u32, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode_add(id, FLAGS, self, xid, out)
    }
}

impl Bundled for Message {
    fn encode_add(&self, id: u32, xid: u32, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode_add_message(id, FLAGS, self, xid, out)
    }
}

pub(super) async fn run<T: Bundled>(
    connection: &Connection,
    mods: &[T],
) -> Result<(), BundleError> {
    if mods.is_empty() {
        return Ok(());
    }
    let n = super::xids(mods.len())
        .map_err(|source| BundleError::Encode { index: mods.len(), source })?;
    let first = connection.shared.allocate(n + BundleState::CONTROLS);
    // All of it is encoded before any of it is sent: what has no encoding costs the switch nothing.
    let chunks = encode(first, mods).await?;
    let mut bundle = Bundle {
        connection,
        id: first,
        state: connection.shared.wait_for_bundle(first, n),
        discard: true,
    };
    let timeout = connection.shared.options.bundle_timeout;
    let prepared = tokio::time::timeout(timeout, bundle.prepare(chunks))
        .await
        .unwrap_or(Err(BundleError::NotCommitted(ConnError::Timeout { what: "bundle close" })));
    if let Err(error) = prepared {
        bundle.discard().await;
        return Err(error);
    }
    match tokio::time::timeout(timeout, bundle.commit()).await {
        Ok(outcome) => outcome,
        // The writer never had room for the commit.
        Err(_) if bundle.discard => {
            Err(BundleError::NotCommitted(ConnError::Timeout { what: "room for the commit" }))
        }
        Err(_) => Err(BundleError::Unknown),
    }
}

/// Encodes the OPEN and all additions.
async fn encode<T: Bundled>(first: u32, mods: &[T]) -> Result<Vec<Bytes>, BundleError> {
    let mut chunks = Vec::new();
    let mut out = BytesMut::with_capacity(2 * CHUNK);
    control(first, BundleControlType::OPEN, first, &mut out)?;
    // The additions have the xids behind that of the OPEN.
    for ((index, added), xid) in mods.iter().enumerate().zip(first + 1..) {
        added
            .encode_add(first, xid, &mut out)
            .map_err(|source| BundleError::Encode { index, source })?;
        if out.len() >= CHUNK {
            chunks.push(out.split().freeze());
            // A large bundle must not hold up other tasks for as long as it takes to encode.
            tokio::task::yield_now().await;
        }
    }
    chunks.push(out.freeze());
    Ok(chunks)
}

fn control(id: u32, typ: BundleControlType, xid: u32, out: &mut BytesMut) -> Result<(), ConnError> {
    let message = Message::BundleControl(BundleControl::new(id, typ, FLAGS));
    Ok(message.encode(xid, out)?)
}

struct Bundle<'a> {
    connection: &'a Connection,
    id: u32,
    state: Arc<BundleState>,
    /// Whether the switch may still hold it uncommitted.
    discard: bool,
}

impl Bundle<'_> {
    /// OPEN, additions, CLOSE; waits for the answer to the CLOSE.
    async fn prepare(&mut self, chunks: Vec<Bytes>) -> Result<(), BundleError> {
        for chunk in chunks {
            self.connection.write(chunk).await?;
            self.check()?;
        }
        self.send(Control::Close).await?;
        let closed = self.state.answer(Control::Close).await;
        self.check()?;
        match closed {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(BundleError::Failed { error }),
            None => Err(BundleError::NotCommitted(self.connection.shared.closed())),
        }
    }

    /// Any refusal so far.
    fn check(&self) -> Result<(), BundleError> {
        if let Some(error) = self.state.failed(Control::Open) {
            return Err(BundleError::Failed { error });
        }
        if let Some((index, error)) = self.state.refused() {
            return Err(BundleError::Refused { index, error });
        }
        match self.state.malformed() {
            Some(error) => Err(BundleError::NotCommitted(error)),
            None => Ok(()),
        }
    }

    async fn commit(&mut self) -> Result<(), BundleError> {
        self.send(Control::Commit).await?;
        self.discard = false;
        match self.state.answer(Control::Commit).await {
            Some(Ok(())) => Ok(()),
            // The error of the flow mod comes before that of the commit.
            Some(Err(error)) => match self.state.refused() {
                Some((index, error)) => Err(BundleError::Refused { index, error }),
                None => Err(BundleError::Failed { error }),
            },
            None => Err(BundleError::Unknown),
        }
    }

    /// Makes the switch forget the bundle. Whether it answers does not matter: a bundle that is not committed ends
    /// with the connection, or after a while of silence.
    async fn discard(&mut self) {
        let timeout = self.connection.shared.options.bundle_timeout;
        let discarding = async {
            if self.send(Control::Discard).await.is_ok() {
                self.discard = false;
                self.state.answer(Control::Discard).await;
            }
        };
        let _ = tokio::time::timeout(timeout, discarding).await;
    }

    fn frame(&self, which: Control) -> Result<Bytes, ConnError> {
        let typ = match which {
            Control::Open => BundleControlType::OPEN,
            Control::Close => BundleControlType::CLOSE,
            Control::Commit => BundleControlType::COMMIT,
            Control::Discard => BundleControlType::DISCARD,
        };
        let mut out = BytesMut::new();
        control(self.id, typ, self.state.xid(which), &mut out)?;
        Ok(out.freeze())
    }

    async fn send(&self, which: Control) -> Result<(), ConnError> {
        self.connection.write(self.frame(which)?).await
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        if self.discard
            && let Ok(frame) = self.frame(Control::Discard)
        {
            // With the writer's queue full, the switch forgets the bundle by itself after a while.
            let _ = self.connection.writer.try_send(frame);
        }
        self.connection.shared.forget(self.id);
    }
}
