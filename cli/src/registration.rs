//! `skep host register`: how a machine that no driver made becomes a host.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::{CHOSEN, Noun};
use crate::options::{self, duration};
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::{pairs, text_at};

pub(crate) const REGISTRATION_TOKEN: Noun = Noun {
    word: "registration-token",
    path: &["environments", CHOSEN, "registration-tokens"],
    name: "/id",
    columns: &[
        Column::new("ID", Show::Text("/id")),
        Column::new("ROLE", Show::Text("/role")),
        Column::new("LABELS", Show::With(|token| pairs(token, "/labels"))),
        Column::new("USES", Show::Text("/uses_left")),
        Column::new("ENDS", Show::Free("/expires_at")),
    ],
    when_none: "No registration tokens. Make one: skep host register",
};

/// Which part the host should play in the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// A manager before others, as far as managers are wanted.
    Manager,
    /// Whatever the swarm needs.
    Auto,
    /// A worker; a manager only as long as there is nobody else.
    Worker,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// One line for a shell on the machine.
    Shell,
    /// User data for new machines of a cloud.
    CloudInit,
    /// A container for a machine that has Docker; needs an image, see deploy/image.sh.
    DockerRun,
}

/// How machines are to register.
#[derive(Debug, Args)]
pub struct Register {
    /// What to print
    #[arg(long = "as", value_enum, value_name = "FORM", default_value_t = Form::Shell)]
    form: Form,
    /// The image of the agent's container, with --as docker-run
    #[arg(long, default_value = concat!("skep:", env!("CARGO_PKG_VERSION")), value_parser = image)]
    image: String,
    /// Which part the hosts should play in the swarm
    #[arg(long, value_enum, default_value_t = Role::Auto)]
    role: Role,
    /// A label of their nodes; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = options::pair)]
    labels: Vec<(String, String)>,
    /// How long the token is valid: 30s, 20m, 2h, 7d; at most 365d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    ttl: Duration,
    /// How many machines may register with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// The host's name [default: the machine's own]
    #[arg(long, value_parser = setting)]
    name: Option<String>,
    /// The address at which the other hosts reach the machine, or the interface that has it [default: from where it
    /// reaches the managers]
    #[arg(long, value_name = "IP|INTERFACE", value_parser = setting)]
    address: Option<String>,
    /// Take the swarm over that the machine is a node of, as it is; into an environment without a swarm, or with the same
    #[arg(long)]
    adopt: bool,
}

/// Makes a registration token and prints what to do with it.
pub(crate) async fn register(wish: Register, session: &Session) -> Result<(), Failure> {
    let labels: BTreeMap<_, _> = wish.labels.iter().cloned().collect();
    let role = wish.role.to_possible_value().map(|value| value.get_name().to_owned());
    let body = json!({"role": role, "labels": labels, "ttl_seconds": wish.ttl.as_secs(), "uses": wish.uses});
    let path = REGISTRATION_TOKEN.at(&[], session)?;
    let token = session.client()?.write(Method::POST, &path, &[], Payload::Json(&body)).await?;
    if session.output(Output::Table) == Output::Json {
        session.print_json(&token);
        return Ok(());
    }
    if session.settings.dry_run {
        session.print_done(&REGISTRATION_TOKEN, &token, "created");
        return Ok(());
    }
    let line = shell_line(&token, &wish);
    let (text, note) = match wish.form {
        Form::Shell => (format!("{line}\n"), "it installs Docker there if there is none"),
        Form::CloudInit => (cloud_init(&line), "it installs Docker there if there is none"),
        Form::DockerRun => {
            (docker_run(&token, &wish), "it must have Docker and the image (deploy/image.sh makes it)")
        }
    };
    session.screen.result(&text);
    session.screen.note(&format!(
        "Run it on the machine that is to be a host; {note}.\n\
         The token is good for {} until {}; revoke it: skep host revoke-token {}",
        match wish.uses {
            1 => "one machine".to_owned(),
            uses => format!("{uses} machines"),
        },
        text_at(&token, "/expires_at").unwrap_or_default(),
        text_at(&token, "/id").unwrap_or_default(),
    ));
    Ok(())
}

/// The same for a machine that brings its swarm along.
pub(crate) async fn adopt(wish: Register, session: &Session) -> Result<(), Failure> {
    register(Register { adopt: true, ..wish }, session).await
}

/// Makes a registration token worthless.
pub(crate) async fn revoke(id: &str, session: &Session) -> Result<(), Failure> {
    let path = REGISTRATION_TOKEN.at(&[REGISTRATION_TOKEN.named(id)?], session)?;
    let revoked = session.client()?.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
    session.print_done(&REGISTRATION_TOKEN, &revoked, "revoked");
    Ok(())
}

