use super::*;

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: db}
spec:
  podSelector: {matchLabels: {app: db}}
";

fn pod(name: &str, uid: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, uid: {uid:?}}}\n"
    )
}

struct Rig(Tree);

impl Rig {
    fn new() -> Self {
        Self(Tree::new(Path::new("/m")))
    }

    fn set(&mut self, file: &str, text: &str) -> Vec<String> {
        self.0.set(&Path::new("/m").join(file), None, Ok(text.to_owned()));
        self.commit()
    }

    fn fail(&mut self, file: &str) -> Vec<String> {
        self.0.set(&Path::new("/m").join(file), None, Err("cannot be read: no".to_owned()));
        self.commit()
    }

    fn remove(&mut self, file: &str) -> Vec<String> {
        self.0.remove(&Path::new("/m").join(file));
        self.commit()
    }

    fn commit(&mut self) -> Vec<String> {
        self.0.commit().iter().map(show).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let show = |w: &Warning| format!("{}: {}: {}", w.object, w.field, w.message);
        self.0.warnings().iter().map(show).collect()
    }
}

/// An event in one line.
fn show(event: &Event) -> String {
    match event {
        Event::NamespaceApplied { name, labels } => format!("+ns {name} {labels}"),
        Event::NamespaceDeleted { name } => format!("-ns {name}"),
        Event::NodeApplied(node) => format!("+node {}", node.name),
        Event::NodeDeleted { name } => format!("-node {name}"),
        Event::PodApplied(pod) => format!("+pod {} {:?}", pod.name, &*pod.uid),
        Event::PodDeleted { name, .. } => format!("-pod {name}"),
        Event::WorkloadApplied(w) => format!("+workload {} {:?}", w.name, &*w.uid),
        Event::WorkloadDeleted { name, .. } => format!("-workload {name}"),
        Event::PolicyApplied { object, .. } => {
            format!("+policy {} gen {}", object.policy.key, object.policy.generation)
        }
        Event::PolicyDeleted { key, .. } => format!("-policy {key}"),
        Event::Synced => "synced".to_owned(),
    }
}

#[test]
fn objects_come_change_and_go() {
    let mut rig = Rig::new();
    let text =
        format!("{POLICY}---\nkind: Namespace\nmetadata: {{name: shop, labels: {{a: b}}}}\n");
    assert_eq!(rig.set("a.yaml", &text), ["+ns shop a=b", "+policy shop/db gen 1"]);
    assert_eq!(rig.set("a.yaml", &text), [""; 0], "the same again");
    assert_eq!(rig.set("a.yaml", &text.replace("app: db", "app: x")), ["+policy shop/db gen 2"]);
    // annotations and labels of a policy are no part of it
    let labelled =
        text.replace("app: db", "app: x").replace("name: db}", "name: db, labels: {x: y}}");
    assert_eq!(rig.set("a.yaml", &labelled), ["+policy shop/db gen 2"]);
    assert_eq!(rig.set("a.yaml", POLICY), ["-ns shop", "+policy shop/db gen 3"]);
    assert_eq!(rig.remove("a.yaml"), ["-policy shop/db"]);
    assert_eq!(rig.set("b.yaml", POLICY), ["+policy shop/db gen 3"], "as it was left");
    assert_eq!(
        rig.set("b.yaml", &POLICY.replace("name: db}", "name: db, generation: 9}")),
        ["+policy shop/db gen 9"]
    );
    assert_eq!(rig.warnings(), [""; 0]);
}

#[test]
fn what_cannot_be_read_keeps_what_it_had() {
    let mut rig = Rig::new();
    rig.set("a.yaml", &format!("{POLICY}{}", pod("db-0", "u0")));
    assert_eq!(rig.set("a.yaml", "kind: [unclosed"), [""; 0]);
    assert!(rig.warnings()[0].starts_with("a.yaml: document 1: line"), "{:?}", rig.warnings());
    assert_eq!(rig.fail("a.yaml"), [""; 0]);
    assert_eq!(rig.warnings(), ["a.yaml: : cannot be read: no"]);
    // one bad document of two: the good one is read, the other may be the policy, which stays
    let text = format!("kind: [unclosed\n{}", pod("db-1", "u1"));
    assert_eq!(rig.set("a.yaml", &text), ["+pod db-1 \"u1\""]);
    // right again, and the one that is not there any more goes
    assert_eq!(rig.set("a.yaml", POLICY), ["-pod db-0", "-pod db-1"]);
    assert_eq!(rig.warnings(), [""; 0]);
}

