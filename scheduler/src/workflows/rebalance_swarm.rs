//! Gives hosts that have joined their share of the tasks: the tasks of a few services are placed anew, one service after the
//! other, and the next one only when all tasks of all services run.
//!
//! Docker does the moving, as each service's own update says. Nothing is turned around: what has moved is as good where it
//! is. As soon as something is not well, nothing more is moved; the same hosts are no reason to try again.

use skep_model::balance::End;
use skep_model::operation::workflow;

use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time for all services of a pass to come through their updates, with their own pauses between tasks. What has not been
/// moved by then stays where it is.
const PASS_MAX_SECS: i64 = 1_800;

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::REBALANCE_SWARM,
    steps: &[Step::new("tasks", tasks)
        .leaving("tasks that have moved stay where they are")
        .within(PASS_MAX_SECS, Late::GoOn)],
};

fn tasks(at: &At) -> Next {
    let Some(environment) = at.environment.as_ref().filter(|_| !at.environment_goes()) else {
        return Next::Turn("the environment is being removed".into());
    };
    let Some(balance) = environment.balance_of(&at.operation.id) else {
        return Next::Turn("another pass has begun since".into());
    };
    match &balance.end {
        Some(End::Even) => return Next::Done,
        Some(End::Stopped(why)) => return Next::Turn(why.clone()),
        None if !environment.upkeep.rebalance => return Next::Turn("it is not wished any more".into()),
        None => {}
    }
    if let Some(host) = at.hosts.iter().find(|host| !host.is_active()) {
        return Next::Turn(format!("{} is {}: no tasks are moved meanwhile", host.name, host.state().word));
    }
    let busy = |stack: &&skep_model::stack::Stack| at.busy.contains(&format!("stack/{}", stack.id));
    if let Some(stack) = at.stacks.iter().find(busy) {
        return Next::Wait(format!("stack {} is being changed", stack.name));
    }
    let environment = environment.id.clone();
    match &balance.next {
        Some(service) => Next::Do(Effect::MoveTasks { environment, service: service.clone() }),
        None => Next::Do(Effect::ObserveShares { environment, moved: balance.moved.len() }),
    }
}
