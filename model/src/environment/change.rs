//! What can be wished for an environment, when it is made and afterwards: one door for all of it.
//!
//! A wish is only written down here. The operation `update-environment` brings it about; what the swarm falls behind with later,
//! or what is only done when there is a reason, planners begin by themselves.

use jiff::Timestamp;
use skep_ledger::Tx;

use super::{Environment, awake, swarm};
use crate::balance::Balance;
use crate::host::Host;
use crate::ids::OperationId;
use crate::nfs::Nfs;
use crate::operation::{self, Operation, workflow};
use crate::options::{self, address_pool, mtu, swarm_managers};
use crate::swarm_keys;
use crate::upkeep;
use crate::{Refusal, Ruling, placement};

/// Wishes for an environment; whatever is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// How many swarm managers it keeps.
    pub swarm_managers: Option<u8>,
    /// The host label over whose values the swarm managers are spread; `Some(None)`: over none.
    pub spread_over: Option<Option<String>>,
    /// How long a swarm manager may be down before another host takes its place; zero: for ever.
    pub manager_patience_secs: Option<u32>,
    /// How long a host may be down before a new machine takes its place; zero: for ever.
    pub host_patience_secs: Option<u32>,
    /// Are tasks moved to hosts that have joined?
    pub rebalance: Option<bool>,
    /// What its networks' packets may have; `Some(None)`: what the hosts' links carry.
    pub mtu: Option<Option<u16>>,
    /// Whether overlay networks are encrypted.
    pub encrypted: Option<bool>,
    /// Where the swarm takes addresses from, as people write ranges.
    pub address_pools: Option<Vec<String>>,
    /// The length of the prefix of each network out of a pool; `Some(None)`: Docker's own.
    pub subnet_size: Option<Option<u8>>,
    /// Where volumes of driver `nfs` lie; `Some(None)`: nowhere.
    pub nfs: Option<Option<Nfs>>,
    /// For the swarm's keys and certificates.
    pub keys: swarm_keys::Change,
}

/// Wishes something anew for an environment; the operation brings it about.
pub fn update(tx: &mut Tx<'_>, reference: &str, change: &Change, id: OperationId) -> Ruling<Operation> {
    let mut environment = awake(tx, reference)?;
    let before = environment.options.pools();
    change.apply(&mut environment, tx.now())?;
    if environment.swarm.is_some() && environment.options.pools() != before {
        return Err(Refusal::WrongState {
            what: format!("environment '{}'", environment.name),
            cannot: "given other address pools",
            state: "a swarm already".into(),
            why: "a swarm is told its address pools when it is begun; create another environment with them"
                .into(),
        });
    }
    let hosts: Vec<Host> =
        tx.list::<Host>(environment.id.as_str())?.into_iter().map(|stored| stored.record).collect();
    options::suits(&environment, &hosts)?;
    tx.put(&environment);
    let subject = swarm(&environment);
    operation::start(tx, id, change.workflow(), subject, Some(&environment), None)
}

impl Change {
    /// Where it is only about keys, that is what is waited for. Otherwise a planner brings their part about afterwards.
    fn workflow(&self) -> &'static str {
        let only_keys = Change { keys: self.keys.clone(), ..Change::default() };
        match self.keys.is_any() && *self == only_keys {
            true => workflow::UPDATE_SWARM,
            false => workflow::UPDATE_ENVIRONMENT,
        }
    }

    /// Writes the wishes into the environment. Nothing is changed if one of them is refused.
    pub(super) fn apply(&self, environment: &mut Environment, now: Timestamp) -> Ruling<()> {
        let mut changed = environment.clone();
        self.apply_to_swarm(&mut changed)?;
        self.apply_to_options(&mut changed)?;
        self.apply_to_upkeep(&mut changed, now)?;
        self.keys.apply(&mut changed.keys)?;
        *environment = changed;
        Ok(())
    }

    fn apply_to_swarm(&self, environment: &mut Environment) -> Ruling<()> {
        if let Some(managers) = self.swarm_managers {
            swarm_managers(managers)?;
            environment.swarm_managers = managers;
            environment.keeps_its_own("swarm.managers");
        }
        if let Some(label) = &self.spread_over {
            label.as_deref().map_or(Ok(()), placement::check_key)?;
            environment.spread_over.clone_from(label);
            environment.keeps_its_own("swarm.spread");
        }
        Ok(())
    }

    fn apply_to_options(&self, environment: &mut Environment) -> Ruling<()> {
        if let Some(bytes) = self.mtu {
            bytes.map_or(Ok(()), mtu)?;
            environment.mtu = bytes;
            environment.keeps_its_own("network.mtu");
        }
        if let Some(encrypted) = self.encrypted {
            environment.options.encrypted = encrypted;
            environment.keeps_its_own("network.encrypted");
        }
        if let Some(pools) = &self.address_pools {
            environment.options.address_pools =
                pools.iter().map(|pool| address_pool(pool)).collect::<Ruling<_>>()?;
            environment.keeps_its_own("network.addressPools");
        }
        if let Some(size) = self.subnet_size {
            environment.options.subnet_size = size;
            environment.keeps_its_own("network.subnetSize");
        }
        if let Some(nfs) = &self.nfs {
            environment.options.nfs.clone_from(nfs);
            environment.keeps_its_own("nfs");
        }
        environment.options.check()
    }

    /// Templates say nothing of it.
    fn apply_to_upkeep(&self, environment: &mut Environment, now: Timestamp) -> Ruling<()> {
        if let Some(secs) = self.manager_patience_secs {
            let what = "the patience with a swarm manager that is down";
            environment.upkeep.manager_patience_secs = upkeep::patience(what, secs)?;
        }
        if let Some(secs) = self.host_patience_secs {
            let what = "the patience with a host that is down";
            environment.upkeep.host_patience_secs = upkeep::patience(what, secs)?;
        }
        if let Some(rebalance) = self.rebalance {
            // Whoever turns it on does not ask for the tasks of today to be restarted.
            if rebalance && !environment.upkeep.rebalance {
                environment.balance = Some(Balance::from_now(now));
            }
            environment.upkeep.rebalance = rebalance;
        }
        Ok(())
    }
}

