//! What all Weir programs share around their core.
//!
//! - [`task`]: named tasks that somebody owns; [`signal`]: the first signal drains, the second aborts
//! - [`ready`]: readiness as a set of named gates; [`admin`]: health, metrics and state over HTTP
//! - [`metrics`]: numbers for Prometheus; [`log`]: set-up of tracing
//! - [`clock`], [`backoff`]: time as a parameter, pauses with jitter; [`limits`]: limits of the process
//!
//! It knows nothing of policies, Kubernetes or Open vSwitch, and stays small.

#![warn(missing_docs)]

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod ready;
pub mod signal;
pub mod task;