/// As `kubectl get ... > a.yaml` leaves a file when it fails.
#[test]
fn an_empty_file_deletes_nothing() {
    let mut rig = Rig::new();
    rig.set("a.yaml", POLICY);
    for text in ["", " \n\n", "# nothing\n---\n", "---\n~\n"] {
        assert_eq!(rig.set("a.yaml", text), [""; 0], "{text:?}");
        assert_eq!(rig.warnings(), ["a.yaml: : empty; delete the file to remove its objects"]);
        assert!(rig.0.incomplete().is_some());
    }
    assert_eq!(rig.set("a.yaml", "kind: List\nitems: []\n"), ["-policy shop/db"]);
    assert_eq!(rig.warnings(), [""; 0]);
    assert!(rig.0.incomplete().is_none());
}

#[test]
fn a_bad_object_costs_the_others_nothing() {
    let mut rig = Rig::new();
    let text = format!("{POLICY}---\nkind: Pod\nmetadata: {{name: x, labels: [1]}}\n");
    assert_eq!(rig.set("a.yaml", &text), ["+policy shop/db gen 1"]);
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("a.yaml: Pod default/x: metadata.labels"), "{warnings:?}");
    // a bad field is a warning of its object, and the object counts
    let text = POLICY.replace(
        "podSelector:",
        "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]\n  podSelector:",
    );
    assert_eq!(rig.set("a.yaml", &text), ["+policy shop/db gen 2"]);
    let warnings = rig.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("NetworkPolicy shop/db: spec.ingress[0].from[0].ipBlock.cidr"),
        "{warnings:?}"
    );
    assert!(warnings[0].ends_with("(a.yaml)"), "{warnings:?}");
}

/// A peer like `restricted NotIn (true)` would let in the pods of a namespace whose labels count as none.
#[test]
fn pods_of_a_namespace_that_cannot_be_read_are_unknown() {
    let right = "kind: Namespace\nmetadata: {name: shop, labels: {restricted: 'true'}}\n";
    let wrong = right.replace("'true'", "true");
    let mut rig = Rig::new();
    rig.set("pods.yaml", &format!("{}{}", pod("a", "u"), pod("b", "v")));
    assert_eq!(rig.set("ns.yaml", &wrong), ["-pod a", "-pod b"]);
    let warnings = rig.warnings();
    assert!(warnings[0].starts_with("ns.yaml: Namespace shop: metadata.labels"), "{warnings:?}");
    assert_eq!(
        warnings[1],
        "Namespace shop: : cannot be read; its pods are not known and stay closed"
    );
    assert!(rig.0.incomplete().is_none(), "it costs the others nothing");
    assert_eq!(rig.set("more.yaml", &pod("c", "w")), [""; 0]);
    assert_eq!(
        rig.set("ns.yaml", right),
        ["+ns shop restricted=true", "+pod a \"u\"", "+pod b \"v\"", "+pod c \"w\""]
    );
    // what it had stays, and is known
    assert_eq!(rig.set("ns.yaml", &wrong), [""; 0]);
    assert_eq!(rig.warnings().len(), 1);
    rig.remove("more.yaml");
    assert_eq!(rig.remove("ns.yaml"), ["-ns shop"]);
    assert_eq!(rig.set("ns.yaml", &wrong), ["-pod a", "-pod b"]);
    assert_eq!(rig.remove("ns.yaml"), ["+pod a \"u\"", "+pod b \"v\""]);
    assert_eq!(rig.warnings(), [""; 0]);
}

