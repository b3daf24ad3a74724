//! Logins to registries, as services take them: the swarm keeps them with the service, and hands them to every node that
//! runs a task.

use std::collections::BTreeMap;

use bollard::auth::DockerCredentials;
use bollard::models::Service;
use bollard::query_parameters::UpdateServiceOptions;
use jiff::Timestamp;
use skep_ledger::{Stored, View};
use skep_model::fact::Fact;
use skep_model::registry::{RegistryLogin, logins_of, password_words, server_of};
use skep_model::stack::Stack;
use skep_sealing::SealingKey;

use super::reached::Reached;
use super::{Site, seen, stack};
use crate::world::EffectError;

/// How the Docker Hub calls itself when one logs in there.
const DOCKER_HUB: (&str, &str) = ("docker.io", "https://index.docker.io/v1/");

/// The logins that a stack's services should have.
pub(super) struct Logins {
    logins: Vec<Stored<RegistryLogin>>,
    credentials: BTreeMap<String, DockerCredentials>,
}

impl Logins {
    /// Those of the environment, opened as far as the stack needs them.
    pub(super) fn of(view: &View, stack: &Stack, sealing: &SealingKey) -> Result<Logins, EffectError> {
        let logins = view.list::<RegistryLogin>(stack.environment.as_str()).map_err(EffectError::passing)?;
        let used = logins_of(stack, &logins);
        let mut credentials = BTreeMap::new();
        for login in logins.iter().filter(|login| used.contains_key(&login.server)) {
            let words = password_words(&login.environment, &login.server);
            let password = sealing.open(&words, login.password.envelope()).map_err(|error| {
                EffectError::lasting(format!("opening the password for {}: {error}", login.server))
            })?;
            let server = if login.server == DOCKER_HUB.0 { DOCKER_HUB.1 } else { &login.server };
            let login = DockerCredentials {
                username: Some(login.user.clone()),
                password: Some(password.reveal().to_owned()),
                serveraddress: Some(server.to_owned()),
                ..DockerCredentials::default()
            };
            credentials.insert(login_server(server).to_owned(), login);
        }
        Ok(Logins { logins, credentials })
    }

    /// Which of each the stack's services have once they were given these.
    pub(super) fn given(&self, stack: &Stack) -> Fact {
        let given = logins_of(stack, &self.logins);
        Fact::StackLoginsGiven(stack.environment.clone(), stack.name.clone(), given)
    }

    /// What a service with this image is given. After a logout an empty login takes the place of the one before, which the
    /// swarm would keep otherwise.
    pub(super) fn for_image(&self, stack: &Stack, image: &str) -> Option<DockerCredentials> {
        let server = server_of(image);
        let had = || stack.logins.contains_key(server).then(DockerCredentials::default);
        self.credentials.get(server).cloned().or_else(had)
    }

    /// Has a service with this image been given another login, or none?
    pub(super) fn differ(&self, stack: &Stack, image: &str) -> bool {
        let server = server_of(image);
        let wanted: Option<Timestamp> = logins_of(stack, &self.logins).get(server).copied();
        stack.logins.get(server).copied() != wanted
    }
}

fn login_server(server: &str) -> &str {
    if server == DOCKER_HUB.1 { DOCKER_HUB.0 } else { server }
}

/// Brings logins to services that have others. Their tasks go on running: for Docker a task that has its image does not
/// depend on how it was pulled.
pub(super) async fn give(
    site: &Site,
    view: &View,
    stack: &Stack,
    sealing: &SealingKey,
) -> Result<Vec<Fact>, EffectError> {
    let logins = Logins::of(view, stack, sealing)?;
    let manager = site.manager(None)?;
    let existing = stack::services(&manager, stack).await?;
    for service in &stack.recipe.services {
        let name = service.swarm_name(stack.name.as_str());
        let found = existing.iter().find(|existing| seen::name(existing) == name);
        if let Some(found) = found.filter(|_| logins.differ(stack, &service.image)) {
            give_one(&manager, found, logins.for_image(stack, &service.image)).await?;
        }
    }
    Ok(vec![logins.given(stack)])
}

/// The service stays as the swarm has it.
async fn give_one(
    manager: &Reached,
    found: &Service,
    login: Option<DockerCredentials>,
) -> Result<(), EffectError> {
    let name = seen::name(found).to_owned();
    let options = UpdateServiceOptions { version: stack::version(found)?, ..UpdateServiceOptions::default() };
    let spec = found.spec.clone().unwrap_or_default();
    let updated = manager.update_service(found.id.as_deref().unwrap_or_default(), spec, options, login).await;
    updated.map(drop).map_err(manager.failed(&format!("giving service {name} the login to its registry")))
}
