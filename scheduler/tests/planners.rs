//! What planners start, and above all what they do not start again.

use jiff::SignedDuration;
use skep_ledger::{Ledger, MemoryLedger};
use skep_model::host::{Role, WishedRole};
use skep_model::operation::{Rest, workflow};
use skep_model::testing::Swarm;
use skep_scheduler::plan::{self, Decision, Picture};

/// Four hosts in one swarm, three of them managers; the agent of one manager is gone.
async fn a_swarm_with_a_silent_manager() -> Swarm {
    let swarm = Swarm::of(3, 1).await;
    swarm.silent(2).await;
    swarm
}

fn decided(ledger: &MemoryLedger) -> Vec<Decision> {
    let picture = Picture::of(ledger.view(), ledger.now()).expect("reads");
    plan::decide(&picture).expect("decides")
}

#[tokio::test]
async fn a_silent_manager_is_still_a_manager_and_starts_nothing() {
    let swarm = a_swarm_with_a_silent_manager().await;
    assert_eq!(decided(&swarm.ledger), []);
}

/// `form-swarm` would wait for it in vain, again and again. What is seen of the swarm tells when it is back.
#[tokio::test]
async fn a_node_that_was_ready_and_is_down_starts_nothing() {
    let swarm = a_swarm_with_a_silent_manager().await;
    swarm.seen(|_, node| node.ready = node.role == Role::Manager).await;
    assert_eq!(decided(&swarm.ledger), []);
}

#[tokio::test]
async fn a_host_that_is_meant_to_be_a_manager_takes_the_place_of_one_that_is_not() {
    let swarm = Swarm::of(3, 1).await;
    swarm.host_is(4, |host| host.role = WishedRole::Manager).await;
    let decided = decided(&swarm.ledger);
    assert_eq!(decided.len(), 1, "{decided:?}");
    assert_eq!(decided[0].workflow, workflow::FORM_SWARM);
    assert_eq!(decided[0].why, "host prod-4 should be a manager of the swarm");
}

/// With nothing new, what has failed is tried more and more seldom; something new is taken up soon.
#[tokio::test]
async fn a_host_that_cannot_join_does_not_fill_the_history_and_keeps_nobody_waiting() {
    let swarm = Swarm::of(1, 0).await;
    let refused = |times: u32, error: &'static str| {
        let (swarm, subject) = (&swarm, skep_model::environment::swarm(&swarm.environment()).index());
        async move {
            swarm
                .host_is(1, |host| {
                    host.membership = None;
                    host.join_error = error.into();
                })
                .await;
            swarm
                .change(|tx| {
                    let since = tx.now();
                    tx.put(&Rest { subject: subject.clone(), since, cancelled: false, times });
                    Ok(())
                })
                .await;
        }
    };
    let after = |seconds: i64| swarm.ledger.set_now(swarm.ledger.now() + SignedDuration::from_secs(seconds));
    refused(3, "port 2377 is closed").await;
    after(31);
    assert_eq!(decided(&swarm.ledger), []);
    after(210);
    assert_eq!(decided(&swarm.ledger).len(), 1, "30 s, doubled three times");
    refused(3, "").await;
    after(31);
    assert_eq!(decided(&swarm.ledger).len(), 1, "a host that has not been tried yet");
}