#[test]
fn a_misspelt_policy_stays_as_it_was() {
    let mut rig = Rig::new();
    let text = format!("{POLICY}{}", pod("db-0", "u0"));
    rig.set("a.yaml", &text);
    for (right, wrong, warning) in [
        ("kind: NetworkPolicy", "kind: NetworkPolicies", "NetworkPolicies shop/db: kind"),
        ("k8s.io/v1", "k8s.io/v11", "NetworkPolicy shop/db: apiVersion"),
    ] {
        assert_eq!(rig.set("a.yaml", &text.replace(right, wrong)), [""; 0], "{wrong}");
        let warnings = rig.warnings();
        assert!(warnings[0].starts_with(&format!("a.yaml: {warning}: ")), "{warnings:?}");
        assert!(rig.0.incomplete().is_some());
    }
    // which one it is is known, so that another one that is gone is gone
    let other = POLICY.replace("name: db", "name: web");
    rig.set("a.yaml", &format!("{text}---{other}"));
    assert_eq!(rig.set("a.yaml", &text.replace("k8s.io/v1", "k8s.io/v11")), ["-policy shop/web"]);
    // another project's holds up nothing
    rig.set("b.yaml", &other.replace("networking.k8s.io/v1", "projectcalico.org/v3"));
    rig.set("a.yaml", &text);
    assert!(rig.0.incomplete().is_none());
    assert_eq!(rig.warnings().len(), 1);
}

#[test]
fn the_first_file_wins() {
    let mut rig = Rig::new();
    rig.set("b.yaml", POLICY);
    let other = POLICY.replace("app: db", "app: other");
    assert_eq!(rig.set("c.yaml", &other), [""; 0]);
    assert_eq!(
        rig.warnings(),
        ["NetworkPolicy shop/db: : is in b.yaml and c.yaml; the first is in force"]
    );
    assert_eq!(rig.set("a.yaml", &other), ["+policy shop/db gen 2"]);
    assert_eq!(rig.remove("a.yaml"), ["+policy shop/db gen 3"]);
    assert_eq!(rig.remove("b.yaml"), ["+policy shop/db gen 4"]);
    assert_eq!(rig.warnings(), [""; 0]);
    assert_eq!(rig.remove("c.yaml"), ["-policy shop/db"]);
    // within one file too
    rig.set("a.yaml", &format!("{POLICY}---{other}"));
    assert_eq!(
        rig.warnings(),
        ["NetworkPolicy shop/db: : is twice in a.yaml; the first is in force"]
    );
}

#[test]
fn a_uid_is_of_one_pod() {
    let mut rig = Rig::new();
    assert_eq!(rig.set("a.yaml", &pod("b", "u")), ["+pod b \"u\""]);
    assert_eq!(rig.set("b.yaml", &pod("a", "u")), ["+pod a \"u\"", "+pod b \"\""]);
    assert_eq!(rig.warnings().len(), 1);
    assert_eq!(rig.remove("b.yaml"), ["-pod a", "+pod b \"u\""]);
    // a pod that is renamed is another pod
    assert_eq!(rig.set("a.yaml", &pod("c", "u")), ["-pod b", "+pod c \"u\""]);
    assert_eq!(rig.warnings(), [""; 0]);
}

