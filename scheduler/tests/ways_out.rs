//! No state without a way out: whatever workflow is at whatever step, in whatever direction and mood, people see why,
//! until when, and what they can do; and even if nothing ever succeeds again, it comes to an end that says what is left.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use skep_ledger::{Ledger, MemoryLedger, Request, Term, View, transact};
use skep_model::environment::{self, EnvironmentWish};
use skep_model::fact::{self, Fact};
use skep_model::host::{self, Inventory, Machine, Membership, Role};
use skep_model::ids::{EnvironmentId, HostId, OperationId, StackId};
use skep_model::operation::{self, Active, Operation, State, Subject, WayOut, workflow};
use skep_model::placement::Availability;
use skep_model::stack::{self, StackWish};
use skep_model::{CLUSTER, Ruling, resource};
use skep_scheduler::workflows::WORKFLOWS;
use skep_scheduler::{Effect, EffectError, Engine, Step, Turned, Workflow, World};
use uuid::Uuid;

/// More turns than any operation needs to be tried for all its deadlines.
const TURNS_MAX: usize = 20_000;

/// Nothing ever succeeds, and it always might the next time.
struct Broken;

#[async_trait]
impl World for Broken {
    async fn perform(&self, _: &Effect, _: &View, _: &Operation, _: Term) -> Result<Vec<Fact>, EffectError> {
        Err(EffectError::passing("no answer"))
    }
}

/// In what mood an operation can be at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Running,
    WaitsForSomething,
    WaitsToTryAgain,
    WaitsForSlot,
    Paused,
}

const MOODS: &[Mood] =
    &[Mood::Running, Mood::WaitsForSomething, Mood::WaitsToTryAgain, Mood::WaitsForSlot, Mood::Paused];

struct Place {
    ledger: Arc<MemoryLedger>,
    environment: EnvironmentId,
    host: HostId,
    stack: StackId,
}

fn op(number: u128) -> OperationId {
    OperationId::new(Uuid::from_u128(number))
}

impl Place {
    /// An environment with a host that has a machine and is in the swarm, and a stack.
    async fn new() -> Place {
        let ledger = MemoryLedger::new();
        let (environment, host) = (EnvironmentId::new(Uuid::from_u128(1)), HostId::new(Uuid::from_u128(2)));
        let stack = StackId::new(Uuid::from_u128(3));
        let wish = EnvironmentWish {
            id: environment.clone(),
            operation: op(10),
            name: "prod".into(),
            template: "default".into(),
            hosts: vec![(host.clone(), op(11))],
            driver: "local".into(),
            options: Default::default(),
            change: Default::default(),
        };
        let recipe = StackWish {
            id: stack.clone(),
            operation: op(12),
            name: "shop".into(),
            document: "services:\n  web:\n    image: busybox\n".into(),
            variables: Default::default(),
        };
        transact(&*ledger, Request::new(), |tx| -> Ruling<()> {
            environment::wish(tx, &wish)?;
            stack::deploy(tx, "prod", &recipe)?;
            resource::intend(tx, &host, &environment, "local")?;
            let machine = Machine { id: "vm".into(), address: "10.90.0.2".into() };
            fact::record(tx, &Fact::MachineExists(environment.clone(), host.clone(), machine))?;
            host::reported(tx, host.as_str(), "m1", "s", Some(Inventory::default()), Ok(()))?;
            let node = Membership {
                node: "n".into(),
                role: Role::Manager,
                leader: true,
                ready: true,
                reachable: true,
                availability: Availability::Drain,
            };
            fact::record(
                tx,
                &Fact::SwarmSeen(environment.clone(), "swarm".into(), vec![(host.clone(), node)]),
            )
        })
        .await
        .expect("commits");
        Place { ledger, environment, host, stack }
    }

    fn subject(&self, workflow: &str) -> Subject {
        match workflow {
            workflow::CREATE_HOST
            | workflow::CHECK_HOST
            | workflow::MOVE_HOST
            | workflow::UPDATE_HOST
            | workflow::UPGRADE_HOST
            | workflow::REPROVISION_HOST
            | workflow::REMOVE_HOST => Subject::new("host", &self.host, "prod-1"),
            workflow::REPLACE_HOST => Subject::new("replacement", &self.host, "prod-1"),
            workflow::DEPLOY_STACK | workflow::GIVE_LOGINS | workflow::REMOVE_STACK => {
                Subject::new("stack", &self.stack, "shop")
            }
            workflow::UNLOCK_SWARM => Subject::new("swarm-lock", &self.environment, "prod"),
            workflow::FORM_SWARM
            | workflow::RESCUE_SWARM
            | workflow::RESTORE_SWARM
            | workflow::UPDATE_ENVIRONMENT
            | workflow::UPDATE_SWARM
            | workflow::ROTATE_TOKENS
            | workflow::ROTATE_AUTHORITY
            | workflow::ROTATE_UNLOCK_KEY => Subject::new("swarm", &self.environment, "prod"),
            workflow::REBALANCE_SWARM => Subject::new("tasks", &self.environment, "prod"),
            workflow::RELEASE_MACHINE => Subject::new("machine", &self.host, "prod/prod-1"),
            _ => Subject::new("environment", &self.environment, "prod"),
        }
    }

