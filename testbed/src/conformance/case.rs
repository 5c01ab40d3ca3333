//! A case as it stands in its file. What the format does not know is an error: a field that is read over tests nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use weir_policy::port::Protocol;

use crate::error::{During, Error, Result};
use crate::host::HostName;
use crate::probe::Service;

/// Labels as they stand in a file.
pub type Labels = BTreeMap<String, String>;

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub title: String,
    pub tags: Vec<String>,
    pub world: World,
    pub steps: Vec<Step>,
}

/// Where a case begins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    pub name: String,
    pub labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    pub ip: IpAddr,
    pub ports: Vec<Port>,
}

impl Pod {
    /// `NAMESPACE/POD`.
    pub fn host(&self) -> HostName {
        format!("{}/{}", self.namespace, self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    pub name: String,
    pub port: u16,
    #[serde(deserialize_with = "from_text")]
    pub protocol: Protocol,
}

/// Changes, and what holds after them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub actions: Vec<Action>,
    pub expect: Expect,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    ApplyPolicy { policy: Value },
    DeletePolicy { namespace: String, name: String },
    CreateNamespace { namespace: Namespace },
    LabelNamespace { name: String, labels: Labels },
    DeleteNamespace { name: String },
    CreatePod { pod: Pod },
    LabelPod { namespace: String, name: String, labels: Labels },
    DeletePod { namespace: String, name: String },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub pods: Vec<HostName>,
    pub tables: Vec<Table>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub flows: Vec<Flow>,
    pub rows: BTreeMap<HostName, String>,
}

/// `TCP/80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Flow(pub Service);

impl TryFrom<String> for Flow {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (protocol, port) =
            text.split_once('/').ok_or_else(|| format!("{text:?} is not PROTOCOL/PORT"))?;
        let port = port.parse().map_err(|_| format!("{port:?} in {text:?} is no port"))?;
        Ok(Self(Service { protocol: protocol.parse()?, port }))
    }
}

/// What a cell says of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    Open,
    Ingress,
    Egress,
    Both,
    Same,
}

impl Letter {
    /// The letter for what both ends say.
    pub const fn of(ingress: bool, egress: bool) -> Self {
        match (ingress, egress) {
            (true, true) => Self::Open,
            (false, true) => Self::Ingress,
            (true, false) => Self::Egress,
            (false, false) => Self::Both,
        }
    }

    /// As it stands in a row.
    pub const fn as_char(self) -> char {
        match self {
            Self::Open => '.',
            Self::Ingress => 'i',
            Self::Egress => 'e',
            Self::Both => 'x',
            Self::Same => '-',
        }
    }

    fn from_char(c: char) -> Option<Self> {
        [Self::Open, Self::Ingress, Self::Egress, Self::Both, Self::Same]
            .into_iter()
            .find(|l| l.as_char() == c)
    }
}

/// A cell with its coordinates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub from: HostName,
    pub to: HostName,
    pub service: Service,
    pub letter: Letter,
}

impl Expect {
    /// Every cell but those of a pod with itself. [`read`] has checked that rows and columns fit.
    pub fn cells(&self) -> impl Iterator<Item = Expected> {
        self.tables.iter().flat_map(move |table| {
            table.flows.iter().flat_map(move |flow| {
                table.rows.iter().flat_map(move |(from, row)| {
                    self.pods.iter().zip(row.chars()).filter_map(move |(to, c)| {
                        let letter = Letter::from_char(c).filter(|l| *l != Letter::Same)?;
                        Some(Expected {
                            from: from.clone(),
                            to: to.clone(),
                            service: flow.0,
                            letter,
                        })
                    })
                })
            })
        })
    }
}

/// Reads one case and checks that it is consistent.
///
/// Errors: [`Error::Content`] naming file and field.
pub fn read(file: &Path) -> Result<Case> {
    let text = std::fs::read_to_string(file).during(|| format!("reading {}", file.display()))?;
    let wrong =
        |field: String, reason: String| Error::Content { file: file.to_owned(), field, reason };
    let case: Case = deserialize(&text).map_err(|(field, reason)| wrong(field, reason))?;
    if file.file_stem().is_none_or(|stem| stem.to_string_lossy() != case.name) {
        return Err(wrong("name".into(), format!("{:?} is not the name of the file", case.name)));
    }
    check(&case).map_err(|(field, reason)| wrong(field, reason))?;
    Ok(case)
}

