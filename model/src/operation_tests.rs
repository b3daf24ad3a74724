//! The moves, the queue, what people ask, and what is said about it.

use skep_ledger::{Ledger, MemoryLedger, Request, Tx, transact};
use uuid::Uuid;

use super::history::{KEPT_FOR, KEPT_MAX, forgotten};
use super::*;
use crate::{Refusal, Ruling};

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn planned(name: &str, undo: Option<&str>) -> Planned {
    Planned { undo: undo.map(str::to_owned), keeps: format!("the {name} stays"), ..Planned::from(name) }
}

fn id(number: u128) -> OperationId {
    OperationId::new(Uuid::from_u128(number))
}

fn operation(steps: &[&str]) -> Operation {
    let view = MemoryLedger::new().view();
    let mut tx = Tx::new(&view, START);
    let subject = Subject::new("host", "host_1", "web-1");
    let mut operation = start(&mut tx, id(1), "w", subject, None, None).expect("starts");
    operation.prepare(steps.iter().copied());
    operation
}

fn after(secs: i64) -> Timestamp {
    START + SignedDuration::from_secs(secs)
}

#[test]
fn it_goes_forward_to_success() {
    let mut operation = operation(&["a", "b"]);
    operation.advance(START);
    assert_eq!(operation.current().expect("goes on").name, "b");
    operation.advance(START);
    assert_eq!((operation.state, operation.message.as_str()), (State::Succeeded, "done"));
}

#[test]
fn turned_around_each_step_is_undone_or_kept_and_one_that_made_nothing_says_why() {
    let mut operation = operation(&[]);
    operation.prepare([planned("a", Some("a goes")), planned("b", None), planned("c", None)].into_iter());
    for _ in 0..2 {
        operation.begin("making it", "m1", START);
        operation.advance(START);
    }
    operation.turn("no quota", START);
    operation.keep(START);
    operation.keep(START);
    operation.advance(START);
    let states: Vec<_> = operation.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Undone, StepState::Kept, StepState::Failed]);
    assert_eq!(operation.steps[1].message, "the b stays");
    assert_eq!(operation.steps[2].message, "no quota");
    assert_eq!((operation.state, operation.message.as_str()), (State::Failed, "no quota"));
}

#[test]
fn what_could_not_be_given_back_is_named_at_the_end_and_the_rest_is_given_back() {
    let mut operation = operation(&[]);
    operation.prepare([planned("a", Some("a goes")), planned("b", Some("b goes"))].into_iter());
    operation.begin("making it", "m1", START);
    operation.advance(START);
    operation.begin("making it", "m1", START);
    operation.cancelled = Some(Asked { by: "ann".into(), at: START });
    operation.turn("cancelled by ann", START);
    operation.leave("not done within 600 s", START);
    operation.advance(START);
    assert_eq!(operation.steps[0].state, StepState::Undone);
    assert_eq!(operation.state, State::Failed, "it is not cancelled as long as something is left");
    assert_eq!(operation.message, "cancelled by ann; left behind: b: the b stays (not done within 600 s)");
}

#[test]
fn the_clock_of_a_step_stands_still_while_it_is_held() {
    let mut operation = operation(&["a"]);
    assert_eq!(operation.deadline(), Some(after(600)));
    operation.pause("ann", after(100));
    assert_eq!(operation.deadline(), Some(after(100) + PAUSED_MAX));
    operation.let_go(after(5_000));
    assert_eq!(operation.deadline(), Some(after(5_500)), "500 s were left, and are");
    operation.wait_for_slot("8 machines are being made", after(5_100));
    operation.begin("making it", "m1", after(9_100));
    assert_eq!(operation.deadline(), Some(after(9_500)));
}

