//! What helps against each refusal.

use super::Refusal;

impl Refusal {
    /// What to do about it, as far as that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Refusal::NameTaken { .. } => Some("choose another name, or remove the other first".into()),
            Refusal::NotFound { what, .. } => Some(match *what {
                "manager" => "see what there is: skep cluster members".into(),
                "join token" => "see what there is: skep cluster join-tokens".into(),
                "registration token" => "see what there is: skep host registration-tokens".into(),
                "API key" => "see what there is: skep token ls".into(),
                "session" => "see what there is: skep token ls".into(),
                "device code" => "it ends after ten minutes; begin again with: skep login URL --device".into(),
                "member" => "see who there is: skep env members".into(),
                what => format!("see what there is: skep {} ls", what.replace("environment", "env")),
            }),
            Refusal::NotAnOrphan { .. } => Some("remove its host instead: skep host rm NAME -e ENVIRONMENT".into()),
            Refusal::NoDriver { host, environment } => Some(format!(
                "set a machine up yourself and register it (skep host register -e {environment}), then remove this one: \
                 skep host rm {host} -e {environment}; the same machine is removed first"
            )),
            Refusal::CannotBeSpared { .. } => {
                Some("see how the hosts are: skep host ls; or add one first: skep host create NAME --driver DRIVER".into())
            }
            Refusal::RoleWithoutEffect { .. } => Some("let one of them go first: skep host demote NAME".into()),
            Refusal::NodeOfASwarm { .. } => Some(
                "take its swarm over as it is: skep host register --adopt; or take the machine out of it first, on the \
                 machine: docker swarm leave"
                    .into(),
            ),
            Refusal::NothingToAdopt { .. } => {
                Some("begin with one of the swarm's managers; a machine without a swarm registers without --adopt".into())
            }
            Refusal::AnotherSwarm { .. } => Some(
                "make an environment for it: skep env create NAME -t TEMPLATE; then: skep host register -e NAME --adopt"
                    .into(),
            ),
            Refusal::BeingRemoved { .. } => Some("wait until it is gone: skep op ls".into()),
            Refusal::EnvironmentPaused { environment } => {
                Some(format!("let it be at work again: skep env resume {environment}"))
            }
            Refusal::EngineIsNewer { has, .. } => {
                Some(format!("name a version that is at least as new (--to {has}), or replace the host"))
            }
            Refusal::NoHosts { environment } => {
                Some(format!("add one: skep host create host-1 --driver local -e {environment}"))
            }
            Refusal::HostPortTaken { .. } => Some("publish another port, or remove the other stack".into()),
            Refusal::OperationInProgress { operation, .. } | Refusal::QueueFull { operation, .. } => Some(
                format!("wait for it: skep op watch {operation}; or give it up: skep op cancel {operation}"),
            ),
            Refusal::JoinTokenUseless => {
                Some("make a new one on a manager of the cluster: skep cluster join-command".into())
            }
            Refusal::RegistrationTokenUseless => {
                Some("make a new one: skep host register -e ENVIRONMENT".into())
            }
            Refusal::AddressTaken { host, .. } => Some(format!(
                "name another address of the machine (--address IP|INTERFACE); if it is the same machine, set up anew, \
                 remove the old host first: skep host rm {host}"
            )),
            Refusal::ManagerRemoved { .. } => {
                Some("it can join again on an empty data folder: skep cluster join-command".into())
            }
            Refusal::InvalidRecipe { .. } => Some("docs/reference/recipe.md lists what is understood".into()),
            Refusal::InvalidTemplate { .. } => {
                Some("docs/reference/template.md lists what is understood; skep template export default shows a whole one".into())
            }
            Refusal::NoNfs { environment } => {
                Some(format!("name one: skep env update {environment} --nfs server=…,path=…"))
            }
            Refusal::BuiltIn { name, .. } => {
                Some(format!("export it, give it another name, import that: skep template export {name}"))
            }
            Refusal::PreconditionRequired { .. } => {
                Some("look at it, and send its ETag as If-Match; If-None-Match: * makes it only if it is new".into())
            }
            Refusal::PreconditionFailed { .. } => Some("look at it again, then decide anew".into()),
            Refusal::Outdated { .. } => Some("look at it again, then decide anew".into()),
            _ => self.hint_about_people().or_else(|| self.hint_about_a_swarm()),
        }
    }

    fn hint_about_people(&self) -> Option<String> {
        match self {
            Refusal::BeyondOwn { .. } => {
                Some("ask somebody who may, or give a role with less in it: skep role ls".into())
            }
            Refusal::LastAdministrator => {
                Some("make somebody else an administrator first: skep user create NAME --admin".into())
            }
            Refusal::SetupDone => Some("sign in: skep login URL --user NAME".into()),
            Refusal::SetupCodeWrong => Some(
                "each manager that founded the cluster prints it when it starts, and has it in the file setup-code of its \
                 data folder"
                    .into(),
            ),
            Refusal::AuthorizationPending => {
                Some("on a machine that is signed in: skep login approve CODE".into())
            }
            Refusal::DeviceCodeUseless | Refusal::AccessDenied => {
                Some("begin again: skep login URL --device".into())
            }
            _ => None,
        }
    }

    fn hint_about_a_swarm(&self) -> Option<String> {
        match self {
            Refusal::NoSwarm { environment } => {
                Some(format!("wait until its first host is ready: skep host ls -e {environment}"))
            }
            Refusal::NotAutolocked { environment } => Some(format!(
                "lock them: skep env update {environment} --autolock on; if somebody has locked them by other means, give \
                 the key: skep env unlock {environment} --key-file FILE"
            )),
            Refusal::NothingLocked { environment } => {
                Some(format!("see what its hosts lack: skep host ls -e {environment}"))
            }
            Refusal::HasQuorum { environment, .. } => {
                Some(format!("see what its hosts lack: skep host ls -e {environment}"))
            }
            Refusal::SwarmIsThere { environment, managers } => Some(format!(
                "if they have lost their quorum, they know more than any backup: skep env rescue {environment} --from {}; to \
                 go back to the backup all the same: --replace",
                managers.first().map_or("HOST", String::as_str)
            )),
            Refusal::SwarmIsLocked { environment } => Some(format!(
                "the backup is encrypted by itself: unlock the managers for it, and lock them again afterwards: skep env update \
                 {environment} --autolock off"
            )),
            Refusal::CannotRestore { .. } => {
                Some("name a host that is ready; a new one, if need be: skep host create".into())
            }
            Refusal::CannotRescue { candidates, .. } if candidates.is_empty() => {
                Some("start the machine of one of the swarm's managers first".into())
            }
            Refusal::CannotRescue { candidates, .. } => Some(format!("these can: {}", candidates.join(", "))),
            _ => None,
        }
    }
}
