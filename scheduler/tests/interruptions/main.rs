//! One harness that interrupts every workflow at every effect, in every way.
//!
//! Whole lives are played on the in-memory ledger against a simulated world: each begins with an environment of three
//! hosts, goes through a part of what can happen to it (`Tale`), and ends with its removal. Each is played once
//! undisturbed; then, for every effect and every fault, again with that one fault. Whatever happens, each chapter must
//! end in the same state, and the world must have made everything exactly once. A cancellation changes how a chapter
//! ends, so there other things must hold: what was cancelled has ended, nothing is unaccounted for, and the environment
//! can be removed.
//!
//! Of all stories that fail, the shortest is printed, with everything that happened in it.
//!
//! Authors of workflows write no fault tests: a workflow that is in `WORKFLOWS` and in the story is interrupted here.

mod story;
mod verdict;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use skep_model::operation::State;
use skep_scheduler::workflows::WORKFLOWS;
use story::{Interruption, Story, Tale, Told};
use verdict::Verdicts;
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
async fn undisturbed_the_tales_run_every_workflow_to_success() {
    let mut run = BTreeSet::new();
    for tale in Tale::ALL {
        let told = Story::tell(tale, Interruption::Never).await;
        assert_eq!(told.stuck, None);
        assert!(told.failed.is_empty(), "{:?}", told.failed);
        assert_eq!(told.world.made_too_often(), Vec::<String>::new());
        assert_eq!(told.world.left_over(), Vec::<String>::new());
        run.extend(told.succeeded);
    }
    let known: BTreeSet<_> = WORKFLOWS.iter().map(|workflow| workflow.name.to_owned()).collect();
    assert_eq!(run, known, "every workflow has its part in a tale");
}

#[tokio::test]
async fn nothing_is_left_in_any_table_of_what_was_removed_except_the_history_of_operations() {
    for tale in Tale::ALL {
        let told = Story::tell(tale, Interruption::Never).await;
        let tables: Vec<_> = told.tables.iter().map(String::as_str).collect();
        assert_eq!(tables, ["operation", "operation-child", "operation-line"], "{tale:?}");
    }
}

#[tokio::test]
async fn an_environment_goes_without_a_machine_that_its_driver_does_not_take_and_the_machine_goes_later() {
    let told = Story::tell(Tale::Machines, Interruption::Never).await;
    let after = |chapter: &str| {
        let told = told.chapters.iter().find(|(name, _)| *name == chapter).map(|(_, state)| state.as_slice());
        told.unwrap_or_else(|| panic!("{chapter} is not told"))
    };
    let row = r#"machine in the cloud ledger Some(("lab", "lab-1", "could not give machine lab-1 back to local: the driver is away"))"#;
    // One machine was let go in an earlier chapter.
    assert_eq!(after("it is removed while the driver is away"), [row, "1 machines, 1 let go"]);
    assert_eq!(after("the driver is back"), ["0 machines, 1 let go"]);
}

/// The effects of a tale at which it is interrupted. Its first chapter is that of the first tale too, and interrupted there.
fn interrupted(tale: Tale, undisturbed: &Told) -> Range<usize> {
    let from = if tale == Tale::ALL[0] { 0 } else { undisturbed.in_first_chapter };
    assert!(undisturbed.effects.len() > from + 10, "the tale has effects to interrupt: {from}");
    from..undisturbed.effects.len()
}

async fn interrupted_anywhere(tale: Tale) {
    let undisturbed = Story::tell(tale, Interruption::Never).await;
    let mut verdicts = Verdicts::default();
    for number in interrupted(tale, &undisturbed) {
        for fault in FAULTS {
            let told = Story::tell(tale, Interruption::At(number, *fault)).await;
            let what = format!("{fault:?} at effect {number} ({})", undisturbed.effects[number]);
            verdicts.same_end(&what, &told, &undisturbed.chapters);
        }
    }
    verdicts.pronounce();
}

#[tokio::test]
async fn services_interrupted_anywhere_in_any_way_end_the_same() {
    interrupted_anywhere(Tale::Services).await;
}

#[tokio::test]
async fn upkeep_interrupted_anywhere_in_any_way_ends_the_same() {
    interrupted_anywhere(Tale::Upkeep).await;
}

