//! What `skep cluster` changes: managers that join, vote, lead, drain and leave.
//!
//! Apart from `cluster.rs`, which shows: an outage is survived by looking, not by these.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::cluster::MANAGER;
use crate::exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::Noun;
use crate::options::duration;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};

pub(crate) const JOIN_TOKEN: Noun = Noun {
    word: "join-token",
    path: &["cluster", "join-tokens"],
    name: "/id",
    columns: &[
        Column::new("ID", Show::Text("/id")),
        Column::new("ROLE", Show::Text("/role")),
        Column::new("USES", Show::Text("/uses_left")),
        Column::new("ENDS", Show::Free("/expires_at")),
    ],
    when_none: "No join tokens. Make one: skep cluster join-command",
};

/// The names under which clients know the cluster.
const SANS: [&str; 3] = ["v1", "cluster", "sans"];

/// What a new manager is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Votes as soon as it has caught up.
    Voter,
    /// Receives everything and votes once it is promoted.
    Standby,
}

/// How a manager is to join.
#[derive(Debug, Args)]
pub struct JoinCommand {
    /// What the new manager is for
    #[arg(long, value_enum, default_value_t = Role::Voter)]
    role: Role,
    /// How long the token is valid: 30s, 20m, 2h; at most 24h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    ttl: Duration,
    /// How many managers may join with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
}

/// What the managers do by themselves.
#[derive(Debug, Subcommand)]
pub enum AutopilotVerb {
    /// Show it (the default)
    #[command(
        before_long_help = "Examples:\n  skep cluster autopilot get",
        after_long_help = exit::help(exit::READS)
    )]
    Get,
    /// Set it
    #[command(
        before_long_help = "Examples:\n  skep cluster autopilot set --remove-dead-after 10m\n  skep cluster autopilot set --remove-dead-after off",
        after_long_help = exit::help(exit::WRITES)
    )]
    Set {
        /// Remove a voter that has been dead for so long, if three voters stay and one more of them may fail: 10m, 1h,
        /// or off
        #[arg(long, value_name = "TIME|off", value_parser = remove_dead_after)]
        remove_dead_after: RemoveDeadAfter,
    },
}

/// After how long a dead voter is removed, if ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoveDeadAfter(Option<Duration>);

