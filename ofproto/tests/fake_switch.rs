//! A scripted switch at the other end of a pipe: loss, truncation, silence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "tokio")]

#[path = "fake_switch/bundles.rs"]
mod bundles;
#[path = "fake_switch/peer.rs"]
mod peer;
#[path = "fake_switch/replies.rs"]
mod replies;
#[path = "fake_switch/session.rs"]
mod session;