    /// Brings an operation of the workflow into a state, as the engine would: every earlier step has done something.
    async fn put(&self, workflow: &Workflow, step: usize, back: bool, mood: Mood) -> OperationId {
        let id = op(99);
        let moved = transact(&*self.ledger, Request::new(), |tx| -> Ruling<()> {
            let subject = self.subject(workflow.name);
            tx.delete::<Active>(CLUSTER, &subject.index());
            let environment = environment::named(tx, "prod")?;
            operation::start(tx, id.clone(), workflow.name, subject, Some(&environment), None)?;
            let mut operation = tx.get::<Operation>(CLUSTER, id.as_str())?.expect("is started").record;
            let now = tx.now();
            operation.prepare(workflow.steps.iter().map(Step::planned));
            for _ in 0..step {
                operation.begin("doing it", "m1", now);
                operation.advance(now);
            }
            operation.begin("doing it", "m1", now);
            if back {
                operation.turn("no quota", now);
            }
            match mood {
                Mood::Running => {}
                Mood::WaitsForSomething => operation.wait("something is not so yet", now),
                Mood::WaitsToTryAgain => operation.failed("no answer", now + SignedDuration::from_secs(5)),
                Mood::WaitsForSlot => operation.wait_for_slot("8 machines are being made", now),
                Mood::Paused => operation.pause("ann", now),
            }
            operation::save(tx, &operation)
        });
        moved.await.expect("commits");
        id
    }

    fn operation(&self, id: &OperationId) -> Operation {
        self.ledger.view().get::<Operation>(CLUSTER, id.as_str()).expect("reads").expect("is there").record
    }

    /// Lets time pass until it has ended, however often it has to be turned.
    async fn end(&self, id: &OperationId, what: &str) -> Operation {
        let engine = Engine::new(self.ledger.clone(), Arc::new(Broken), "m1", self.ledger.term());
        for _ in 0..TURNS_MAX {
            match engine.turn(id).await.expect("turns") {
                Turned::Ended => return self.operation(id),
                Turned::Moved => {}
                Turned::WaitsForSlot => unreachable!("nothing else is done here"),
                Turned::Waits(most) | Turned::LooksAgain(most) => {
                    let deadline = self.operation(id).deadline().expect("is open");
                    let now = self.ledger.now();
                    let then = (now + SignedDuration::try_from(most).expect("is short")).min(deadline);
                    self.ledger.set_now(then.max(now + SignedDuration::from_millis(1)));
                }
            }
        }
        panic!("{what} does not end: {:#?}", self.operation(id));
    }
}

#[tokio::test]
async fn every_state_of_every_workflow_has_a_reason_a_deadline_and_a_way_out_and_ends() {
    let mut states = 0;
    for workflow in WORKFLOWS {
        for (step, asked) in workflow.steps.iter().enumerate() {
            for back in [false, true] {
                for mood in MOODS {
                    let what = format!("{} at {}, back {back}, {mood:?}", workflow.name, asked.name);
                    let place = Place::new().await;
                    let id = place.put(workflow, step, back, *mood).await;
                    let operation = place.operation(&id);
                    assert!(!operation.message.is_empty(), "{what}: no reason");
                    assert!(operation.deadline().is_some(), "{what}: no deadline");
                    assert!(!operation.ways_out().is_empty(), "{what}: no way out");
                    if *mood == Mood::Paused {
                        assert!(operation.ways_out().contains(&WayOut::Resume), "{what}");
                    }
                    let ended = place.end(&id, &what).await;
                    let states_of_an_end = matches!(ended.state, State::Succeeded | State::Failed);
                    assert!(states_of_an_end && !ended.message.is_empty(), "{what}: {ended:#?}");
                    assert!(!back || ended.state == State::Failed, "{what}: {:?}", ended.state);
                    states += 1;
                }
            }
        }
    }
    println!("{states} states");
}

