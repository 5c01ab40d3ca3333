//! Locks between two clients.

use weir_ovsdb::client::{Lock, LockState};
use weir_ovsdb::op::Operation;
use weir_ovsdb::{Error, Refusal};

use crate::rig::{Ovs, live, with_drivers};

async fn until(lock: &Lock, state: LockState) {
    lock.watch().wait_for(|now| *now == state).await.unwrap();
}

fn guarded() -> Vec<Operation> {
    vec![Operation::Assert { lock: "leader".into() }, Operation::Comment("x".into())]
}

#[tokio::test]
async fn a_lock_goes_from_one_client_to_the_other() {
    let ovs = Ovs::database(&[]).await;
    let (first, first_driver) = ovs.plain(vec![], ());
    let (second, second_driver) = ovs.plain(vec![], ());
    with_drivers([first_driver, second_driver], async {
        live(&first).await;
        live(&second).await;
        let ours = first.lock("leader").unwrap();
        ours.held().await.unwrap();
        first.transact(guarded()).await.unwrap();
        // one handle for a name, as the server keeps one request of a connection
        assert!(matches!(first.lock("leader"), Err(Error::LockInUse(name)) if name == "leader"));

        let theirs = second.lock("leader").unwrap();
        // the server answers in order: after this transaction it has answered the lock, too
        let refused = second.transact(guarded()).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::NotOwner));
        assert_eq!(theirs.state(), LockState::Waiting);
        ours.release().await;
        theirs.held().await.unwrap();
        second.transact(guarded()).await.unwrap();
        assert_eq!(first.transact(guarded()).await.unwrap_err().refusal(), Some(Refusal::NotOwner));

        // stolen, and got back when the thief is done
        let ours = first.steal("leader").unwrap();
        ours.held().await.unwrap();
        until(&theirs, LockState::Stolen).await;
        assert_eq!(
            second.transact(guarded()).await.unwrap_err().refusal(),
            Some(Refusal::NotOwner)
        );
        first.transact(guarded()).await.unwrap();
        drop(ours);
        theirs.held().await.unwrap();
        second.transact(guarded()).await.unwrap();

        // given back while it waits: nobody is in the queue any more
        let ours = first.lock("leader").unwrap();
        let waiting = ours.watch();
        drop(ours);
        theirs.release().await;
        let theirs = second.lock("leader").unwrap();
        theirs.held().await.unwrap();
        assert_eq!(*waiting.borrow(), LockState::Waiting);

        // other names are other locks
        let other = first.lock("other").unwrap();
        other.held().await.unwrap();
        let bad = first.lock("not an identifier").unwrap();
        let error = bad.held().await.unwrap_err();
        assert!(matches!(&error, Error::Refused { method, .. } if method == "lock"), "{error}");
        assert!(matches!(bad.state(), LockState::Refused { .. }));
    })
    .await;
}

#[tokio::test]
async fn a_lock_is_lost_with_its_connection_and_asked_for_again() {
    let mut ovs = Ovs::database(&[]).await;
    let (first, first_driver) = ovs.plain(vec![], ());
    let (second, second_driver) = ovs.plain(vec![], ());
    // owned by the test, to be dropped in it
    let first_task = tokio::task::JoinSet::from_iter([first_driver]);
    with_drivers([second_driver], async {
        let ours = first.lock("leader").unwrap();
        ours.held().await.unwrap();
        live(&second).await;
        let theirs = second.lock("leader").unwrap();
        assert_eq!(
            second.transact(guarded()).await.unwrap_err().refusal(),
            Some(Refusal::NotOwner)
        );
        assert_eq!(theirs.state(), LockState::Waiting);

        // the holder's connection ends without a word
        drop(first_task);
        theirs.held().await.unwrap();
        assert!(!*first.connected().borrow());
        assert!(matches!(first.transact(guarded()).await, Err(Error::Stopped)));
        ours.release().await;

        // the server goes: nothing is held; it comes back: the lock does, too
        ovs.server = None;
        until(&theirs, LockState::Waiting).await;
        ovs.start_server().await;
        theirs.held().await.unwrap();
        live(&second).await;
        second.transact(guarded()).await.unwrap();
    })
    .await;
}
