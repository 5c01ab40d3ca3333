//! What travels from controller to agent.

use weir_api::convert::{change_from_bytes, change_to_bytes};

/// One change: what was understood says the same after another journey; what was not has a sentence, and a policy that
/// can be put in force closed.
pub fn api_change(data: &[u8]) {
    match change_from_bytes(data) {
        Ok(change) => {
            let bytes = change_to_bytes(&change);
            let again = change_from_bytes(&bytes).expect("what was written can be read");
            assert_eq!(again, change);
            assert_eq!(change_to_bytes(&again), bytes);
        }
        Err(error) => {
            assert!(!error.sentence().is_empty());
            if let Some(policy) = error.policy {
                assert!(policy.closed().rules.is_empty());
            }
        }
    }
}
