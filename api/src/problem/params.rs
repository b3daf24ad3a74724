//! What varies in the sentence of a refusal, by name, for programs.

use serde_json::{Value, json};
use skep_model::Refusal;

pub(super) fn params(refusal: &Refusal) -> Vec<(&'static str, Value)> {
    match refusal {
        Refusal::InvalidName { what, name } => vec![("what", json!(what)), ("name", json!(name))],
        Refusal::InvalidValue { what, value, allowed } => {
            vec![("what", json!(what)), ("value", json!(value)), ("allowed", json!(allowed))]
        }
        Refusal::NameTaken { what, name, scope } | Refusal::NotFound { what, name, scope } => {
            let scope = scope.iter().map(|scope| ("environment", json!(scope)));
            [("what", json!(what)), ("name", json!(name))].into_iter().chain(scope).collect()
        }
        Refusal::BeingRemoved { what, name } => vec![("what", json!(what)), ("name", json!(name))],
        Refusal::HasQuorum { .. }
        | Refusal::SwarmIsThere { .. }
        | Refusal::SwarmIsLocked { .. }
        | Refusal::CannotRestore { .. }
        | Refusal::CannotRescue { .. } => of_a_swarm(refusal),
        Refusal::EngineIsNewer { host, has, wished } => {
            vec![("host", json!(host)), ("has", json!(has)), ("wished", json!(wished))]
        }
        Refusal::EnvironmentPaused { environment } => vec![("environment", json!(environment))],
        Refusal::HostsUnfit { environment, reasons } => {
            vec![("environment", json!(environment)), ("reasons", json!(reasons))]
        }
        Refusal::BuiltIn { name, cannot } => vec![("name", json!(name)), ("cannot", json!(cannot))],
        Refusal::Outdated { what, expected, revision } => {
            vec![("what", json!(what)), ("expected", json!(expected)), ("revision", json!(revision))]
        }
        Refusal::NoHosts { environment }
        | Refusal::NoNfs { environment }
        | Refusal::NoSwarm { environment }
        | Refusal::NotAutolocked { environment }
        | Refusal::NothingLocked { environment } => vec![("environment", json!(environment))],
        Refusal::HostPortTaken { port, by } => vec![("port", json!(port)), ("by", json!(by))],
        Refusal::TooMany { what, limit } => vec![("what", json!(what)), ("limit", json!(limit))],
        Refusal::OperationInProgress { subject, operation } => {
            vec![("subject", json!(subject)), ("operation", json!(operation))]
        }
        Refusal::WrongState { what, cannot, state, why } => {
            texts([("what", what), ("cannot", cannot), ("state", state), ("why", why)])
        }
        Refusal::QueueFull { subject, limit, operation } => {
            vec![("subject", json!(subject)), ("limit", json!(limit)), ("operation", json!(operation))]
        }
        Refusal::NotAnOrphan { machine, .. } => vec![("machine", json!(machine))],
        Refusal::BeyondOwn { role, permission } => texts([("role", role), ("permission", permission)]),
        Refusal::PreconditionFailed { what, revision } => {
            vec![("what", json!(what)), ("revision", json!(revision))]
        }
        Refusal::PreconditionRequired { what, name } => texts([("what", what), ("name", name)]),
        Refusal::InUse { what, name, by } => texts([("what", what), ("name", name), ("by", by)]),
        Refusal::NoDriver { host, environment } => texts([("host", host), ("environment", environment)]),
        Refusal::CannotBeSpared { host, why } | Refusal::RoleWithoutEffect { host, why } => {
            texts([("host", host), ("why", why)])
        }
        Refusal::NodeOfASwarm { name } => vec![("name", json!(name))],
        Refusal::NothingToAdopt { name, why } => vec![("name", json!(name)), ("why", json!(why))],
        Refusal::AnotherSwarm { environment, name, why } => {
            vec![("environment", json!(environment)), ("name", json!(name)), ("why", json!(why))]
        }
        Refusal::ManagerRemoved { number } => vec![("number", json!(number))],
        Refusal::AddressTaken { address, host } => texts([("address", address), ("host", host)]),
        Refusal::LastAdministrator
        | Refusal::SetupDone
        | Refusal::SetupCodeWrong
        | Refusal::AuthorizationPending
        | Refusal::DeviceCodeUseless
        | Refusal::AccessDenied
        | Refusal::JoinTokenUseless
        | Refusal::RegistrationTokenUseless
        | Refusal::InvalidRecipe { .. }
        | Refusal::InvalidTemplate { .. }
        | Refusal::Driver { .. }
        | Refusal::Read(_) => vec![],
    }
}

/// Of a swarm that cannot be begun anew.
fn of_a_swarm(refusal: &Refusal) -> Vec<(&'static str, Value)> {
    match refusal {
        Refusal::HasQuorum { environment, reachable, managers } => {
            vec![
                ("environment", json!(environment)),
                ("reachable", json!(reachable)),
                ("managers", json!(managers)),
            ]
        }
        Refusal::SwarmIsThere { environment, managers } => {
            vec![("environment", json!(environment)), ("managers", json!(managers))]
        }
        Refusal::SwarmIsLocked { environment } => vec![("environment", json!(environment))],
        Refusal::CannotRestore { host, .. } => vec![("host", json!(host))],
        Refusal::CannotRescue { host, candidates, .. } => {
            vec![("host", json!(host)), ("candidates", json!(candidates))]
        }
        _ => vec![],
    }
}

fn texts<const N: usize>(params: [(&'static str, &str); N]) -> Vec<(&'static str, Value)> {
    params.map(|(name, value)| (name, json!(value))).into()
}
