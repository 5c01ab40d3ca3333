use std::collections::BTreeSet;

use weir_policy::group::{Group, Profile};
use weir_policy::ids::{EndpointId, GroupId, PolicyKey};
use weir_policy::labels::Labels;
use weir_policy::rule::{Direction, Policy};
use weir_policy::state::{Change, Endpoint, NodeInfo};

use super::disk;
use super::*;

fn stored() -> Stored {
    let profile = Profile {
        namespace: "shop".into(),
        labels: Labels::from_iter([("app", "db")]),
        named_ports: BTreeSet::new(),
    };
    let mut state = NodeState::default();
    state.apply([
        Change::Node(NodeInfo {
            name: "n1".into(),
            addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]),
        }),
        Change::Group(Group {
            id: GroupId(7),
            selector: "shop {app=db}".into(),
            members: BTreeSet::from([profile.id()]),
        }),
        Change::Endpoint(Endpoint {
            id: EndpointId("shop/db-0".into()),
            namespace: "shop".into(),
            name: "db-0".into(),
            node: "n1".into(),
            addresses: BTreeSet::from(["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()]),
            mac: Some([2, 0, 0, 0, 0, 5]),
            profile: profile.id(),
        }),
        Change::Profile(profile),
        Change::Policy(Policy {
            key: PolicyKey::network_policy("shop", "default-deny"),
            uid: "".into(),
            generation: 3,
            subject: GroupId(7),
            isolates: BTreeSet::from([Direction::Ingress]),
            rules: Vec::new(),
        }),
    ]);
    Stored { revision: 1841, state }
}

fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("deep/weir")).unwrap();
    (directory, store)
}

#[test]
fn a_saved_state_comes_back_and_a_second_replaces_it() {
    let (_directory, store) = open();
    assert_eq!(store.load("n1").unwrap(), None);
    let mut stored = stored();
    store.save(&stored).unwrap();
    assert_eq!(store.load("n1").unwrap(), Some(stored.clone()));
    stored.revision += 1;
    stored.state.policies.clear();
    store.save(&stored).unwrap();
    assert_eq!(store.load("n1").unwrap(), Some(stored));
    let names: Vec<_> = fs::read_dir(&store.directory).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (_directory, store) = open();
    let whole = render(&stored());
    // every place in the header, and samples of the body
    let cuts = (0..HEADER + 8).chain((HEADER + 8..whole.len()).step_by(7)).chain([whole.len() - 1]);
    for cut in cuts {
        fs::write(store.state_path(), &whole[..cut]).unwrap();
        let error = store.load("n1").unwrap_err();
        assert!(matches!(error, StoreError::Torn { .. }), "cut at {cut}: {error}");
    }
    fs::write(store.state_path(), [&whole[..], b"more"].concat()).unwrap();
    assert!(matches!(store.load("n1"), Err(StoreError::Torn { .. })));
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_changes_nothing() {
    let (_directory, store) = open();
    let (wanted, whole) = (stored(), render(&stored()));
    for at in (0..HEADER).chain((HEADER..whole.len()).step_by(5)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(store.state_path(), &bytes).unwrap();
        // the reserved word alone has no meaning
        match store.load("n1") {
            Ok(loaded) => {
                assert!((12..16).contains(&at), "{at}");
                assert_eq!(loaded, Some(wanted.clone()));
            }
            Err(error) => assert!(!matches!(error, StoreError::Io { .. }), "{at}: {error}"),
        }
    }
}

#[test]
fn foreign_files_are_refused_by_their_own_name() {
    let (_directory, store) = open();
    fs::write(store.state_path(), "#!/bin/sh\n").unwrap();
    assert!(matches!(store.load("n1"), Err(StoreError::Foreign { .. })));

    store.save(&stored()).unwrap();
    let error = store.load("n2").unwrap_err();
    assert!(matches!(error, StoreError::OtherNode { .. }), "{error}");

    let mut newer = render(&stored());
    newer[11] = 9;
    fs::write(store.state_path(), newer).unwrap();
    assert!(matches!(store.load("n1"), Err(StoreError::Version { had: 9, .. })));

    fs::remove_file(store.state_path()).unwrap();
    fs::create_dir(store.state_path()).unwrap();
    assert!(matches!(store.load("n1"), Err(StoreError::Io { .. })));
}

#[test]
fn a_leftover_of_a_crash_is_written_over() {
    let (_directory, store) = open();
    fs::write(store.state_path().with_extension("new"), "half").unwrap();
    store.save(&stored()).unwrap();
    assert_eq!(store.load("n1").unwrap(), Some(stored()));
}

/// A restart must not go back to a state that is older than the flows in the switch.
#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_saved_takes_the_old_one_with_it() {
    let (_directory, store) = open();
    let mut wanted = stored();
    store.save(&wanted).unwrap();
    let (mut saver, disk) = disk::pair(store.clone(), Some(wanted.clone()));
    let disk = weir_runtime::task::spawn("disk", disk.run());
    // where the new file is written first; a directory in its place stops root as well
    let in_the_way = store.state_path().with_extension("new");
    fs::create_dir(&in_the_way).unwrap();
    wanted.revision += 1;
    saver.follow(wanted.revision, Vec::new(), &wanted.state);
    saver.trouble_changed().await;
    let trouble = saver.trouble().unwrap();
    assert!(trouble.contains("creating failed") && trouble.contains("is removed"), "{trouble}");
    assert_eq!(store.load("n1").unwrap(), None);
    // without another change
    fs::remove_dir(&in_the_way).unwrap();
    saver.trouble_changed().await;
    assert_eq!(saver.trouble(), None);
    assert_eq!(store.load("n1").unwrap(), Some(wanted));
    drop(saver);
    disk.join().await.unwrap();
}

#[tokio::test]
async fn the_disk_follows_changes_and_ends_with_its_saver() {
    let (_directory, store) = open();
    let (mut saver, disk) = disk::pair(store.clone(), None);
    let mut wanted = stored();
    saver.replace(wanted.revision, &wanted.state);
    let change = Change::RemovePolicy(PolicyKey::network_policy("shop", "default-deny"));
    wanted.state.apply([change.clone()]);
    wanted.revision = 1842;
    saver.follow(1842, vec![change], &wanted.state);
    assert!(saver.symbols(b"{}\n".to_vec()));
    drop(saver);
    disk.run().await;
    assert_eq!(store.load("n1").unwrap(), Some(wanted));
    assert_eq!(fs::read(store.symbols_path()).unwrap(), b"{}\n");
}

#[tokio::test]
async fn a_disk_that_lags_is_given_the_whole_state() {
    let (_directory, store) = open();
    let (mut saver, disk) = disk::pair(store.clone(), None);
    let mut wanted = stored();
    saver.replace(1, &wanted.state);
    // far more than the queue takes while nothing is written
    for n in 0..1_000 {
        let node = NodeInfo { name: "n1".into(), addresses: BTreeSet::from([address(n)]) };
        wanted.state.apply([Change::Node(node.clone())]);
        saver.follow(u64::from(n), vec![Change::Node(node)], &wanted.state);
    }
    let writing = weir_runtime::task::spawn("disk", disk.run());
    // room again after the first file
    while saver.is_behind() {
        tokio::task::yield_now().await;
        saver.replace(2_000, &wanted.state);
    }
    drop(saver);
    writing.join().await.unwrap();
    wanted.revision = 2_000;
    assert_eq!(store.load("n1").unwrap(), Some(wanted));
}

fn address(n: u16) -> std::net::IpAddr {
    let [a, b] = n.to_be_bytes();
    [10, 9, a, b].into()
}
