//! NFS servers of environments: how the API shows them, and whether hosts can use one before it is accepted.

use serde::{Deserialize, Serialize};
use skep_hub::{AskError, NfsCheck, NfsFound, NfsReach};
use skep_model::environment;
use skep_model::host::Host;
use skep_model::nfs::{Nfs, NfsSeen, Reach};
use utoipa::ToSchema;

use crate::Api;
use crate::problem::{Code, Problem, Reply};

/// Where volumes of driver `nfs` lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NfsServer {
    /// The server's name or address.
    server: String,
    /// What it exports; each volume is a folder in there.
    path: String,
    /// Options of the mount, as `mount -o` takes them; empty: the kernel's own.
    #[serde(default)]
    options: String,
}

/// What a host can do with its environment's NFS server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostNfs {
    /// The server that was tried.
    server: NfsServer,
    /// `works`, `not_writable`, `not_mounted`, `no_client` (the kernel has none) or `unreachable`.
    reach: &'static str,
    /// What stands in the way, in words.
    message: String,
}

impl From<NfsServer> for Nfs {
    fn from(NfsServer { server, path, options }: NfsServer) -> Nfs {
        Nfs { server, path, options }
    }
}

impl From<&Nfs> for NfsServer {
    fn from(Nfs { server, path, options }: &Nfs) -> NfsServer {
        NfsServer { server: server.clone(), path: path.clone(), options: options.clone() }
    }
}

impl From<&NfsSeen> for HostNfs {
    fn from(seen: &NfsSeen) -> HostNfs {
        HostNfs {
            server: NfsServer::from(&seen.nfs),
            reach: match seen.reach {
                Reach::Works => "works",
                Reach::NotWritable => "not_writable",
                Reach::NotMounted => "not_mounted",
                Reach::NoClient => "no_client",
                Reach::Unreachable => "unreachable",
            },
            message: seen.trouble().unwrap_or_default(),
        }
    }
}

/// Has every connected host of the environment mount the server; refuses with the name of each that cannot.
pub(crate) async fn usable(api: &Api, reference: &str, nfs: &Nfs) -> Reply<()> {
    nfs.check()?;
    let view = api.ledger().fresh_view().await?;
    let environment = environment::find(&view, reference)?;
    let mut hosts = view.list::<Host>(environment.id.as_str())?;
    hosts.retain(|host| host.agent.connected && host.removal.is_none());
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let check = NfsCheck {
        server: nfs.server.clone(),
        path: nfs.path.clone(),
        options: nfs.options.clone(),
        folders: vec![],
    };
    let ids: Vec<&str> = hosts.iter().map(|host| host.id.as_str()).collect();
    let answers = api.parts.hub.check_nfs(&ids, &check).await;
    let pairs = hosts.iter().zip(answers);
    let troubles: Vec<String> =
        pairs.filter_map(|(host, answer)| Some(format!("on {} {}", host.name, trouble(answer)?))).collect();
    match troubles.is_empty() {
        true => Ok(()),
        false => {
            let detail = format!("NFS server {nfs} cannot be used: {}", troubles.join("; "));
            Err(Problem::new(Code::NfsUnusable, detail).hinting(
                "let the hosts reach the server at 2049/tcp and write what it exports, then ask again",
            ))
        }
    }
}

fn trouble(answer: Result<NfsFound, AskError>) -> Option<String> {
    let found = match answer {
        Ok(found) => found,
        Err(error) => return Some(format!("it was not tried: {error}")),
    };
    let what = match found.reach {
        NfsReach::Works => return None,
        NfsReach::NotWritable => Reach::NotWritable,
        NfsReach::NotMounted => Reach::NotMounted,
        NfsReach::NoClient => Reach::NoClient,
        NfsReach::Unreachable => Reach::Unreachable,
    };
    Some(if found.why.is_empty() { what.to_string() } else { format!("{what}: {}", found.why) })
}