impl Environment {
    /// An option, as templates call it, does not follow the template any more.
    fn keeps_its_own(&mut self, option: &str) {
        self.own.insert(option.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use skep_ledger::{Request, TransactError, transact};
    use uuid::Uuid;

    use super::*;
    use crate::environment::{pause, resume};
    use crate::testing::Swarm;

    fn id() -> OperationId {
        OperationId::new(Uuid::now_v7())
    }

    async fn updated(swarm: &Swarm, change: &Change) -> Result<Operation, Refusal> {
        match transact(&*swarm.ledger, Request::new(), |tx| update(tx, "prod", change, id())).await {
            Ok(committed) => Ok(committed.answer),
            Err(TransactError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn what_is_not_named_stays_and_what_makes_no_sense_changes_nothing() {
        let swarm = Swarm::of(3, 0).await;
        let wished = Change {
            swarm_managers: Some(5),
            spread_over: Some(Some("zone".into())),
            manager_patience_secs: Some(60),
            ..Change::default()
        };
        updated(&swarm, &wished).await.expect("is begun");
        updated(&swarm, &Change::default()).await.expect("is begun");
        let found = swarm.environment();
        assert_eq!((found.swarm_managers, found.spread_over.as_deref()), (5, Some("zone")));
        assert_eq!(found.upkeep.manager_patience_secs, 60);
        let own: Vec<&str> = found.own.iter().map(String::as_str).collect();
        assert_eq!(own, ["swarm.managers", "swarm.spread"], "only what templates say");

        for (wrong, said) in [
            (Change { swarm_managers: Some(4), ..Change::default() }, "swarm.managers cannot be 4"),
            (Change { spread_over: Some(Some("a b".into())), ..Change::default() }, "'a b'"),
            (Change { manager_patience_secs: Some(5), ..Change::default() }, "cannot be 5 s"),
            (Change { manager_patience_secs: Some(u32::MAX), ..Change::default() }, "use 10 s to"),
        ] {
            let wrong = Change { swarm_managers: wrong.swarm_managers.or(Some(1)), ..wrong };
            let refused = updated(&swarm, &wrong).await.expect_err("makes no sense").to_string();
            assert!(refused.contains(said), "{refused}");
            assert_eq!(swarm.environment(), found, "{said}");
        }
        let off = Change { spread_over: Some(None), manager_patience_secs: Some(0), ..Change::default() };
        updated(&swarm, &off).await.expect("is begun");
        assert_eq!(
            (swarm.environment().spread_over, swarm.environment().upkeep.manager_patience_secs),
            (None, 0)
        );
    }

    #[tokio::test]
    async fn what_is_only_about_keys_is_brought_about_at_once_and_the_rest_before_them() {
        let swarm = Swarm::of(3, 0).await;
        let keys = swarm_keys::Change { autolock: Some(true), ..Default::default() };
        let only_keys = Change { keys: keys.clone(), ..Change::default() };
        assert_eq!(updated(&swarm, &only_keys).await.expect("is begun").workflow, workflow::UPDATE_SWARM);
        let all = Change { rebalance: Some(true), ..only_keys };
        let begun = updated(&swarm, &all).await.expect("is begun");
        assert_eq!(begun.workflow, workflow::UPDATE_ENVIRONMENT);
        assert_eq!(swarm.environment().keys.generation, 2, "a planner sees to it");
        let begun = updated(&swarm, &Change::default()).await.expect("is begun");
        assert_eq!(
            (begun.workflow.as_str(), swarm.environment().keys.generation),
            (workflow::UPDATE_ENVIRONMENT, 2)
        );
    }

    #[tokio::test]
    async fn nothing_is_wished_anew_for_an_environment_that_rests() {
        let swarm = Swarm::of(1, 0).await;
        swarm.change(|tx| pause(tx, "prod", id()).map(drop)).await;
        let before = swarm.environment();
        let five = Change { swarm_managers: Some(5), ..Change::default() };
        let refused = updated(&swarm, &five).await.expect_err("rests");
        assert_eq!((refused.code().number(), swarm.environment()), ("SKP-1351", before));
        swarm.change(|tx| resume(tx, "prod", id()).map(drop)).await;
        updated(&swarm, &five).await.expect("is at work again");
    }
}
