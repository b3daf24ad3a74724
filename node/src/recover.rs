//! `skep cluster recover`: on the machine of a survivor, while its manager does not run.
//!
//! Why not over the API: when the majority is lost there is nobody who could agree to it. Only a person can know that
//! the others are gone for good, so a person says it, by typing the cluster's name.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use skep_cli::{GlobalFlags, Output, Recover};
use skep_raft::{Findings, RecoverError, Recovered};
use skep_wire::channels::PeerChannels;
use skep_wire::pki::{self, Identity};

/// For mistakes on the command line, as everywhere in the client.
const USAGE: u8 = 2;
/// Something stands in the way.
const CONFLICT: u8 = 5;

/// What ends the command without an error of the world.
enum Refused {
    /// The command line lacks something: what, and what to add.
    Usage(String),
    /// The person has said no.
    Declined,
}

/// Runs the command.
pub(crate) async fn run(command: &Recover, flags: &GlobalFlags) -> ExitCode {
    match recover(command, flags).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Refused::Usage(text))) => {
            eprintln!("error: {text}\n  now         nothing was changed");
            ExitCode::from(USAGE)
        }
        Ok(Err(Refused::Declined)) => {
            eprintln!("error: not confirmed\n  now         nothing was changed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.downcast_ref() {
                Some(
                    RecoverError::Running { .. }
                    | RecoverError::OthersAnswer(_)
                    | RecoverError::Empty
                    | RecoverError::Condemned(_),
                ) => {
                    eprintln!("  now         nothing was changed");
                    ExitCode::from(CONFLICT)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn recover(command: &Recover, flags: &GlobalFlags) -> Result<Result<(), Refused>> {
    let identity = Identity::load(&command.data_dir)
        .with_context(|| format!("{} is not the data folder of a manager", command.data_dir.display()))?;
    let dir = command.data_dir.join("raft");
    let (cluster, node) = (identity.cluster.clone(), identity.node()?);
    let found = tokio::task::spawn_blocking({
        let (dir, cluster) = (dir.clone(), cluster.clone());
        move || skep_raft::inspect(&dir, &cluster, node)
    })
    .await
    .context("inspecting the data folder")??;
    let json = flags.output == Some(Output::Json);
    if command.inspect {
        if json {
            println!("{}", serde_json::to_string_pretty(&found).context("writing JSON")?);
        } else {
            print!("{}", described(&found));
        }
        return Ok(Ok(()));
    }
    eprint!("{}\n{}", described(&found), consequences(&found));
    if let Err(refused) = confirmed(&cluster, flags)? {
        return Ok(Err(refused));
    }
    let channels = PeerChannels::new(pki::manager_client_config(&identity)?, cluster, node);
    let recovered = skep_raft::recover(&dir, &found, channels).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&recovered).context("writing JSON")?);
    } else {
        print!("{}", next_steps(&found, &recovered, &command.data_dir.display().to_string()));
    }
    Ok(Ok(()))
}

/// The cluster's name has to be typed, or given with `--confirm`.
fn confirmed(cluster: &str, flags: &GlobalFlags) -> Result<Result<(), Refused>> {
    match flags.confirm.as_deref() {
        Some(given) if given == cluster => return Ok(Ok(())),
        Some(given) => {
            let text = format!("--confirm says '{given}', but this is about cluster '{cluster}'");
            return Ok(Err(Refused::Usage(text)));
        }
        None => {}
    }
    if flags.yes || !std::io::stdin().is_terminal() {
        let why = if flags.yes { "--yes is not enough here" } else { "this needs a confirmation" };
        return Ok(Err(Refused::Usage(format!("{why}\n  fix         add --confirm {cluster}"))));
    }
    eprint!("Type the name of the cluster to go on, or anything else to stop: ");
    std::io::stderr().flush().context("asking")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    Ok(if answer.trim() == cluster { Ok(()) } else { Err(Refused::Declined) })
}

fn described(found: &Findings) -> String {
    let voters = found.members.iter().filter(|member| member.voter).count();
    let members: Vec<String> = found
        .members
        .iter()
        .map(|member| {
            let role = if member.voter { "" } else { ", standby" };
            format!("{} ({}{role})", member.name, member.peer_address)
        })
        .collect();
    let written = found.last_written_at.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
    let mut text = format!(
        "Cluster        {}, epoch {}\n\
         Manager        {} (number {})\n\
         Newest entry   term {}, index {}\n\
         Agreed on      up to index {} as far as it knew\n\
         Applied        up to index {}\n\
         Last change    {written}\n\
         Members        {} of them vote: {}\n\
         Data           {} rows, {} bytes read; all are what was written\n",
        found.cluster,
        found.epoch,
        found.name,
        found.node,
        found.last_log_term,
        found.last_log_index,
        found.committed_index,
        found.applied_index,
        voters,
        members.join(", "),
        found.rows_verified,
        found.bytes_verified,
    );
    if let Some(why) = &found.condemned {
        text.push_str(&format!("Not to be used {why}\n"));
    }
    text
}

fn consequences(found: &Findings) -> String {
    let tail = found.last_log_index.saturating_sub(found.committed_index);
    let others: Vec<&str> = found
        .members
        .iter()
        .filter(|member| member.id != found.node)
        .map(|member| member.name.as_str())
        .collect();
    format!(
        "\nThis makes {} a cluster of one in epoch {}:\n\
         - Kept: its whole log up to index {}; {tail} entries of it may not have been agreed on and will count.\n\
         - Lost: every change that only {} had. If one of them survives with a higher term, or the same term and a\n  \
           higher index (skep cluster recover --inspect), stop here and go on from that one.\n\
         - Never start again with their old data: {}.\n",
        found.name,
        found.epoch + 1,
        found.last_log_index,
        if others.is_empty() { "nobody".to_owned() } else { others.join(" or ") },
        if others.is_empty() { "nobody".to_owned() } else { others.join(", ") },
    )
}

fn next_steps(found: &Findings, recovered: &Recovered, data_dir: &str) -> String {
    format!(
        "{} is a cluster of one in epoch {} (term {}, index {}).\n\
         Next: start it:            skep server --data-dir {data_dir}\n      \
         add managers:        skep cluster join-command\n      \
         an old manager that comes back stops by itself; on its machine: skep server --reset-from-peers\n",
        found.name, recovered.epoch, recovered.term, recovered.index
    )
}
