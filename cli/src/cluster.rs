//! `skep cluster`: the managers themselves.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::flags::Output;
use crate::manager;
use crate::noun::{Noun, Verbs};
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};

pub(crate) const MANAGER: Noun = Noun {
    word: "manager",
    path: &["cluster", "members"],
    name: "/name",
    columns: &[
        Column::new("NAME", Show::Text("/name")),
        Column::wide("ID", Show::Text("/id")),
        Column::new("ROLE", Show::Text("/role")),
        Column::new("STATE", Show::State("/state")),
        Column::new("APPLIED", Show::Text("/applied_index")),
        Column::new("BEHIND", Show::Text("/lag_entries")),
        Column::new("CONTACT", Show::With(contact)),
        Column::wide("LOG", Show::Text("/last_log_index")),
        Column::wide("PEER", Show::Text("/peer_address")),
        Column::wide("DRAINING", Show::Text("/draining")),
        Column::wide("CERT ENDS", Show::Text("/certificate_expires_at")),
        Column::new("MEM", Show::Bytes("/resident_bytes")),
        Column::new("VERSION", Show::Text("/version")),
        Column::new("API", Show::Free("/api_url")),
    ],
    when_none: "",
};

/// What can be done with the cluster.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show how many managers may fail, who leads, and each manager (the default)
    #[command(
        before_long_help = "Examples:\n  skep cluster status\n  skep cluster status -o json\n  skep cluster status --consistency stale",
        after_long_help = exit::help(exit::READS)
    )]
    Status,
    /// List the managers
    #[command(
        before_long_help = "Examples:\n  skep cluster members\n  skep cluster members -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Members,
    /// Print the command that makes another machine a manager
    #[command(
        before_long_help = "Examples:\n  skep cluster join-command\n  skep cluster join-command --role standby --ttl 20m",
        after_long_help = exit::help(exit::WRITES)
    )]
    JoinCommand(manager::JoinCommand),
    /// List the join tokens
    #[command(
        before_long_help = "Examples:\n  skep cluster join-tokens",
        after_long_help = exit::help(exit::READS)
    )]
    JoinTokens,
    /// Make a join token worthless
    #[command(
        before_long_help = "Examples:\n  skep cluster revoke-join-token 019aa0c1b5f37d30a1e0c2d3e4f50617",
        after_long_help = exit::help(exit::WRITES)
    )]
    RevokeJoinToken {
        /// The token's id
        id: String,
    },
    /// Let another manager lead
    #[command(
        before_long_help = "Examples:\n  skep cluster transfer-leader\n  skep cluster transfer-leader --to m2",
        after_long_help = exit::help(exit::WRITES)
    )]
    TransferLeader {
        /// Who shall lead [default: the one that is furthest]
        #[arg(long, value_name = "MANAGER")]
        to: Option<String>,
    },
    /// Let a manager serve nothing new, for instance before its machine is serviced
    #[command(
        before_long_help = "Examples:\n  skep cluster drain m2\n  skep cluster drain m2 --off",
        after_long_help = exit::help(exit::WRITES)
    )]
    Drain {
        /// The manager's name or number
        manager: String,
        /// Let it serve again
        #[arg(long)]
        off: bool,
    },
    /// Let a standby manager vote
    #[command(
        before_long_help = "Examples:\n  skep cluster promote m4",
        after_long_help = exit::help(exit::WRITES)
    )]
    Promote {
        /// The manager's name or number
        manager: String,
    },
    /// Take a manager out of the cluster, for ever
    #[command(
        before_long_help = "Examples:\n  skep cluster remove m3\n  skep cluster remove m3 --confirm m3     in scripts",
        after_long_help = exit::help(exit::WRITES)
    )]
    Remove {
        /// The manager's name or number
        manager: String,
    },
    /// Give managers new certificates, without interrupting anything
    #[command(
        before_long_help = "Examples:\n  skep cluster rotate-certificates\n  skep cluster rotate-certificates m2",
        after_long_help = exit::help(exit::WRITES)
    )]
    RotateCertificates {
        /// The manager's name or number [default: all of them]
        manager: Option<String>,
    },
    /// Show or set what the managers do by themselves
    #[command(
        before_long_help = "Examples:\n  skep cluster autopilot\n  skep cluster autopilot set --remove-dead-after 10m\n  skep cluster autopilot set --remove-dead-after off",
        after_long_help = exit::help(exit::WRITES)
    )]
    Autopilot(Verbs<manager::AutopilotVerb>),
    /// Show under which names clients know the cluster, beside the managers' own addresses
    #[command(before_long_help = "Examples:\n  skep cluster sans", after_long_help = exit::help(exit::READS))]
    Sans,
    /// Set under which names clients know the cluster, such as a load balancer's; managers need no restart
    #[command(
        long_about = "Set under which names clients know the cluster, such as a load balancer's; managers need no \
                      restart\n\nAll of them at once: what is not named any more goes. Every manager renews its certificate \
                      within seconds, and managers that join later have the names as well.",
        before_long_help = "Examples:\n  skep cluster set-sans skep.example.com\n  skep cluster set-sans skep.example.com 10.0.0.100\n  skep cluster set-sans --none",
        after_long_help = exit::help(exit::WRITES)
    )]
    SetSans {
        /// DNS names and IP addresses, without a scheme or a port
        #[arg(value_name = "NAME", required_unless_present = "none", conflicts_with = "none")]
        names: Vec<String>,
        /// Leave only the managers' own addresses
        #[arg(long)]
        none: bool,
    },
    /// On a survivor's machine: go on from it alone when the majority of the managers is lost for good
    ///
    /// Compare all survivors first and take the one with the highest term of the newest entry, and among those the
    /// highest index. See docs/how-to/the-majority-is-lost.md
    #[command(
        before_long_help = "Examples:\n  skep cluster recover --inspect                     show what this machine's manager has\n  skep cluster recover --from-this-node\n  skep cluster recover --from-this-node --confirm CLUSTER   in scripts",
        after_long_help = exit::help(&[Exit::Done, Exit::Failed, Exit::Usage, Exit::Conflict])
    )]
    Recover(Recover),
}

