//! Kinds that are not read: those of others, and ours misspelt.
//!
//! A typo in `kind` or `apiVersion` must not take a policy out of force without a word. What is another project's is
//! told by its group, which for everything but Kubernetes itself is a domain name.

use super::at::At;
use super::core::identity;
use super::{Rejection, Warning, workload};

/// Where NetworkPolicy lives.
const GROUP: &str = "networking.k8s.io";

/// Kinds of that group that are not read, and no mistake.
/// Source: Kubernetes 1.33, `staging/src/k8s.io/api/networking`.
const OTHERS_OF_GROUP: [&str; 4] = ["Ingress", "IngressClass", "IPAddress", "ServiceCIDR"];

/// Kinds that are read, and the version each is read in.
const READ: [(&str, &str); 5] = [
    ("NetworkPolicy", "networking.k8s.io/v1"),
    ("Namespace", "v1"),
    ("Node", "v1"),
    ("Pod", "v1"),
    ("Workload", workload::API_VERSION),
];

/// How many letters a typo may change. `NetworkPolicies` and `network.k8s.io` are three away from what they should be.
const TYPO: usize = 3;

/// An object that is not of a kind and version that is read: a warning where it is another project's of our kind's name.
///
/// Errors: [`Rejection`] where it is most likely a mistake.
pub(super) fn object(
    root: &At<'_>,
    kind: &str,
    version: &str,
) -> Result<Option<Warning>, Rejection> {
    let title = identity(root, kind).map_or_else(|_| kind.to_owned(), |id| id.title);
    if let Some(of) = kind.strip_suffix("List")
        && (of.is_empty() || READ.iter().any(|(k, _)| *k == of))
    {
        return Err(rejection(title, "items", "", "write a list"));
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let ours = is_typo(group, GROUP) || workload::API_VERSION.starts_with(&format!("{group}/"));
    // a group of a project's own has a dot; what Kubernetes has no group for has none
    let others = group.contains('.') && !ours;
    // a kind that others have, too: the group alone makes it ours
    if kind == "Workload" && !ours {
        return Ok(None);
    }
    if let Some((_, wanted)) = READ.iter().find(|(k, _)| *k == kind) {
        let reason = format!("not read; Weir reads {wanted}");
        if !others {
            return Err(rejection(title, "apiVersion", version, &reason));
        }
        return Ok((kind == "NetworkPolicy").then(|| Warning {
            object: title,
            field: "apiVersion".to_owned(),
            value: format!("{version:?}"),
            reason,
        }));
    }
    let meant = if others {
        None
    } else if is_typo(kind, "NetworkPolicy") || (group == GROUP && !OTHERS_OF_GROUP.contains(&kind))
    {
        Some("NetworkPolicy")
    } else if group.is_empty() && is_typo(kind, "Namespace") {
        Some("Namespace")
    } else {
        None
    };
    match meant {
        Some(meant) => Err(rejection(title, "kind", kind, &format!("unknown; write {meant}"))),
        None => Ok(None),
    }
}

fn rejection(object: String, field: &str, value: &str, reason: &str) -> Rejection {
    let value = if value.is_empty() { String::new() } else { format!("{value:?}") };
    Rejection { object, field: field.to_owned(), value, reason: reason.to_owned() }
}

/// Whether a text is another up to case and [`TYPO`] letters that are missing, added or wrong (Levenshtein).
fn is_typo(text: &str, of: &str) -> bool {
    // what differs more than that in length cannot be near, however long it is
    if text.len().abs_diff(of.len()) > TYPO {
        return false;
    }
    let of = of.as_bytes();
    let mut above: Vec<usize> = (0..=of.len()).collect();
    for (row, a) in text.bytes().enumerate() {
        let mut line = vec![row + 1];
        for (column, b) in of.iter().enumerate() {
            let swapped = above[column] + usize::from(!a.eq_ignore_ascii_case(b));
            line.push(swapped.min(above[column + 1] + 1).min(line[column] + 1));
        }
        above = line;
    }
    above[of.len()] <= TYPO
}