#[test]
fn lists_and_foreign_kinds() {
    let mut rig = Rig::new();
    let text = "
apiVersion: v1
kind: List
items:
- {kind: Node, metadata: {name: n1}}
- {kind: Deployment, apiVersion: apps/v1, metadata: {name: x}}
- {kind: Namespace, metadata: {name: shop}}
";
    assert_eq!(rig.set("a.yaml", text), ["+ns shop ", "+node n1"]);
    assert_eq!(rig.warnings(), [""; 0]);
    assert_eq!(rig.set("b.json", r#"{"kind":"Node","metadata":{"name":"n2"}}"#), ["+node n2"]);
}

/// What tools are shown reads back to the same policy.
#[test]
fn trimmed_manifests_read_back() {
    let mut tree = Tree::new(Path::new("/m"));
    let text = POLICY.replace("name: db}", "name: db, annotations: {a: b}, labels: {c: d}}");
    tree.set(Path::new("/m/a.yaml"), None, Ok(text));
    let events = tree.commit();
    let [Event::PolicyApplied { object, manifest }] = &events[..] else {
        panic!("one policy: {events:?}");
    };
    assert!(!manifest.contains("annotations") && !manifest.contains("labels\":{\"c"));
    let value = serde_json::from_str(manifest).unwrap();
    let (read, warnings) = k8s::object(&value).unwrap();
    assert_eq!(read, Some(Object::NetworkPolicy((**object).clone())));
    assert!(warnings.is_empty());
}

/// NP-50: a workload of a pod's name is told of, and said not to be in force.
#[test]
fn workloads_beside_pods() {
    let mut rig = Rig::new();
    let vm = "apiVersion: weir.io/v1alpha1\nkind: Workload\nmetadata: {name: db, uid: u}\nspec: {addresses: [10.0.0.1]}\n";
    assert_eq!(rig.set("vm.yaml", vm), ["+workload db \"u\""]);
    assert_eq!(rig.warnings(), [""; 0]);
    let pod = "kind: Pod\nmetadata: {name: db, uid: v}\n";
    assert_eq!(rig.set("pod.yaml", pod), ["+pod db \"v\""]);
    assert_eq!(
        rig.warnings(),
        [
            "Workload default/db: metadata.name: a pod of the namespace has this name; the pod is in force"
        ]
    );
    // one UID is one endpoint: the pod's
    assert_eq!(
        rig.set("pod.yaml", "kind: Pod\nmetadata: {name: other, uid: u}\n"),
        ["-pod db", "+pod other \"u\"", "+workload db \"\""]
    );
    // the pod that shared it is told again, as it may have been the one without
    assert_eq!(rig.remove("vm.yaml"), ["+pod other \"u\"", "-workload db"]);
}

#[test]
fn a_policy_that_may_have_moved_into_what_cannot_be_read_stays() {
    let mut rig = Rig::new();
    let all = format!("{POLICY}{}", pod("db-0", "u1"));
    rig.set("a.yaml", &all);
    // renamed, with a mistake on the way
    rig.set("b.yaml", "kind: NetworkPolicy\nmetadata: {namespace: shop, name: [");
    assert_eq!(rig.remove("a.yaml"), ["-pod db-0"], "a pod that is not known is closed");
    let said = |rig: &Rig| {
        rig.warnings().iter().any(|w| w.contains("a.yaml: : is gone; NetworkPolicy shop/db stays"))
    };
    assert!(said(&rig), "{:?}", rig.warnings());
    // looked at again: nothing new
    assert_eq!(rig.remove("a.yaml"), [""; 0]);
    assert_eq!(rig.remove("c.yaml"), [""; 0]);
    // mended, with another meaning: from one to the other without a moment between
    assert_eq!(rig.set("b.yaml", &POLICY.replace("app: db", "app: x")), ["+policy shop/db gen 2"]);
    assert!(!said(&rig));
    assert_eq!(rig.remove("b.yaml"), ["-policy shop/db"], "and that one is deleted for good");
}

#[test]
fn a_policy_that_stayed_goes_when_what_could_not_be_read_goes_or_has_another() {
    let mut rig = Rig::new();
    for mend in [None, Some(POLICY.replace("name: db", "name: other"))] {
        rig.set("a.yaml", POLICY);
        rig.fail("b.yaml");
        assert_eq!(rig.remove("a.yaml"), [""; 0]);
        match mend {
            None => assert_eq!(rig.remove("b.yaml"), ["-policy shop/db"]),
            Some(text) => {
                assert_eq!(
                    rig.set("b.yaml", &text),
                    ["-policy shop/db", "+policy shop/other gen 1"]
                );
            }
        }
    }
    // one whose name can be told hides no other
    let mut rig = Rig::new();
    rig.set("a.yaml", POLICY);
    rig.set("b.yaml", "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {namespace: shop, name: other}\nspec: 5\n");
    assert_eq!(rig.warnings().len(), 1, "{:?}", rig.warnings());
    assert_eq!(rig.remove("a.yaml"), ["-policy shop/db"]);
}

#[test]
fn a_file_that_comes_back_is_what_it_says() {
    let mut rig = Rig::new();
    rig.set("a.yaml", POLICY);
    rig.fail("b.yaml");
    rig.remove("a.yaml");
    assert_eq!(
        rig.set("a.yaml", &POLICY.replace("name: db", "name: new")),
        ["-policy shop/db", "+policy shop/new gen 1"]
    );
    assert_eq!(rig.remove("b.yaml"), [""; 0]);
}
