//! What is derived from the facts about a host, and how what the swarm says of it is taken over.

use jiff::Timestamp;

use super::{Agent, Host, Membership, Role, Validity};

impl Host {
    /// Can its engine be spoken to, is its address known, and is it meant to stay as it is?
    pub fn is_ready(&self) -> bool {
        let engine = self.agent.connected && self.agent.engine_up && self.inventory.is_some();
        // An agent can be faster than the driver's answer.
        engine && self.machine.is_some() && self.removal.is_none() && self.renewal.is_none()
    }

    /// Does it do its part in the swarm?
    pub fn is_active(&self) -> bool {
        self.is_ready() && !self.swarm_locked && self.membership.as_ref().is_some_and(|node| node.ready)
    }

    /// Since when it does not do its part, although it once did; none if it does, or is meant to go.
    pub fn down_since(&self) -> Option<Timestamp> {
        if self.removal.is_some() || !self.was_ready || self.is_active() {
            return None;
        }
        let silent = self.agent.since.filter(|_| !self.agent.connected);
        let engine = self.agent.engine_since.filter(|_| !self.agent.engine_up);
        let node = self.node_since.filter(|_| self.membership.as_ref().is_some_and(|node| !node.ready));
        [silent, engine, node].into_iter().flatten().min()
    }

    /// Is it decided that the swarm does without it as a manager, for as long as it is down?
    pub fn is_given_up(&self) -> bool {
        self.given_up.is_some() && self.given_up == self.down_since()
    }

    /// Takes over what the swarm says of it; nothing if the swarm does not list it.
    pub(crate) fn seen_in_swarm(&mut self, membership: Option<Membership>, now: Timestamp) {
        let shown =
            |node: &Option<Membership>| node.as_ref().filter(|node| node.ready).map(|node| node.availability);
        if shown(&self.membership) != shown(&membership) {
            self.node_since = Some(now);
        }
        self.keep_availability(&membership);
        self.was_ready |= shown(&membership).is_some();
        if membership.is_some() {
            self.join_error.clear();
            self.parted = false;
        }
        let node = |membership: &Option<Membership>| membership.as_ref().map(|node| node.node.clone());
        if node(&self.membership) != node(&membership) {
            // Another node has nothing of what was written into the one before it.
            self.placement.applied = 0;
            self.placement.written.clear();
            self.placement.kept = None;
        }
        self.membership = membership;
    }

    /// Whatever somebody wished for a node before its swarm was taken over is wished on.
    fn keep_availability(&mut self, membership: &Option<Membership>) {
        let Some(node) = membership.as_ref().filter(|node| Some(&node.node) == self.adopted.as_ref()) else {
            return;
        };
        if self.membership.is_none() && !self.was_ready {
            self.placement.availability = node.availability;
        }
    }

    /// Lets go of everything that came with its machine. The next one has an agent with a key of its own, which must be
    /// able to register.
    pub(crate) fn forget_machine(&mut self) {
        self.machine = None;
        self.registration = None;
        self.agent = Agent::default();
        self.inventory = None;
        self.networks = None;
        self.nfs = None;
        self.preflight = None;
        self.membership = None;
        self.parted = false;
        self.standing = None;
        self.remembered = None;
        self.join_error.clear();
        self.was_ready = false;
        self.evacuated = false;
        self.machine_lost = None;
        self.swarm_locked = false;
    }

    /// Could it be spoken to once, and cannot now? Such a host's driver is asked what has become of the machine.
    pub fn is_silent(&self) -> bool {
        let was_there = self.machine.is_some() && self.registration.is_some() && self.agent.since.is_some();
        was_there && !self.agent.connected && self.removal.is_none()
    }

    /// Does its agent say that its engine answers?
    pub fn answers(&self) -> bool {
        self.agent.connected && self.agent.engine_up
    }

    /// May it be a node of the swarm although nobody has seen that? It may have joined just now, in other hands.
    pub fn may_have_joined(&self) -> bool {
        self.membership.is_none() && self.answers() && !self.parted
    }

    /// Does its node take no tasks for a while, because Skep has drained it and gives it back afterwards?
    pub fn is_suspended(&self) -> bool {
        self.membership.is_some() && self.placement.kept.is_some()
    }

    /// Does the swarm see its node ready?
    pub fn is_seen_ready(&self) -> bool {
        self.membership.as_ref().is_some_and(|node| node.ready)
    }

    /// Is it a manager of the swarm?
    pub fn is_swarm_manager(&self) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.role == Role::Manager)
    }

    /// The certificate with which it is a node of the swarm, as far as that is known.
    pub fn swarm_certificate(&self) -> Option<Validity> {
        self.membership.as_ref().and(self.inventory.as_ref()?.swarm_certificate)
    }

    /// Does the kernel have a feature? `None` if the agent has not said.
    pub fn has_feature(&self, name: &str) -> Option<bool> {
        self.inventory.as_ref()?.features.get(name).copied()
    }
}
