//! An engine that is spoken to, and whose it is: so that whatever goes wrong names the host and says what to do.

use std::ops::Deref;

use bollard::Docker;
use bollard::errors::Error as DockerError;
use skep_hub::{Hub, HubError, hub_error};
use skep_ledger::Term;
use skep_model::host::Host;
use skep_model::ids::HostId;
use skep_model::name::Name;

use crate::world::EffectError;

/// A client for one host's engine.
pub(super) struct Reached {
    docker: Docker,
    hub: Hub,
    id: HostId,
    term: Term,
    host: Name,
}

impl Deref for Reached {
    type Target = Docker;
    fn deref(&self) -> &Docker {
        &self.docker
    }
}

impl Reached {
    pub(super) fn new(hub: &Hub, host: &Host, term: Term) -> Reached {
        Reached {
            docker: hub.docker(host.id.as_str(), Some(term)),
            hub: hub.clone(),
            id: host.id.clone(),
            term,
            host: host.name.clone(),
        }
    }

    /// Asks for something that the client does not know.
    pub(super) async fn call(&self, path: &str, body: Option<Vec<u8>>) -> Result<Vec<u8>, DockerError> {
        self.hub.call(self.id.as_str(), Some(self.term), path, body).await
    }

    /// A failed call to the engine, as an effect tells it. What the engine finds wrong with the request itself would
    /// be as wrong the next time.
    pub(super) fn failed(&self, doing: &str) -> impl FnOnce(DockerError) -> EffectError + use<> {
        let (doing, host) = (doing.to_owned(), self.host.clone());
        move |error| told(&doing, &host, &error)
    }
}

fn told(doing: &str, host: &Name, error: &DockerError) -> EffectError {
    if let Some(error) = hub_error(error) {
        return EffectError::passing(format!("{doing}: {}", unreached(host, error)));
    }
    match error {
        DockerError::DockerResponseServerError { status_code: 400, message } => {
            EffectError::lasting(format!("{doing}: {message}"))
        }
        DockerError::DockerResponseServerError { message, .. } if has_no_leader(message) => {
            EffectError::passing(format!(
                "{doing}: the engine of {host} says that the swarm has no leader: too few of its managers are there. \
                 Bring the missing hosts back (see: skep host ls)"
            ))
        }
        DockerError::DockerResponseServerError { message, .. } => {
            EffectError::passing(format!("{doing}: the engine of {host} says: {message}"))
        }
        DockerError::RequestTimeoutError => EffectError::passing(format!(
            "{doing}: the engine of {host} has taken the request and does not answer. If that lasts, on the host: \
             systemctl restart docker"
        )),
        error => EffectError::passing(format!(
            "{doing}: the connection to the engine of {host} broke: {error}. It is tried again; see: skep host ls"
        )),
    }
}

fn unreached(host: &Name, error: &HubError) -> String {
    match error {
        HubError::NoAgent { .. } => format!(
            "the engine of {host} cannot be reached: its agent is connected to no manager. See: skep host inspect {host}"
        ),
        HubError::Engine { message, .. } => format!(
            "the engine of {host} does not answer its agent: {message}. On the host: systemctl status docker"
        ),
        HubError::Link { reason, .. } => {
            format!(
                "the link to the agent of {host} broke: {reason}. It is tried again; see: skep host inspect {host}"
            )
        }
        HubError::StaleTerm { .. } => format!("{host} obeys a newer leader: {error}"),
    }
}

/// Is that how an engine says that its swarm cannot agree on anything? Docker has no code for it.
pub(super) fn has_no_leader(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "does not have a leader",
        "has trouble connecting to the cluster",
        "deadlineexceeded",
        "deadline exceeded",
    ]
    .iter()
    .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn message(error: DockerError) -> EffectError {
        told("listing tasks", &Name::parse("a host", "web-1").expect("a name"), &error)
    }

    fn from_hub(error: HubError) -> DockerError {
        DockerError::IOError { err: io::Error::other(error) }
    }

    #[test]
    fn whatever_cannot_be_reached_is_named_by_its_name_and_with_a_way_out() {
        let host = || "host_0198".to_owned();
        let errors = [
            from_hub(HubError::NoAgent { host: host() }),
            from_hub(HubError::Engine { host: host(), message: "no socket".into() }),
            from_hub(HubError::Link { host: host(), reason: "reset".into() }),
            DockerError::RequestTimeoutError,
            DockerError::IOError { err: io::ErrorKind::BrokenPipe.into() },
        ];
        for error in errors {
            let EffectError { message, retryable, .. } = message(error);
            assert!(retryable, "{message}");
            assert!(message.starts_with("listing tasks: ") && message.contains("web-1"), "{message}");
            assert!(message.contains("skep host") || message.contains("systemctl"), "{message}");
            assert!(!message.contains("host_0198"), "an id says nothing to people: {message}");
        }
    }

    #[test]
    fn a_swarm_without_a_leader_is_recognised_and_a_wrong_request_is_not_repeated() {
        let answer = |status_code, message: &str| DockerError::DockerResponseServerError {
            status_code,
            message: message.into(),
        };
        let lost = "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few \
                    managers are online. Make sure more than half of the managers are online.";
        let error = message(answer(503, lost));
        assert!(error.retryable && error.message.contains("the swarm has no leader"), "{error}");
        assert!(!message(answer(400, "invalid reference format")).retryable);
    }
}
