//! Gives a machine back whose host and environment are gone already, because its driver did not take it back in time.
//!
//! Started by a planner for every such row of the cloud ledger, again and again, more and more seldom.

use skep_model::operation::workflow;

use crate::{Step, Workflow};

pub(super) const WORKFLOW: Workflow = Workflow {
    name: workflow::RELEASE_MACHINE,
    steps: &[Step::new("machine", super::release_machine)
        .leaving("the machine may still be there; the cloud ledger keeps it, and it is tried again")
        .for_good()],
};
