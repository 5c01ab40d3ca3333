//! Generations for policies whose manifests carry none.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use weir_policy::ids::PolicyKey;

/// How often each policy's `spec` changed. A policy that goes and comes back goes on counting, so that no node's word
/// about the old one passes for one about the new.
#[derive(Debug, Default)]
pub(super) struct Generations(HashMap<PolicyKey, (i64, Arc<str>)>);

impl Generations {
    /// The generation of a policy with this `spec`: 1 at first, and one more with each change.
    pub(super) fn of(&mut self, key: &PolicyKey, spec: Option<&Value>) -> i64 {
        let spec: Arc<str> = spec.map(Value::to_string).unwrap_or_default().into();
        let entry = self.0.entry(key.clone()).or_insert_with(|| (0, "".into()));
        if entry.0 == 0 || entry.1 != spec {
            *entry = (entry.0 + 1, spec);
        }
        entry.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_changes_of_the_spec() {
        let mut generations = Generations::default();
        let key = PolicyKey::network_policy("a", "b");
        let (one, two) = (json!({"podSelector": {}}), json!({"podSelector": {"x": 1}}));
        let of = |spec: &Value, g: &mut Generations| g.of(&key, Some(spec));
        assert_eq!(of(&one, &mut generations), 1);
        assert_eq!(of(&one, &mut generations), 1);
        assert_eq!(of(&two, &mut generations), 2);
        assert_eq!(of(&one, &mut generations), 3);
        assert_eq!(generations.of(&PolicyKey::network_policy("a", "c"), None), 1);
    }
}
