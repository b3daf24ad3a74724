//! Replaces a key of a swarm: its join tokens, its unlock key, or the authority that signs its nodes' certificates.
//!
//! What is there is noted before it is replaced, so that nothing is replaced twice, whoever leads. Nothing is given back:
//! the old key may be what somebody wanted to be rid of.

use skep_model::operation::workflow;
use skep_model::swarm_keys::{Certificates, SwarmKey};

use super::with_swarm;
use crate::{At, Effect, Late, Next, Step, Workflow};

/// Time for nodes to ask for new certificates. They are told within seconds; one that is down keeps the others waiting until
/// it is back or removed.
const CERTIFY_MAX_SECS: i64 = 900;

/// Names of nodes that people are told at once; a thousand would say no more.
const NAMED_MAX: usize = 5;

pub(super) const TOKENS: Workflow = Workflow {
    name: workflow::ROTATE_TOKENS,
    steps: &[
        Step::new("note", |at| note(at, SwarmKey::JoinTokens)),
        Step::new("rotate", |at| rotate(at, SwarmKey::JoinTokens)).leaving("the join tokens may be new"),
    ],
};

pub(super) const UNLOCK_KEY: Workflow = Workflow {
    name: workflow::ROTATE_UNLOCK_KEY,
    steps: &[
        Step::new("note", |at| note(at, SwarmKey::UnlockKey)),
        Step::new("rotate", |at| rotate(at, SwarmKey::UnlockKey)).leaving("the unlock key may be a new one"),
    ],
};

pub(super) const AUTHORITY: Workflow = Workflow {
    name: workflow::ROTATE_AUTHORITY,
    steps: &[
        Step::new("note", |at| note(at, SwarmKey::Authority)),
        Step::new("rotate", |at| rotate(at, SwarmKey::Authority))
            .leaving("the swarm goes on giving its nodes certificates of a new authority"),
        Step::new("certify", certify).within(CERTIFY_MAX_SECS, Late::Turn),
    ],
};

fn note(at: &At, key: SwarmKey) -> Next {
    with_swarm(at, |environment| {
        let rotation = environment.keys.rotation(key);
        match rotation.is_done_by(&at.operation) || rotation.noted_by(&at.operation.id).is_some() {
            true => Next::Done,
            false => Next::Do(Effect::NoteKey { environment: environment.id.clone(), key }),
        }
    })
}

fn rotate(at: &At, key: SwarmKey) -> Next {
    with_swarm(at, |environment| {
        match environment.keys.rotation(key).done_by.as_ref() == Some(&at.operation.id) {
            true => Next::Done,
            false => Next::Do(Effect::RotateKey { environment: environment.id.clone(), key }),
        }
    })
}

fn certify(at: &At) -> Next {
    with_swarm(at, |environment| match environment.keys.certified_by.as_ref() == Some(&at.operation.id) {
        true => Next::Done,
        false => Next::Do(Effect::ObserveCertificates {
            environment: environment.id.clone(),
            seen: environment.keys.certificates.as_ref().map(seen).unwrap_or_default(),
        }),
    })
}

fn seen(certificates: &Certificates) -> String {
    let Certificates { renewed, missing } = certificates;
    let named = missing.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match missing.len() {
        0 => String::new(),
        count => {
            let more = if count > NAMED_MAX { ", …" } else { "" };
            format!(": {renewed} of {} have; not yet {named}{more}", renewed + count)
        }
    }
}