/// Deserialises and says where it failed.
fn deserialize(text: &str) -> Result<Case, (String, String)> {
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader)
        .map_err(|e| (e.path().to_string(), e.inner().to_string()))
}

/// The pods that exist follow from the actions; `expect` must list exactly these.
fn check(case: &Case) -> Result<(), (String, String)> {
    let mut pods: BTreeSet<HostName> = case.world.pods.iter().map(Pod::host).collect();
    for (n, step) in case.steps.iter().enumerate() {
        for action in &step.actions {
            match action {
                Action::CreatePod { pod } => {
                    pods.insert(pod.host());
                }
                Action::DeletePod { namespace, name } => {
                    pods.remove(&format!("{namespace}/{name}"));
                }
                Action::DeleteNamespace { name } => {
                    pods.retain(|p| p.split_once('/').is_none_or(|(ns, _)| ns != name));
                }
                _ => {}
            }
        }
        let listed: BTreeSet<HostName> = step.expect.pods.iter().cloned().collect();
        if listed != pods || listed.len() != step.expect.pods.len() {
            return Err((
                format!("steps[{n}].expect.pods"),
                format!("lists {:?}, there are {pods:?}", step.expect.pods),
            ));
        }
        for (t, table) in step.expect.tables.iter().enumerate() {
            let at = format!("steps[{n}].expect.tables[{t}].rows");
            if !table.rows.keys().eq(listed.iter()) {
                return Err((at, "does not have one row for each pod".to_owned()));
            }
            for (from, row) in &table.rows {
                let letters: Option<Vec<Letter>> = row.chars().map(Letter::from_char).collect();
                let fits = letters.is_some_and(|letters| {
                    letters.len() == step.expect.pods.len()
                        && letters
                            .iter()
                            .zip(&step.expect.pods)
                            .all(|(l, to)| (*l == Letter::Same) == (to == from))
                });
                if !fits {
                    return Err((
                        format!("{at}.{from}"),
                        format!(
                            "{row:?} is not one of . i e x for each other pod and - for itself"
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
}

fn from_text<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Protocol, D::Error> {
    String::deserialize(reader)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tcp;

    const CASE: &str = r#"{"name": "one", "title": "t", "tags": [],
        "world": {"namespaces": [{"name": "x", "labels": {}}], "pods": [
            {"namespace": "x", "name": "a", "labels": {}, "ip": "10.10.0.10",
             "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]},
            {"namespace": "x", "name": "b", "labels": {}, "ip": "10.10.0.20", "ports": []}]},
        "steps": [{"actions": [{"op": "label-pod", "namespace": "x", "name": "a", "labels": {}}],
            "expect": {"pods": ["x/a", "x/b"],
                "tables": [{"flows": ["TCP/80"], "rows": {"x/a": "-e", "x/b": "x-"}}]}}]}"#;

    fn read_text(text: &str) -> Result<Case> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one.json");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn a_case_is_read() {
        let case = read_text(CASE).unwrap();
        let cells: Vec<Expected> = case.steps[0].expect.cells().collect();
        assert_eq!(cells.len(), 2);
        assert_eq!(
            cells[0],
            Expected {
                from: "x/a".into(),
                to: "x/b".into(),
                service: tcp(80),
                letter: Letter::Egress
            }
        );
        assert_eq!(case.world.pods[0].ports[0].protocol, Protocol::Tcp);
    }

    #[test]
    fn what_the_format_does_not_know_is_an_error_with_file_and_field() {
        for (from, to, expected) in [
            (r#""title""#, r#""colour": 1, "title""#, "unknown field `colour`"),
            ("label-pod", "paint-pod", "unknown variant `paint-pod`"),
            (r#""name": "a", "labels": {}}],"#, r#""name": "a", "labels": {}, "why": 1}],"#, "why"),
            ("TCP/80", "TCP-80", "tables[0].flows[0]"),
            (r#""protocol": "TCP""#, r#""protocol": "QUIC""#, "world.pods[0].ports[0].protocol"),
            ("10.10.0.20", "10.10.0.256", "world.pods[1].ip"),
            (r#""-e""#, r#""-q""#, "steps[0].expect.tables[0].rows.x/a"),
            (r#""-e""#, r#""e-""#, "rows.x/a"),
            (r#"["x/a", "x/b"]"#, r#"["x/a"]"#, "steps[0].expect.pods"),
            (r#""name": "one""#, r#""name": "two""#, "name: \"two\" is not the name of the file"),
        ] {
            assert!(CASE.contains(from), "{from}");
            let error = read_text(&CASE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains("one.json"), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }
}
