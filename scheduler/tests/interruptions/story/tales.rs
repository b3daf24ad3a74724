//! What is told: the chapters of each tale.

use jiff::SignedDuration;
use skep_ledger::{Ledger, Tx};
use skep_model::environment;
use skep_model::host::renewal::Successor;
use skep_model::host::{self, Host};
use skep_model::ids::{HostId, OperationId};
use skep_model::nfs::Nfs;
use skep_model::placement::{self, Availability, Change};
use skep_model::registry::{self, LoginWish};
use skep_model::sealed::Sealed;
use skep_model::stack;
use skep_model::swarm_keys::{self, SwarmKey};
use skep_model::swarm_state::{self, RestoreWish};
use skep_model::{Refusal, upgrade};

use super::{Interruption, Story};

/// When even what was given up for a while is taken up again.
const LONG_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// How long a swarm manager is down before it is replaced, where nothing else is wished.
const PATIENCE_SECS: i64 = 300;

/// How long a host has to be there before tasks are moved to it.
const JOINED_PAUSE_SECS: i64 = 30;

/// What one story is about. All begin with an environment of three hosts and end without it.
///
/// They are several because every one is told anew for each of its effects and faults: what a story costs grows with the
/// square of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tale {
    /// What runs in the swarm, and what its hosts look like to it.
    Services,
    /// Keys, rest and other engines.
    Upkeep,
    /// Managers of the swarm that are lost.
    Managers,
    /// Hosts that go, come anew or are replaced.
    Machines,
}

impl Tale {
    pub(crate) const ALL: [Tale; 4] = [Tale::Services, Tale::Upkeep, Tale::Managers, Tale::Machines];
}

/// A service with a volume on the environment's NFS server.
fn recipe_on_nfs(version: u8) -> String {
    let volumes = "volumes:\n  data: {driver: nfs}\n";
    format!("{}    volumes: ['data:/data']\n{volumes}", recipe(version))
}

fn recipe(version: u8) -> String {
    format!("services:\n  web:\n    image: busybox:{version}\n    deploy: {{replicas: 3}}\n")
}

impl Story {
    pub(super) async fn all_chapters(&mut self) {
        let (wish, last) = self.environment_wish("prod", 3);
        self.chapter("an environment with three hosts", |tx| environment::wish(tx, &wish).map(drop)).await;
        if matches!(self.interruption, Interruption::NoAgents) {
            return;
        }
        match self.tale {
            Tale::Services => self.chapters_about_services().await,
            Tale::Upkeep => self.chapters_about_upkeep().await,
            Tale::Managers => self.chapters_about_managers().await,
            Tale::Machines => self.chapters_about_machines(&last).await,
        }
        let removal = OperationId::new(self.mint());
        self.chapter("the environment removed", |tx| {
            environment::remove(tx, "prod", removal.clone()).map(drop)
        })
        .await;
        if self.is_cancelled() {
            let removal = OperationId::new(self.mint());
            self.chapter("the environment removed after all", |tx| {
                environment::remove(tx, "prod", removal.clone()).map(drop)
            })
            .await;
        }
        if self.tale == Tale::Machines {
            self.a_driver_that_is_away().await;
        }
    }

