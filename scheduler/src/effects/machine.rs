//! Machines: asked for, given back and let go, always by the host's id as the key.

use skep_drivers::{DriverError, MachineKey, MachineWish};
use skep_model::fact::Fact;
use skep_model::host::{Host, Machine};
use skep_model::ids::{EnvironmentId, HostId};

use super::RealWorld;
use crate::world::EffectError;

impl RealWorld {
    pub(super) async fn ensure_machine(&self, host: &Host, driver: &str) -> Result<Vec<Fact>, EffectError> {
        let wish = MachineWish {
            key: self.key(&host.id),
            name: host.name.to_string(),
            options: host.options.clone(),
            join: (self.invite)(&host.id),
        };
        let machine = self.driver(driver)?.ensure(&wish).await.map_err(failed)?;
        let machine = Machine { id: machine.id, address: machine.address.to_string() };
        Ok(vec![Fact::MachineExists(host.environment.clone(), host.id.clone(), machine)])
    }

    pub(super) async fn release_machine(
        &self,
        environment: &EnvironmentId,
        host: &HostId,
        driver: &str,
    ) -> Result<Vec<Fact>, EffectError> {
        self.driver(driver)?.release(&self.key(host)).await.map_err(failed)?;
        Ok(vec![Fact::MachineGone(environment.clone(), host.clone())])
    }

    pub(super) async fn let_machine_go(
        &self,
        environment: &EnvironmentId,
        host: &HostId,
        driver: &str,
    ) -> Result<Vec<Fact>, EffectError> {
        self.driver(driver)?.forget(&self.key(host)).await.map_err(failed)?;
        Ok(vec![Fact::MachineGone(environment.clone(), host.clone())])
    }

    pub(super) fn key(&self, host: &HostId) -> MachineKey {
        MachineKey { cluster: self.cluster.clone(), host: host.to_string() }
    }
}

pub(super) fn failed(error: DriverError) -> EffectError {
    match error.retryable() {
        true => EffectError::passing(error),
        false => EffectError::lasting(error),
    }
}