#[tokio::test]
async fn managers_interrupted_anywhere_in_any_way_end_the_same() {
    interrupted_anywhere(Tale::Managers).await;
}

#[tokio::test]
async fn machines_interrupted_anywhere_in_any_way_end_the_same() {
    interrupted_anywhere(Tale::Machines).await;
}

#[tokio::test]
async fn cancelled_during_any_effect_everything_is_accounted_for_and_can_be_removed() {
    let (mut verdicts, mut accepted) = (Verdicts::default(), 0);
    for tale in Tale::ALL {
        let undisturbed = Story::tell(tale, Interruption::Never).await;
        for number in interrupted(tale, &undisturbed) {
            let told = Story::tell(tale, Interruption::At(number, Fault::Cancelled)).await;
            accepted += usize::from(matches!(&told.cancelled, Some(Ok(_))));
            let what = format!("cancelled during effect {number} ({})", undisturbed.effects[number]);
            verdicts.cancelled(&what, &told);
        }
    }
    assert!(accepted > 10, "most cancellations are accepted: {accepted}");
    verdicts.pronounce();
}

#[tokio::test]
async fn cancelled_at_any_step_of_any_workflow_it_ends_or_says_why_not() {
    let mut verdicts = Verdicts::default();
    let mut told_in = BTreeMap::new();
    for tale in Tale::ALL {
        for workflow in Story::tell(tale, Interruption::Never).await.succeeded {
            told_in.entry(workflow).or_insert(tale);
        }
    }
    for workflow in WORKFLOWS {
        let tale = told_in[workflow.name];
        for (step, asked) in workflow.steps.iter().enumerate() {
            let told = Story::tell(tale, Interruption::CancelStep(workflow.name, step)).await;
            let what = format!("{} cancelled at step {}", workflow.name, asked.name);
            assert!(told.cancelled.is_some(), "{what}: the story does not come there");
            verdicts.cancelled(&what, &told);
        }
    }
    verdicts.pronounce();
}

#[tokio::test]
async fn a_host_whose_removal_is_cancelled_takes_tasks_again() {
    let told = Story::tell(Tale::Machines, Interruption::CancelStep("remove-host", 1)).await;
    let operation = told.cancelled.expect("is cancelled").expect("is accepted");
    assert_eq!((operation.state, operation.message.as_str()), (State::Cancelled, "cancelled by ann"));
    assert!(
        told.effects.iter().any(|effect| effect.contains("availability and labels of")),
        "{:?}",
        told.effects
    );
    let (_, after) = told.chapters.iter().find(|(name, _)| *name == "a host removed").expect("is told");
    assert!(after.contains(&"4 machines, 0 let go".to_owned()), "{after:?}");
    assert!(!after.iter().any(|line| line.contains("drained")), "{after:?}");
}

#[tokio::test]
async fn a_leader_that_changes_after_every_single_turn_gets_there_too() {
    for tale in Tale::ALL {
        let undisturbed = Story::tell(tale, Interruption::Never).await;
        let told = Story::tell(tale, Interruption::NewLeaderEveryTurn).await;
        assert_eq!(told.chapters, undisturbed.chapters, "{tale:?}");
        assert_eq!(told.world.made_too_often(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_effect_that_can_never_succeed_ends_its_operation_and_leaves_nothing_unaccounted() {
    let mut verdicts = Verdicts::default();
    for tale in Tale::ALL {
        let undisturbed = Story::tell(tale, Interruption::Never).await;
        for number in interrupted(tale, &undisturbed) {
            let told = Story::tell(tale, Interruption::LastingFrom(number)).await;
            let what = format!("lasting error at effect {number} ({})", undisturbed.effects[number]);
            verdicts.accounted_for(&what, &told);
        }
    }
    verdicts.pronounce();
}

#[tokio::test]
async fn machines_whose_agents_never_connect_are_given_back() {
    let told = Story::tell(Tale::Services, Interruption::NoAgents).await;
    let hosts = told.failed.iter().filter(|operation| operation.starts_with("create-host")).count();
    assert_eq!(hosts, 3, "{:?}", told.failed);
    assert_eq!(told.world.left_over(), Vec::<String>::new());
    assert_eq!(told.world.made_too_often(), Vec::<String>::new());
}