/// Prints the command that makes another machine a manager.
pub(crate) async fn join_command(wish: JoinCommand, session: &Session) -> Result<(), Failure> {
    let role = if wish.role == Role::Voter { "voter" } else { "standby" };
    let body = json!({"role": role, "ttl_seconds": wish.ttl.as_secs(), "uses": wish.uses});
    let path = JOIN_TOKEN.at(&[], session)?;
    let token = session.client()?.write(Method::POST, &path, &[], Payload::Json(&body)).await?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&token),
        _ if session.settings.dry_run => session.print_done(&JOIN_TOKEN, &token, "created"),
        _ => {
            session.screen.result(&format!("{}\n", command(&token)));
            session.screen.note(&format!(
                "Run it on the new machine, with the address at which the others reach it for ADDRESS.\n\
                 The token is good for {} manager(s) until {}; whoever has it gets the cluster's keys.",
                wish.uses,
                text_at(&token, "/expires_at").unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// Lists the join tokens.
pub(crate) async fn join_tokens(session: &Session) -> Result<(), Failure> {
    JOIN_TOKEN.list(&[], session).await
}

/// Makes a join token worthless.
pub(crate) async fn revoke_join_token(id: &str, session: &Session) -> Result<(), Failure> {
    let id = JOIN_TOKEN.named(id)?;
    let path = JOIN_TOKEN.at(&[id], session)?;
    let revoked = session.client()?.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
    session.print_done(&JOIN_TOKEN, &revoked, "revoked");
    Ok(())
}

/// Lets another manager lead.
pub(crate) async fn transfer_leader(to: Option<&str>, session: &Session) -> Result<(), Failure> {
    let body = json!({"to": to.map(|to| MANAGER.named(to)).transpose()?});
    let path = ["v1", "cluster", "actions", "transfer-leader"];
    let cluster = session.client()?.write(Method::POST, &path, &[], Payload::Json(&body)).await?;
    let leader = text_at(&cluster, "/leader").unwrap_or_else(|| "being elected".into());
    done(session, &cluster, &format!("the leader is {leader}"))
}

/// Replaces certificates.
pub(crate) async fn rotate_certificates(member: Option<&str>, session: &Session) -> Result<(), Failure> {
    let body = json!({"member": member.map(|member| MANAGER.named(member)).transpose()?});
    let path = ["v1", "cluster", "actions", "rotate-certificates"];
    let cluster = session.client()?.write(Method::POST, &path, &[], Payload::Json(&body)).await?;
    done(session, &cluster, &format!("{} has a new certificate", member.unwrap_or("every manager")))
}

/// Lets a manager serve nothing new, or serve again.
pub(crate) async fn drain(member: &str, off: bool, session: &Session) -> Result<(), Failure> {
    let (action, words) = if off { ("resume", "serves again") } else { ("drain", "serves nothing new") };
    let name = MANAGER.named(member)?;
    let cluster = act(name, action, session).await?;
    done(session, &cluster, &format!("manager/{name} {words}"))
}

/// Lets a manager vote.
pub(crate) async fn promote(member: &str, session: &Session) -> Result<(), Failure> {
    let name = MANAGER.named(member)?;
    let cluster = act(name, "promote", session).await?;
    done(session, &cluster, &format!("manager/{name} votes"))
}

/// Takes a manager out, for ever.
pub(crate) async fn remove(member: &str, session: &Session) -> Result<(), Failure> {
    let name = MANAGER.named(member)?;
    let cluster = session.client()?.get(&["v1", "cluster"], &[]).await?;
    session.confirm_by_name(&about_removal(name, &cluster), name).await?;
    let cluster = act(name, "remove", session).await?;
    done(session, &cluster, &format!("manager/{name} removed"))
}

/// Shows or sets what the managers do by themselves.
pub(crate) async fn autopilot(verb: AutopilotVerb, session: &Session) -> Result<(), Failure> {
    let path = ["v1", "cluster", "autopilot"];
    let autopilot = match verb {
        AutopilotVerb::Get => session.client()?.get(&path, &[]).await?,
        AutopilotVerb::Set { remove_dead_after: RemoveDeadAfter(after) } => {
            let body = json!({"remove_dead_after_seconds": after.map(|after| after.as_secs())});
            session.client()?.write(Method::PUT, &path, &[], Payload::Json(&body)).await?
        }
    };
    match session.output(Output::Table) {
        Output::Json => session.print_json(&autopilot),
        _ => session.screen.result(&format!("{}\n", about_autopilot(&autopilot))),
    }
    Ok(())
}

/// Shows under which names clients know the cluster.
pub(crate) async fn sans(session: &Session) -> Result<(), Failure> {
    let sans = session.client()?.get(&SANS, &[]).await?;
    print_sans(session, &sans);
    Ok(())
}

/// Sets under which names clients know the cluster.
pub(crate) async fn set_sans(names: &[String], session: &Session) -> Result<(), Failure> {
    let body = json!({ "names": names });
    let sans = session.client()?.write(Method::PUT, &SANS, &[], Payload::Json(&body)).await?;
    print_sans(session, &sans);
    Ok(())
}

fn print_sans(session: &Session, sans: &Value) {
    match session.output(Output::Table) {
        Output::Json => session.print_json(sans),
        _ => {
            let names: Vec<_> = items_of(sans, "/names").collect();
            let said =
                if names.is_empty() { "none but the managers' own".to_owned() } else { names.join(", ") };
            session.screen.result(&format!("Names  {said}\n"));
        }
    }
}

async fn act(name: &str, action: &str, session: &Session) -> Result<Value, Failure> {
    let path = MANAGER.at(&[name, "actions", action], session)?;
    session.client()?.write(Method::POST, &path, &[], Payload::Nothing).await
}

fn done(session: &Session, cluster: &Value, words: &str) -> Result<(), Failure> {
    match session.output(Output::Table) {
        Output::Json => session.print_json(cluster),
        Output::Name if session.settings.quiet => {}
        _ => session.screen.result(&format!("{words}\n")),
    }
    Ok(())
}

fn command(token: &Value) -> String {
    let managers: Vec<_> = items_of(token, "/join").collect();
    format!(
        "skep server --join {} --token {} --advertise ADDRESS",
        managers.join(","),
        text_at(token, "/token").unwrap_or_default()
    )
}

fn items_of<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    list_at(value, pointer).iter().filter_map(Value::as_str)
}

/// What a person should know before the manager goes.
fn about_removal(name: &str, cluster: &Value) -> String {
    let member =
        list_at(cluster, "/members").iter().find(|member| text_at(member, "/name").as_deref() == Some(name));
    let state = member.and_then(|member| text_at(member, "/state")).unwrap_or_else(|| "unknown".into());
    let voters = cluster["voters"].as_u64().unwrap_or(0);
    let votes = member.is_some_and(|member| member["role"] == "voter");
    let left = voters.saturating_sub(u64::from(votes));
    format!(
        "Manager {name} ({state}) leaves the cluster and cannot come back under its number; {left} voters are left, of \
         which {} must agree",
        left / 2 + 1
    )
}

fn about_autopilot(autopilot: &Value) -> String {
    match autopilot["remove_dead_after_seconds"].as_u64() {
        Some(seconds) => format!(
            "Dead managers  removed after {seconds} s, if three voters stay and one more of them may fail"
        ),
        None => "Dead managers  left alone until somebody removes them".to_owned(),
    }
}

fn remove_dead_after(text: &str) -> Result<RemoveDeadAfter, String> {
    match text {
        "off" => Ok(RemoveDeadAfter(None)),
        text => duration(text).map(|after| RemoveDeadAfter(Some(after))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_join_command_can_be_copied() {
        let token =
            json!({"id": "t1", "token": "skj_c1.t1.00.00", "join": ["10.0.0.11:8444", "10.0.0.12:8444"]});
        assert_eq!(
            command(&token),
            "skep server --join 10.0.0.11:8444,10.0.0.12:8444 --token skj_c1.t1.00.00 --advertise ADDRESS"
        );
    }

    #[test]
    fn a_person_is_told_what_a_removal_leaves() {
        let cluster =
            json!({"voters": 3, "members": [{"name": "m3", "role": "voter", "state": "unreachable"}]});
        let about = about_removal("m3", &cluster);
        assert!(
            about.contains("m3 (unreachable)") && about.contains("2 voters are left, of which 2"),
            "{about}"
        );
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("20m"), Ok(Duration::from_secs(1200)));
        assert_eq!(remove_dead_after("off"), Ok(RemoveDeadAfter(None)));
        for wrong in ["", "20", "m", "1w", "-1s", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