/// What to do with the data folder of a manager that does not run.
#[derive(Debug, Args)]
pub struct Recover {
    /// Make this machine's manager a cluster of one, in a new epoch, with everything that its log has
    #[arg(long, required_unless_present = "inspect", conflicts_with = "inspect")]
    pub from_this_node: bool,
    /// Only show what this machine's manager has
    #[arg(long)]
    pub inspect: bool,
    /// The manager's data folder
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    pub data_dir: PathBuf,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Status) {
        Verb::Status => status(session).await,
        Verb::Members => {
            let answer = read(session, &MANAGER.at(&[], session)?).await?;
            session.print_list(&MANAGER, &answer);
            Ok(())
        }
        Verb::JoinCommand(wish) => manager::join_command(wish, session).await,
        Verb::JoinTokens => manager::join_tokens(session).await,
        Verb::RevokeJoinToken { id } => manager::revoke_join_token(&id, session).await,
        Verb::TransferLeader { to } => manager::transfer_leader(to.as_deref(), session).await,
        Verb::Drain { manager, off } => manager::drain(&manager, off, session).await,
        Verb::Promote { manager } => manager::promote(&manager, session).await,
        Verb::Remove { manager } => manager::remove(&manager, session).await,
        Verb::RotateCertificates { manager } => {
            manager::rotate_certificates(manager.as_deref(), session).await
        }
        Verb::Autopilot(command) => {
            manager::autopilot(command.verb.unwrap_or(manager::AutopilotVerb::Get), session).await
        }
        Verb::Sans => manager::sans(session).await,
        Verb::SetSans { names, .. } => manager::set_sans(&names, session).await,
        Verb::Recover(_) => Err(Failure::usage(
            "recovery works on the data folder of a manager, and this program is the client alone",
            "run it on the manager's machine, with the program that the manager is run with",
        )),
    }
}

async fn status(session: &Session) -> Result<(), Failure> {
    let cluster = read(session, &["v1", "cluster"]).await?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&cluster),
        Output::Name => {
            session.screen.result(&format!("cluster/{}\n", text_at(&cluster, "/cluster").unwrap_or_default()))
        }
        output => {
            session.screen.result(&summary(&cluster));
            session.print_table(MANAGER.columns, list_at(&cluster, "/members"), output);
        }
    }
    Ok(())
}

/// An outage is when this is needed most: without a leader, one manager's own view is better than none.
async fn read(session: &Session, path: &[&str]) -> Result<Value, Failure> {
    let client = session.client()?;
    if session.settings.consistency.is_some() {
        return client.get(path, &[]).await;
    }
    match client.get_at_once(path).await {
        Err(Failure::Refused(refusal)) if refusal.status == 503 => {
            let answer = client.get_stale(path).await?;
            session.screen.note("no leader answers: this is one manager's own view, and may be old");
            Ok(answer)
        }
        answer => answer,
    }
}

/// The lines above the table; what matters most in an emergency comes first.
fn summary(cluster: &Value) -> String {
    let number = |pointer: &str| text_at(cluster, pointer).unwrap_or_else(|| "?".into());
    let tolerance = match cluster["failure_tolerance"].as_u64() {
        Some(0) => "0: the loss of one manager stops the cluster".to_owned(),
        Some(1) => "1: any one manager may fail".to_owned(),
        Some(count) => format!("{count}: any {count} managers may fail"),
        None => "unknown".to_owned(),
    };
    let diverged: Vec<&str> = list_at(cluster, "/diverged").iter().filter_map(Value::as_str).collect();
    let alarm = match diverged.is_empty() {
        true => String::new(),
        false => format!(
            "ALARM              the data of {} differs where it must be equal; see their logs\n",
            diverged.join(", ")
        ),
    };
    format!(
        "{alarm}Failure tolerance  {tolerance} ({} voters, quorum {})\n\
         Cluster            {}, revision {}\n\
         Leader             {}, term {}\n\n",
        number("/voters"),
        number("/quorum"),
        number("/cluster"),
        number("/revision"),
        text_at(cluster, "/leader").unwrap_or_else(|| "none".into()),
        number("/term"),
    )
}

fn contact(member: &Value) -> Option<String> {
    text_at(member, "/last_contact_ms").map(|milliseconds| format!("{milliseconds} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_failure_tolerance_comes_first() {
        let cluster = json!({"cluster": "c1", "leader": null, "term": 4, "voters": 3, "quorum": 2,
                             "failure_tolerance": 0, "revision": 17, "members": []});
        assert_eq!(
            summary(&cluster),
            "Failure tolerance  0: the loss of one manager stops the cluster (3 voters, quorum 2)\n\
             Cluster            c1, revision 17\n\
             Leader             none, term 4\n\n"
        );
    }

    #[test]
    fn managers_that_differ_are_an_alarm_above_all_else() {
        let cluster = json!({"diverged": ["m1", "m3"], "members": []});
        assert!(summary(&cluster).starts_with("ALARM              the data of m1, m3 differs"));
    }
}