    async fn chapters_about_services(&mut self) {
        let update = OperationId::new(self.mint());
        self.chapter("the environment changed", |tx| {
            let nfs = Nfs { server: "files".into(), path: "/export".into(), options: String::new() };
            let change = environment::Change {
                mtu: Some(Some(1_400)),
                nfs: Some(Some(nfs)),
                ..environment::Change::default()
            };
            environment::update(tx, "prod", &change, update.clone()).map(drop)
        })
        .await;
        let first = self.stack_wish(recipe_on_nfs(1));
        self.chapter("a stack", |tx| stack::deploy(tx, "prod", &first).map(drop)).await;
        let second = self.stack_wish(recipe_on_nfs(2));
        self.chapter("the stack changed", |tx| stack::deploy(tx, "prod", &second).map(drop)).await;
        let login = LoginWish {
            server: "docker.io".into(),
            user: "ann".into(),
            password: Sealed::new(vec![1]),
            checked: false,
        };
        self.chapter("logged in to a registry", |tx| {
            let environment = environment::usable(tx, "prod")?;
            registry::login(tx, &environment, &login).map(drop)
        })
        .await;
        let (evacuation, labels) = (OperationId::new(self.mint()), OperationId::new(self.mint()));
        self.chapter("a host labelled and evacuated", |tx| {
            let environment = environment::usable(tx, "prod")?;
            let rack = Change::Labels([("rack".to_owned(), Some("b".to_owned()))].into());
            placement::wish(tx, &environment, "prod-1", &rack, labels.clone())?;
            let drain = Change::Availability(Availability::Drain);
            placement::wish(tx, &environment, "prod-1", &drain, evacuation.clone()).map(drop)
        })
        .await;
        let back = OperationId::new(self.mint());
        self.chapter("the host takes tasks again", |tx| {
            let environment = environment::usable(tx, "prod")?;
            let active = Change::Availability(Availability::Active);
            placement::wish(tx, &environment, "prod-1", &active, back.clone()).map(drop)
        })
        .await;
        let check = OperationId::new(self.mint());
        self.chapter("a host checked", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::check(tx, &environment, "prod-1", None, check.clone(), "ann").map(drop)
        })
        .await;
        self.address_changes("prod-1", "10.90.0.77").await;
        self.chapter("a machine has another address", |_| Ok(())).await;
        let removal = OperationId::new(self.mint());
        self.chapter("the stack removed", |tx| stack::remove(tx, "prod", "shop", removal.clone()).map(drop))
            .await;
    }

    async fn chapters_about_upkeep(&mut self) {
        self.chapters_about_keys().await;
        let pause = OperationId::new(self.mint());
        self.chapter("the environment rests", |tx| environment::pause(tx, "prod", pause.clone()).map(drop))
            .await;
        let resume = OperationId::new(self.mint());
        self.chapter("the environment is at work again", |tx| {
            environment::resume(tx, "prod", resume.clone()).map(drop)
        })
        .await;
        let upgrade = OperationId::new(self.mint());
        self.chapter("other engines", |tx| {
            upgrade::of_environment(tx, "prod", Some("29.1.2"), upgrade.clone()).map(drop)
        })
        .await;
    }

    async fn chapters_about_managers(&mut self) {
        let stack = self.stack_wish(recipe(1));
        self.chapter("a stack", |tx| stack::deploy(tx, "prod", &stack).map(drop)).await;
        self.engines(Err("connection refused".into())).await;
        let rescue = OperationId::new(self.mint());
        self.chapter("the swarm rescued", |tx| {
            environment::rescue(tx, "prod", "prod-2", rescue.clone()).map(drop)
        })
        .await;
        self.engines(Ok(())).await;
        self.chapter("the lost managers are back", |_| Ok(())).await;
        let restore = OperationId::new(self.mint());
        let wish = RestoreWish { environment: "prod", to: "prod-2", replace: true };
        self.chapter("the swarm restored from a backup", |tx| {
            swarm_state::restore(tx, &wish, restore.clone()).map(drop)
        })
        .await;
        self.a_manager_is_lost_for_long().await;
    }

    async fn chapters_about_machines(&mut self, last: &HostId) {
        let renewal = OperationId::new(self.mint());
        self.chapter("a host's machine made anew", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::renewal::reprovision(tx, &environment, "prod-2", renewal.clone()).map(drop)
        })
        .await;
        self.a_spare_host().await;
        let removal = OperationId::new(self.mint());
        self.chapter("a host removed", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::remove(tx, &environment, last.as_str(), removal.clone(), None).map(drop)
        })
        .await;
        let successor = Successor {
            host: HostId::new(self.mint()),
            creation: OperationId::new(self.mint()),
            name: Some("prod-5".into()),
        };
        let replacement = OperationId::new(self.mint());
        self.chapter("a host replaced", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::renewal::replace(tx, &environment, "prod-1", &successor, replacement.clone()).map(drop)
        })
        .await;
        let removal = OperationId::new(self.mint());
        self.chapter("a host removed, its machine stays", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::let_go(tx, &environment, "prod-5", removal.clone()).map(drop)
        })
        .await;
    }

    async fn a_spare_host(&mut self) {
        let spare = self.host_wish("prod-4");
        self.chapter("a spare host", |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::wish(tx, &environment, &spare, None).map(drop)
        })
        .await;
    }

    /// An environment goes without its machine, and the machine goes later.
    async fn a_driver_that_is_away(&mut self) {
        let (wish, _) = self.environment_wish("lab", 1);
        self.chapter("another environment", |tx| environment::wish(tx, &wish).map(drop)).await;
        self.world.driver_is_away(true);
        for chapter in ["it is removed while the driver is away", "it is removed all the same"] {
            let removal = OperationId::new(self.mint());
            let wished = |tx: &mut Tx<'_>| match environment::remove(tx, "lab", removal.clone()) {
                Err(Refusal::NotFound { .. }) => Ok(()),
                other => other.map(drop),
            };
            self.chapter(chapter, wished).await;
        }
        self.world.driver_is_away(false);
        self.ledger.set_now(self.ledger.now() + LONG_AFTER);
        self.chapter("the driver is back", |_| Ok(())).await;
    }

    /// Nobody asks for anything: another host takes its place, and it comes back as a worker.
    async fn a_manager_is_lost_for_long(&mut self) {
        let (spread, stay) = (OperationId::new(self.mint()), OperationId::new(self.mint()));
        self.chapter("tasks are to be spread", |tx| {
            let rebalance = environment::Change { rebalance: Some(true), ..Default::default() };
            environment::update(tx, "prod", &rebalance, spread.clone()).map(drop)
        })
        .await;
        self.wait(1);
        self.a_spare_host().await;
        self.wait(JOINED_PAUSE_SECS);
        self.chapter("the spare host gets its share of the tasks", |_| Ok(())).await;
        self.chapter("and tasks stay from then on", |tx| {
            let change = environment::Change { rebalance: Some(false), ..Default::default() };
            environment::update(tx, "prod", &change, stay.clone()).map(drop)
        })
        .await;
        self.engine_of("prod-1", Err("connection refused".into())).await;
        self.wait(PATIENCE_SECS);
        self.chapter("a lost manager is replaced", |_| Ok(())).await;
        self.engine_of("prod-1", Ok(())).await;
        self.chapter("the lost manager is back", |_| Ok(())).await;
    }

    /// Nothing happens for a while.
    fn wait(&self, secs: i64) {
        self.ledger.set_now(self.ledger.now() + SignedDuration::from_secs(secs));
    }

    async fn chapters_about_keys(&mut self) {
        let keys = swarm_keys::Change { autolock: Some(true), ..Default::default() };
        let (change, id) = (environment::Change { keys, ..Default::default() }, self.mint());
        self.chapter("the swarm locked", |tx| {
            environment::update(tx, "prod", &change, OperationId::new(id)).map(drop)
        })
        .await;
        for (chapter, key) in [
            ("the join tokens rotated", SwarmKey::JoinTokens),
            ("the authority rotated", SwarmKey::Authority),
            ("the unlock key rotated", SwarmKey::UnlockKey),
        ] {
            let id = OperationId::new(self.mint());
            self.chapter(chapter, |tx| swarm_keys::rotate(tx, "prod", key, id.clone()).map(drop)).await;
        }
        self.chapter("engines of locked managers start", |tx| {
            let environment = environment::usable(tx, "prod")?;
            for host in tx.list::<Host>(environment.id.as_str())?.into_iter().take(2) {
                tx.put(&Host { swarm_locked: true, ..host.record });
            }
            Ok(())
        })
        .await;
    }
}
