//! openraft's own tests of a log and a state machine, on real stores, and what they do not cover.

use openraft::StorageError;
use openraft::storage::{RaftLogStorage as _, RaftStateMachine as _};
use openraft::testing::log::{StoreBuilder, Suite};
use skep_storage::{Identity, Store};
use tempfile::TempDir;

use crate::codec;
use crate::digest::Digest;
use crate::growth::Growth;
use crate::log_store::LogStore;
use crate::pacing::Pacing;
use crate::state_machine::StateMachine;
use crate::types::{LogId, Membership, TypeConfig};

struct RealStores;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for RealStores {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        Ok(empty())
    }
}

fn empty() -> (TempDir, LogStore, StateMachine) {
    let dir = tempfile::tempdir().expect("a folder");
    let identity = Identity { cluster: "c1".into(), node: 0 };
    let store = Store::open(dir.path(), &identity).expect("opened");
    let state_machine = StateMachine::open(store.clone()).expect("opened");
    (dir, LogStore::open(store, Pacing::new(), Growth::watched().0).expect("opened"), state_machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn log_and_state_machine_are_what_openraft_expects() {
    Suite::<TypeConfig, LogStore, StateMachine, RealStores, TempDir>::test_all(RealStores)
        .await
        .expect("conforms");
}

#[tokio::test]
async fn the_current_snapshot_is_never_older_than_the_log_that_is_left() {
    let (_dir, mut log, state_machine) = empty();
    let store = state_machine.store().clone();
    drop(state_machine);
    store.apply(vec![], &at(3)).expect("applied");
    store.checkpoint().expect("made");
    // As if the process had ended right after a state was installed and before its checkpoint was made.
    store.stage().expect("staged").install(&at(9)).expect("installed");
    log.purge(LogId::new_term_index(1, 9)).await.expect("purged");

    let mut state_machine = StateMachine::open(store).expect("opened");
    let current = state_machine.get_current_snapshot().await.expect("read").expect("there is one");
    assert_eq!(current.meta.last_log_id, Some(LogId::new_term_index(1, 9)));
}

fn at(index: u64) -> Vec<u8> {
    let membership = codec::membership_to_bytes(&Membership::default()).expect("encodes");
    codec::position_to_bytes(Some(LogId::new_term_index(1, index)), &Digest::default(), &membership)
}
