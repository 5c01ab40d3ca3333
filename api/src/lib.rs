//! The gRPC interface between controller, agents and tools.
//!
//! [`v1`] is generated from `proto/weir/v1/weir.proto`; [`convert`] is the only place where protobuf types become policy
//! types and the reverse; [`version`] is what the two ends may assume of each other; [`holdings`] finds what differs between
//! what an agent has and what it should have; [`codec`] is how messages go into buffers.

pub mod codec;
pub mod convert;
pub mod holdings;
pub mod version;

/// Generated from `proto/weir/v1/weir.proto`.
pub mod v1 {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::or_fun_call,
        clippy::use_self,
        unreachable_pub,
        unused_qualifications,
        reason = "generated code"
    )]
    tonic::include_proto!("weir.v1");
}