/// The manager's certificate is of the cluster's own authority, which the machine does not know yet: it knows it by its
/// key.
fn shell_line(token: &Value, wish: &Register) -> String {
    let join = |pointer: &str| text_at(token, pointer).unwrap_or_default();
    let mut line = format!(
        "curl -fsSL -k --pinnedpubkey '{}' {} | sudo sh",
        join("/join/pinned_key"),
        join("/join/script_url")
    );
    for (at, (name, value)) in settings(wish).enumerate() {
        line += if at == 0 { " -s --" } else { "" };
        line += &format!(" {name}={value}");
    }
    line
}

/// What the agent is told besides its token and its managers.
fn settings(wish: &Register) -> impl Iterator<Item = (&'static str, &str)> {
    let all = [
        ("SKEP_AGENT_NAME", wish.name.as_deref()),
        ("SKEP_AGENT_ADDRESS", wish.address.as_deref()),
        ("SKEP_AGENT_ADOPT", wish.adopt.then_some("yes")),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

fn cloud_init(line: &str) -> String {
    // Cloud-init runs as root, and not every image has sudo.
    let line = line.replace("| sudo sh", "| sh");
    format!("#cloud-config\npackages: [curl]\nruncmd:\n  - |\n    {line}\n")
}

/// The agent as a container that shares the machine's network and processes, and speaks to its Docker.
fn docker_run(token: &Value, wish: &Register) -> String {
    let managers = token.pointer("/join/managers").and_then(Value::as_array).cloned().unwrap_or_default();
    let managers: Vec<&str> = managers.iter().filter_map(Value::as_str).collect();
    let secret = text_at(token, "/join/token").unwrap_or_default();
    let mut line = format!(
        "docker run -d --name skep-agent --restart unless-stopped --privileged --net host --pid host --uts host \
         -v /var/run/docker.sock:/var/run/docker.sock -v /var/lib/skep-agent:/var/lib/skep-agent \
         -e SKEP_AGENT_IN_CONTAINER=yes -e SKEP_AGENT_TOKEN={secret} -e SKEP_AGENT_MANAGERS={}",
        managers.join(",")
    );
    for (name, value) in settings(wish) {
        line += &format!(" -e {name}={value}");
    }
    format!("{line} {} agent\n", wish.image)
}

/// The name of an image, which goes into a command line as it is.
fn image(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_' | '@' | '/');
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("that is no name of an image".to_owned()),
    }
}

/// A value that goes into a command line as it is.
fn setting(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_' | '@');
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("use letters, digits and .:-_@".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Register {
        Register {
            form: Form::Shell,
            image: "skep:1".into(),
            role: Role::Auto,
            labels: vec![],
            ttl: Duration::from_secs(60),
            uses: 1,
            name: None,
            address: None,
            adopt: false,
        }
    }

    fn token() -> Value {
        json!({"id": "t1", "join": {"pinned_key": "sha256//AA==", "script_url": "https://10.0.0.11:8443/join/skh_c1.t1.0.0"}})
    }

    #[test]
    fn the_line_can_be_copied_and_carries_name_and_address() {
        let line =
            "curl -fsSL -k --pinnedpubkey 'sha256//AA==' https://10.0.0.11:8443/join/skh_c1.t1.0.0 | sudo sh";
        assert_eq!(shell_line(&token(), &wish()), line);
        let both = Register { name: Some("web-1".into()), address: Some("eth1".into()), ..wish() };
        assert_eq!(
            shell_line(&token(), &both),
            format!("{line} -s -- SKEP_AGENT_NAME=web-1 SKEP_AGENT_ADDRESS=eth1")
        );
        let adopted = shell_line(&token(), &Register { adopt: true, ..wish() });
        assert_eq!(adopted, format!("{line} -s -- SKEP_AGENT_ADOPT=yes"));
        assert!(setting("$(reboot)").is_err() && setting("").is_err());
    }

    #[test]
    fn a_container_gets_what_the_script_would_write() {
        let token = json!({"id": "t1", "join": {"token": "skh_c1.t1", "managers": ["10.0.0.11:8444", "10.0.0.12:8444"]}});
        let line = docker_run(&token, &Register { name: Some("web-1".into()), adopt: true, ..wish() });
        for part in [
            "docker run -d --name skep-agent --restart unless-stopped --privileged --net host --pid host",
            " -v /var/run/docker.sock:/var/run/docker.sock ",
            " -e SKEP_AGENT_TOKEN=skh_c1.t1 -e SKEP_AGENT_MANAGERS=10.0.0.11:8444,10.0.0.12:8444 ",
            " -e SKEP_AGENT_NAME=web-1 -e SKEP_AGENT_ADOPT=yes skep:1 agent\n",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(image("--volume=/:/host").is_err() && image("a b").is_err());
        assert!(image("r.example:5000/skep:1").is_ok());
    }

    #[test]
    fn user_data_runs_the_same_line() {
        let user_data = cloud_init(&shell_line(&token(), &wish()));
        assert!(user_data.starts_with("#cloud-config\n"), "{user_data}");
        assert!(user_data.contains("    curl -fsSL -k") && user_data.contains("| sh\n"), "{user_data}");
    }
}