#[tokio::test]
async fn an_undoing_that_is_late_ends_failed_and_says_what_was_left_where() {
    let place = Place::new().await;
    let create_host = WORKFLOWS.iter().find(|known| known.name == workflow::CREATE_HOST).expect("is known");
    let id = place.put(create_host, 0, false, Mood::WaitsToTryAgain).await;
    let cancelled = transact(&*place.ledger, Request::new(), |tx| operation::cancel(tx, id.as_str(), "ann"));
    cancelled.await.expect("is turned");
    let ended = place.end(&id, "the cancelled creation").await;
    assert_eq!(ended.state, State::Failed, "it is not cancelled as long as the machine is there");
    assert_eq!(ended.left.len(), 1);
    for word in ["cancelled by ann; left behind: machine: ", "its driver", "cloud ledger", "no answer"] {
        assert!(ended.message.contains(word), "{word}: {}", ended.message);
    }
}

#[tokio::test]
async fn a_queued_operation_has_a_deadline_and_a_way_out_and_does_not_wait_for_ever() {
    let place = Place::new().await;
    // The creation of the host runs; its removal comes second, and its turn never comes.
    let removal = transact(&*place.ledger, Request::new(), |tx| {
        let environment = environment::usable(tx, "prod")?;
        host::remove(tx, &environment, place.host.as_str(), op(50), None)
    });
    let queued = removal.await.expect("is queued").answer;
    assert_eq!((queued.state, queued.ways_out()), (State::Queued, vec![WayOut::Cancel]));
    assert!(queued.message.contains(op(11).as_str()), "{}", queued.message);
    let ended = place.end(&op(50), "the queued removal").await;
    assert_eq!(ended.state, State::Failed);
}

#[tokio::test]
async fn a_failed_operation_begins_again_and_one_whose_subject_is_gone_says_so() {
    let place = Place::new().await;
    for name in [workflow::REMOVE_HOST, workflow::REMOVE_STACK, workflow::FORM_SWARM] {
        let known = WORKFLOWS.iter().find(|known| known.name == name).expect("is known");
        let place = Place::new().await;
        let id = place.put(known, 0, true, Mood::WaitsToTryAgain).await;
        place.end(&id, name).await;
        let again =
            transact(&*place.ledger, Request::new(), |tx| operation::retry(tx, id.as_str(), op(200), "ann"));
        let again = again.await.unwrap_or_else(|error| panic!("{name}: {error}")).answer;
        assert_eq!((again.workflow.as_str(), again.retry_of.as_ref()), (name, Some(&id)));
        assert_eq!(again.state, State::Running, "{name}");
        let busy =
            transact(&*place.ledger, Request::new(), |tx| operation::retry(tx, id.as_str(), op(201), "ann"));
        let busy = busy.await.expect_err("its subject is in other hands").to_string();
        assert!(busy.contains(op(200).as_str()), "{busy}");
    }
    // Were it tried again and failed, it would give away a machine that is at work.
    let known = WORKFLOWS.iter().find(|known| known.name == workflow::CREATE_HOST).expect("is known");
    let id = place.put(known, 0, true, Mood::WaitsToTryAgain).await;
    place.end(&id, "a creation").await;
    let again =
        transact(&*place.ledger, Request::new(), |tx| operation::retry(tx, id.as_str(), op(202), "ann"));
    let refused = again.await.expect_err("the host serves").to_string();
    assert!(refused.contains("brought to life since"), "{refused}");
    let place = Place::new().await;
    let known = WORKFLOWS.iter().find(|known| known.name == workflow::REMOVE_HOST).expect("is known");
    let id = place.put(known, 0, true, Mood::WaitsToTryAgain).await;
    place.end(&id, "a removal").await;
    let gone = transact(&*place.ledger, Request::new(), |tx| -> Ruling<()> {
        host::forget(tx, &place.environment, &place.host)
    });
    gone.await.expect("commits");
    let again =
        transact(&*place.ledger, Request::new(), |tx| operation::retry(tx, id.as_str(), op(200), "ann"));
    let refused = again.await.expect_err("there is no host").to_string();
    assert!(refused.contains("the host is gone"), "{refused}");
}

#[test]
fn every_step_says_what_becomes_of_what_it_makes() {
    for workflow in WORKFLOWS {
        for step in workflow.steps {
            let what = format!("{} of {}", step.name, workflow.name);
            assert_eq!(step.undo.is_some(), !step.gives_back.is_empty(), "{what}");
            assert!(step.deadline_secs > 0, "{what}");
            assert!(!step.for_good || step.undo.is_none(), "{what} is for good and has a way back");
        }
    }
}
