//! The names behind the numbers, as the agent keeps them in `symbols.jsonl`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct PolicyRef {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default, rename = "gen")]
    pub generation: i64,
    /// `ingress[0]`; empty for the policy as a whole.
    #[serde(default)]
    pub at: String,
}

impl PolicyRef {
    /// `shop/db-from-api ingress[0]`.
    pub fn title(&self) -> String {
        let space = if self.at.is_empty() { "" } else { " " };
        format!("{}/{}{space}{}", self.namespace, self.name, self.at)
    }
}

/// A rule, under all the names it is written down.
#[derive(Clone, Debug, Deserialize)]
pub struct RuleSymbol {
    pub id: String,
    #[serde(default)]
    pub rules: Vec<PolicyRef>,
    /// Selector of the subject.
    #[serde(default)]
    pub subject: String,
    /// Selectors and blocks of the peers.
    #[serde(default)]
    pub peers: Vec<String>,
    #[serde(default)]
    pub services: Vec<String>,
    /// The rule as a sentence.
    #[serde(default)]
    pub text: String,
}

/// The policies that isolate a class in one direction.
#[derive(Clone, Debug, Deserialize)]
pub struct IsolationSymbol {
    pub id: String,
    #[serde(default)]
    pub direction: String,
    #[serde(default)]
    pub rules: Vec<PolicyRef>,
}

/// Workloads that the rules of the node cannot tell apart.
#[derive(Clone, Debug, Deserialize)]
pub struct ClassSymbol {
    pub class: u32,
    /// Selectors that pick them.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// `http=8080/tcp`.
    #[serde(default)]
    pub ports: Vec<String>,
    /// `namespace/name`.
    #[serde(default)]
    pub endpoints: BTreeSet<String>,
}

/// A workload.
#[derive(Clone, Debug, Deserialize)]
pub struct EndpointSymbol {
    pub pod: String,
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    pub addresses: BTreeSet<IpAddr>,
    #[serde(default)]
    pub class: Option<u32>,
}

/// A port of the bridge.
#[derive(Clone, Debug, Deserialize)]
pub struct PortSymbol {
    pub port: u32,
    #[serde(default)]
    pub interface: String,
    #[serde(default)]
    pub pod: String,
}

#[derive(Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Line {
    Rule(RuleSymbol),
    Isolation(IsolationSymbol),
    Class(ClassSymbol),
    Endpoint(EndpointSymbol),
    Port(PortSymbol),
    Gateway(PortSymbol),
    Uplink(PortSymbol),
    /// What a newer agent says and this tool does not know.
    #[serde(other)]
    Unknown,
}

/// Who sits behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOwner {
    Workload { interface: String, pod: String },
    Gateway,
    Uplink,
}

/// The symbols of one node.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    pub rules: BTreeMap<u32, RuleSymbol>,
    pub isolation: BTreeMap<u32, IsolationSymbol>,
    pub classes: BTreeMap<u32, ClassSymbol>,
    pub endpoints: Vec<EndpointSymbol>,
    pub ports: BTreeMap<u32, PortOwner>,
    by_address: BTreeMap<IpAddr, usize>,
}

/// A line that is no symbol.
#[derive(Debug, thiserror::Error)]
#[error("symbols, line {line}: {reason}")]
pub struct SymbolError {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

impl Symbols {
    /// Reads `symbols.jsonl`.
    ///
    /// Errors: [`SymbolError`] names the first line that is not one.
    pub fn read(text: &str) -> Result<Self, SymbolError> {
        let mut out = Self::default();
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let bad = |reason: String| SymbolError { line: n + 1, reason };
            let line: Line = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            let id = |text: &str| {
                u32::from_str_radix(text, 16)
                    .map_err(|_| bad(format!("id {text:?} is not 8 hex digits")))
            };
            match line {
                Line::Rule(s) => {
                    out.rules.insert(id(&s.id)?, s);
                }
                // one set may isolate several classes
                Line::Isolation(s) => {
                    out.isolation.insert(id(&s.id)?, s);
                }
                Line::Class(s) => {
                    out.classes.insert(s.class, s);
                }
                Line::Endpoint(s) => out.endpoints.push(s),
                Line::Port(s) => {
                    let owner = PortOwner::Workload { interface: s.interface, pod: s.pod };
                    out.ports.insert(s.port, owner);
                }
                Line::Gateway(s) => {
                    out.ports.insert(s.port, PortOwner::Gateway);
                }
                Line::Uplink(s) => {
                    out.ports.insert(s.port, PortOwner::Uplink);
                }
                Line::Unknown => {}
            }
        }
        for (n, e) in out.endpoints.iter().enumerate() {
            out.by_address.extend(e.addresses.iter().map(|a| (*a, n)));
        }
        Ok(out)
    }

