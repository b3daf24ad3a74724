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
        Refusal::HasQuorum { environment, reachable, managers } => {
            vec![
                ("environment", json!(environment)),
                ("reachable", json!(reachable)),
                ("managers", json!(managers)),
            ]
        }
        Refusal::CannotRescue { host, candidates, .. } => {
            vec![("host", json!(host)), ("candidates", json!(candidates))]
        }
        Refusal::NoHosts { environment } => vec![("environment", json!(environment))],
        Refusal::HostPortTaken { port, by } => vec![("port", json!(port)), ("by", json!(by))],
        Refusal::TooMany { what, limit } => vec![("what", json!(what)), ("limit", json!(limit))],
        Refusal::OperationInProgress { subject, operation } => {
            vec![("subject", json!(subject)), ("operation", json!(operation))]
        }
        Refusal::WrongState { what, cannot, state, why } => {
            let params = [("what", what.as_str()), ("cannot", *cannot), ("state", state), ("why", why)];
            params.into_iter().map(|(name, value)| (name, json!(value))).collect()
        }
        Refusal::QueueFull { subject, limit, operation } => {
            vec![("subject", json!(subject)), ("limit", json!(limit)), ("operation", json!(operation))]
        }
        Refusal::ManagerRemoved { number } => vec![("number", json!(number))],
        Refusal::AddressTaken { address, host } => {
            vec![("address", json!(address)), ("host", json!(host))]
        }
        Refusal::JoinTokenUseless
        | Refusal::RegistrationTokenUseless
        | Refusal::InvalidRecipe { .. }
        | Refusal::InvalidTemplate { .. }
        | Refusal::Driver { .. }
        | Refusal::Read(_) => vec![],
    }
}
