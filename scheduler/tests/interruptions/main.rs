//! One harness that interrupts every workflow at every effect, in every way.
//!
//! A whole life is played on the in-memory ledger against a simulated world: an environment with three hosts, a stack
//! deployed and changed, a host removed, the stack and the environment removed. It is played once undisturbed; then,
//! for every effect and every fault, again with that one fault. Whatever happens, each chapter must end in the same
//! state, and the world must have made everything exactly once.
//!
//! Authors of workflows write no fault tests: a workflow that is in `WORKFLOWS` and in the story is interrupted here.

mod story;
mod world;

use std::collections::BTreeSet;

use skep_scheduler::workflows::WORKFLOWS;
use story::{Interruption, Story};
use world::Fault;

/// How an effect can be interrupted such that trying again must lead to the same end.
const FAULTS: &[Fault] = &[
    Fault::ErrorBefore,
    Fault::ReplyLost,
    Fault::LeaderDiesBefore,
    Fault::LeaderDiesAfter,
    Fault::DoneTwice,
];

#[tokio::test]
async fn undisturbed_the_story_runs_every_workflow_to_success() {
    let told = Story::tell(Interruption::Never).await;
    let run: BTreeSet<_> = told.succeeded.iter().map(String::as_str).collect();
    let known: BTreeSet<_> = WORKFLOWS.iter().map(|workflow| workflow.name).collect();
    assert_eq!(run, known, "every workflow has its part in the story");
    assert!(told.failed.is_empty(), "{:?}", told.failed);
    told.world.assert_made_once();
    assert_eq!(told.world.left_over(), Vec::<String>::new());
}

#[tokio::test]
async fn interrupted_anywhere_in_any_way_every_chapter_ends_the_same() {
    let undisturbed = Story::tell(Interruption::Never).await;
    assert!(
        undisturbed.effects.len() > 25,
        "the story has effects to interrupt: {}",
        undisturbed.effects.len()
    );
    let mut interruptions = 0;
    for number in 0..undisturbed.effects.len() {
        for fault in FAULTS {
            let told = Story::tell(Interruption::At(number, *fault)).await;
            let what = format!("{fault:?} at effect {number} ({})", undisturbed.effects[number]);
            for (chapter, expected) in &undisturbed.chapters {
                let found = told.chapters.iter().find(|(name, _)| name == chapter).map(|(_, state)| state);
                assert_eq!(found, Some(expected), "{what}: chapter '{chapter}' ended otherwise");
            }
            assert!(told.failed.is_empty(), "{what}: {:?}", told.failed);
            told.world.assert_made_once();
            interruptions += 1;
        }
    }
    println!("{interruptions} interruptions of {} effects", undisturbed.effects.len());
}

#[tokio::test]
async fn a_leader_that_changes_after_every_single_turn_gets_there_too() {
    let undisturbed = Story::tell(Interruption::Never).await;
    let told = Story::tell(Interruption::NewLeaderEveryTurn).await;
    assert_eq!(told.chapters, undisturbed.chapters);
    told.world.assert_made_once();
}

#[tokio::test]
async fn an_effect_that_can_never_succeed_ends_its_operation_and_leaves_nothing_unaccounted() {
    let undisturbed = Story::tell(Interruption::Never).await;
    for number in 0..undisturbed.effects.len() {
        let told = Story::tell(Interruption::LastingFrom(number)).await;
        let what = format!("lasting error at effect {number} ({})", undisturbed.effects[number]);
        assert_eq!(told.unaccounted, Vec::<String>::new(), "{what}: machines that no ledger row knows");
        told.world.assert_made_once();
    }
}

#[tokio::test]
async fn machines_whose_agents_never_connect_are_given_back() {
    let told = Story::tell(Interruption::NoAgents).await;
    let hosts = told.failed.iter().filter(|operation| operation.starts_with("create-host")).count();
    assert_eq!(hosts, 3, "{:?}", told.failed);
    assert_eq!(told.world.left_over(), Vec::<String>::new());
    told.world.assert_made_once();
}