    /// No symbols at all: numbers stay numbers.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.endpoints.is_empty() && self.ports.is_empty()
    }

    /// The workload that has an address.
    pub fn by_address(&self, address: IpAddr) -> Option<&EndpointSymbol> {
        self.by_address.get(&address).and_then(|n| self.endpoints.get(*n))
    }

    /// The workload of a name.
    pub fn pod(&self, name: &str) -> Option<&EndpointSymbol> {
        self.endpoints.iter().find(|e| e.pod == name)
    }

    /// Some rule or isolation set has this id.
    pub fn knows(&self, id: u32) -> bool {
        self.rules.contains_key(&id) || self.isolation.contains_key(&id)
    }

    /// Whose rule or isolation set an id is.
    pub fn policies_of(&self, id: u32) -> &[PolicyRef] {
        match (self.rules.get(&id), self.isolation.get(&id)) {
            (Some(rule), _) => &rule.rules,
            (None, Some(set)) => &set.rules,
            (None, None) => &[],
        }
    }

    /// `namespace/pod` behind an address, else the address.
    pub fn who(&self, address: &str) -> String {
        let pod = address.parse().ok().and_then(|a| self.by_address(a));
        pod.map_or_else(|| address.to_owned(), |e| e.pod.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_writes() {
        let text = r#"
{"what":"rule","id":"2c91e07a","direction":"ingress","rules":[{"kind":"NetworkPolicy","namespace":"shop","name":"db","uid":"","gen":4,"at":"ingress[0]"}],"subject":"shop {app=db}","peers":["shop {app=api}"],"services":["tcp/5432"],"text":"allow"}
{"what":"isolation","id":"e1f03c55","direction":"ingress","rules":[{"kind":"NetworkPolicy","namespace":"shop","name":"deny"}],"text":""}
{"what":"class","class":5,"groups":["shop {app=api}"],"ports":["http=8080/tcp"],"endpoints":["shop/api-0"]}
{"what":"endpoint","id":"u","pod":"shop/api-0","node":"n2","addresses":["10.0.0.1","fd00::1"],"class":5}
{"what":"port","port":3,"interface":"db0","pod":"shop/db-0"}
{"what":"gateway","port":4294967294}
{"what":"something newer","value":[1]}
"#;
        let s = Symbols::read(text).unwrap();
        assert_eq!(s.policies_of(0x2c91_e07a)[0].title(), "shop/db ingress[0]");
        assert_eq!(s.policies_of(0xe1f0_3c55)[0].title(), "shop/deny");
        assert_eq!(s.who("fd00::1"), "shop/api-0");
        assert_eq!(s.who("10.0.0.2"), "10.0.0.2");
        assert_eq!(s.ports[&0xffff_fffe], PortOwner::Gateway);
        assert_eq!(s.pod("shop/api-0").unwrap().class, Some(5));
        assert!(!s.is_empty());
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = Symbols::read("\n{\"what\":\"rule\",\"id\":\"xyz\"}\n").unwrap_err();
        assert_eq!(error.to_string(), "symbols, line 2: id \"xyz\" is not 8 hex digits");
        assert_eq!(Symbols::read("nonsense").unwrap_err().line, 1);
    }
}