async fn change<A: Send + Serialize + serde::de::DeserializeOwned>(
    ledger: &MemoryLedger,
    mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
) -> Ruling<A> {
    match transact(ledger, Request::new(), |tx| rule(tx)).await {
        Ok(committed) => Ok(committed.answer),
        Err(skep_ledger::TransactError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

async fn started(ledger: &MemoryLedger, number: u128) -> Ruling<Operation> {
    change(ledger, |tx| start(tx, id(number), "w", Subject::new("host", "host_1", "web-1"), None, None)).await
}

fn stored(ledger: &MemoryLedger, number: u128) -> Operation {
    let stored = ledger.view().get::<Operation>(CLUSTER, id(number).as_str()).expect("reads");
    stored.expect("exists").record
}

async fn moved(ledger: &MemoryLedger, number: u128, how: impl Fn(&mut Operation, Timestamp) + Send + Sync) {
    let mut operation = stored(ledger, number);
    let moved = change(ledger, |tx| {
        how(&mut operation, tx.now());
        save(tx, &operation)
    });
    moved.await.expect("saves");
}

fn ends(operation: &mut Operation, now: Timestamp) {
    operation.prepare(["only"].into_iter());
    operation.advance(now);
}

#[tokio::test]
async fn the_queue_is_served_in_the_order_of_asking() {
    let ledger = MemoryLedger::new();
    // Not in the order of their ids.
    for number in [5, 9, 7, 8] {
        started(&ledger, number).await.expect("starts");
    }
    change(&ledger, |tx| cancel(tx, id(7).as_str(), "ann")).await.expect("is simply over");
    assert_eq!(stored(&ledger, 7).state, State::Cancelled);
    let running = |ledger: &MemoryLedger| -> Vec<u128> {
        [5, 9, 7, 8].into_iter().filter(|number| stored(ledger, *number).state == State::Running).collect()
    };
    for expected in [5, 9, 8] {
        assert_eq!(running(&ledger), [expected]);
        moved(&ledger, expected, ends).await;
    }
    assert_eq!(running(&ledger), Vec::<u128>::new());
    assert_eq!(ledger.view().list::<Active>(CLUSTER).expect("reads"), []);
}

#[tokio::test]
async fn the_queue_is_bounded_and_says_who_is_in_the_way() {
    let ledger = MemoryLedger::new();
    for number in 0..=QUEUED_PER_SUBJECT_MAX as u128 {
        started(&ledger, number).await.expect("there is room");
    }
    let refused = started(&ledger, 1_000).await.expect_err("is full");
    assert_eq!(refused.code(), "SKP-1406");
    assert!(refused.to_string().contains(id(0).as_str()), "{refused}");
}

#[tokio::test]
async fn asking_twice_or_too_late_is_refused_with_the_reason() {
    let ledger = MemoryLedger::new();
    started(&ledger, 1).await.expect("starts");
    moved(&ledger, 1, |operation, now| {
        operation.prepare([planned("a", Some("a goes"))].into_iter());
        operation.begin("making a", "m1", now);
    })
    .await;
    change(&ledger, |tx| pause(tx, id(1).as_str(), "ann")).await.expect("pauses");
    let refusals = [
        change(&ledger, |tx| pause(tx, id(1).as_str(), "bob")).await.expect_err("is paused"),
        change(&ledger, |tx| retry(tx, id(1).as_str(), id(2), "bob")).await.expect_err("is paused"),
    ];
    assert!(refusals.iter().all(|refusal| refusal.to_string().contains("ann has paused it")), "{refusals:?}");
    let cancelled = change(&ledger, |tx| cancel(tx, id(1).as_str(), "bob")).await.expect("turns");
    assert_eq!((cancelled.shown_state(), cancelled.direction), ("cancelling", Direction::Back));
    let again = change(&ledger, |tx| cancel(tx, id(1).as_str(), "bob")).await.expect_err("is turned");
    assert!(again.to_string().contains("gives back already"), "{again}");
    moved(&ledger, 1, |operation, now| operation.advance(now)).await;
    assert_eq!(stored(&ledger, 1).state, State::Cancelled);
    for refused in [
        change(&ledger, |tx| cancel(tx, id(1).as_str(), "bob")).await,
        change(&ledger, |tx| pause(tx, id(1).as_str(), "bob")).await,
        change(&ledger, |tx| resume(tx, id(1).as_str())).await,
    ] {
        assert_eq!(refused.expect_err("has ended").code(), "SKP-1308");
    }
}

#[test]
fn what_a_cancellation_would_do_is_told_in_words() {
    let mut operation = operation(&[]);
    let steps = [planned("a", Some("a goes")), planned("b", None), Planned::from("c"), planned("d", None)];
    operation.prepare(steps.into_iter());
    for _ in 0..3 {
        operation.begin("making it", "m1", START);
        operation.advance(START);
    }
    let plan = turnaround(&operation);
    assert_eq!(plan.gives_back, [("a".to_owned(), "a goes".to_owned())]);
    assert_eq!(plan.stays, [("b".to_owned(), "the b stays".to_owned())], "c makes nothing, d has not begun");
}

#[tokio::test]
async fn every_move_is_a_line_and_the_newest_are_kept() {
    let ledger = MemoryLedger::new();
    started(&ledger, 1).await.expect("starts");
    moved(&ledger, 1, |operation, now| {
        operation.prepare([planned("a", Some("a goes"))].into_iter());
        operation.begin("making a", "m1", now);
    })
    .await;
    moved(&ledger, 1, |operation, now| {
        operation.failed("no answer", now + SignedDuration::from_millis(1_500));
    })
    .await;
    change(&ledger, |tx| pause(tx, id(1).as_str(), "ann")).await.expect("pauses");
    change(&ledger, |tx| cancel(tx, id(1).as_str(), "bob")).await.expect("turns");
    moved(&ledger, 1, |operation, now| operation.advance(now)).await;
    let said = |ledger: &MemoryLedger| -> Vec<String> {
        let lines = log(&ledger.view(), &stored(ledger, 1)).expect("reads");
        lines.iter().map(|line| format!("{} {}{}", line.number, line.node, line.text)).collect()
    };
    assert_eq!(
        said(&ledger),
        [
            "0 asked for: w of host/web-1",
            "1 m1attempt 1 began: making a",
            "2 m1attempt 1 failed: no answer; tries again in 1.5 s",
            "3 paused by ann",
            "4 goes on; was paused by ann",
            "5 turned around: cancelled by bob",
            "6 given up: cancelled by bob",
            "7 undone",
            "8 ended: cancelled by bob",
        ]
    );
    started(&ledger, 2).await.expect("starts");
    for number in 0..LINES_PER_OPERATION_MAX + 10 {
        moved(&ledger, 2, |operation, now| {
            if operation.steps.is_empty() {
                operation.prepare(["a"].into_iter());
            }
            operation.wait(&format!("{number} {}", "x".repeat(2_000)), now);
        })
        .await;
    }
    let lines = log(&ledger.view(), &stored(&ledger, 2)).expect("reads");
    assert_eq!(lines.len() as u64, LINES_PER_OPERATION_MAX);
    assert_eq!((lines[0].number, lines.last().expect("some").number), (11, LINES_PER_OPERATION_MAX + 10));
    assert!(lines.iter().all(|line| line.text.len() < 600), "a line is bounded");
    change(&ledger, |tx| history::forget(tx, &[id(2)])).await.expect("forgets");
    let left = ledger.view().list::<Line>(CLUSTER).expect("reads");
    assert!(left.iter().all(|line| line.operation == id(1)), "an operation takes its lines along");
}

#[tokio::test]
async fn an_operation_knows_which_it_has_begun_until_those_are_forgotten() {
    let ledger = MemoryLedger::new();
    started(&ledger, 1).await.expect("starts");
    for number in [2, 3] {
        let subject = Subject::new("host", number, "web");
        let begun =
            change(&ledger, |tx| start(tx, id(number), "w", subject.clone(), None, Some(id(1)))).await;
        begun.expect("starts");
    }
    let begun_by = |parent| children(&ledger.view(), &id(parent)).expect("reads");
    assert_eq!((begun_by(1), begun_by(2)), (vec![id(2), id(3)], vec![]));
    change(&ledger, |tx| history::forget(tx, &[id(2)])).await.expect("forgets");
    assert_eq!(begun_by(1), [id(3)]);
}

#[test]
fn the_old_and_the_surplus_are_forgotten_but_no_child_of_an_open_operation() {
    let mut now = START + KEPT_FOR;
    let mut all: Vec<_> = (0..KEPT_MAX as u128 + 5)
        .map(|number| {
            let mut operation = operation(&["only"]);
            operation.id = id(number);
            operation.advance(now);
            operation
        })
        .collect();
    assert_eq!(forgotten(all.iter(), now), (0..5).map(id).collect::<Vec<_>>(), "the oldest of too many");
    all.truncate(10);
    all[3].ended_at = Some(START);
    all[4].ended_at = Some(START);
    assert_eq!(forgotten(all.iter(), now), [], "30 days are not over");
    now += SignedDuration::from_secs(1);
    let mut parent = operation(&["only"]);
    parent.id = id(5_000);
    all[4].parent = Some(parent.id.clone());
    all.push(parent);
    assert_eq!(forgotten(all.iter(), now), [id(3)]);
}

#[test]
fn every_refusal_of_asking_tells_what_to_do_instead() {
    let refusal = Refusal::OperationInProgress { subject: "host/web-1".into(), operation: "op_1".into() };
    assert!(refusal.hint().is_some_and(|hint| hint.contains("skep op cancel op_1")));
}
