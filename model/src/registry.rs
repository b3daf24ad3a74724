//! Registries to which an environment logs in: so that every node, also one that comes later, can pull what services need.
//!
//! The swarm keeps the login with the service and hands it to whatever node runs a task. So a new password has to be brought
//! to every service that uses the registry: [`logins_of`] says what services should have, and a planner compares.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Stored, Tx, View};

use crate::environment::Environment;
use crate::ids::EnvironmentId;
use crate::sealed::Sealed;
use crate::stack::Stack;
use crate::{Refusal, Ruling};

/// Registries of one environment: more than anybody pulls from.
pub const REGISTRIES_PER_ENVIRONMENT_MAX: usize = 32;

/// The longest user or password; tokens of clouds have about 4 KiB.
pub const LOGIN_TEXT_BYTES_MAX: usize = 16 * 1024;

/// The longest address: a host name and a port.
const SERVER_BYTES_MAX: usize = 260;

/// Where an image comes from that names no registry.
const DOCKER_HUB: &str = "docker.io";

/// A registry, and who logs in there for an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// Whose.
    pub environment: EnvironmentId,
    /// `HOST` or `HOST:PORT`, as images name it.
    pub server: String,
    /// The user.
    pub user: String,
    /// The password, or token.
    pub password: Sealed,
    /// Has the registry said that it is right?
    pub checked: bool,
    /// When the registry was first logged in to.
    pub created_at: Timestamp,
    /// When user or password were given last. Tells one login from the next.
    pub updated_at: Timestamp,
}

impl Record for RegistryLogin {
    const TABLE: &'static str = "registry-login";
    fn partition(&self) -> &str {
        self.environment.as_str()
    }
    fn id(&self) -> String {
        self.server.clone()
    }
}

/// A login as somebody gives it.
#[derive(Debug, Clone)]
pub struct LoginWish {
    /// The registry.
    pub server: String,
    /// The user.
    pub user: String,
    /// The password, sealed for this registry of this environment.
    pub password: Sealed,
    /// Has the registry said that it is right?
    pub checked: bool,
}

/// Logs in, or gives another user or password.
pub fn login(tx: &mut Tx<'_>, environment: &Environment, wish: &LoginWish) -> Ruling<RegistryLogin> {
    check_server(&wish.server)?;
    check_text("the user", &wish.user)?;
    let known = tx.get::<RegistryLogin>(environment.id.as_str(), &wish.server)?;
    let others = tx.glance::<RegistryLogin>(environment.id.as_str())?.len();
    if known.is_none() && others >= REGISTRIES_PER_ENVIRONMENT_MAX {
        return Err(Refusal::TooMany {
            what: "registries of an environment",
            limit: REGISTRIES_PER_ENVIRONMENT_MAX,
        });
    }
    let login = RegistryLogin {
        environment: environment.id.clone(),
        server: wish.server.clone(),
        user: wish.user.clone(),
        password: wish.password.clone(),
        checked: wish.checked,
        created_at: known.map_or(tx.now(), |known| known.created_at),
        updated_at: tx.now(),
    };
    tx.put(&login);
    Ok(login)
}

/// Logs out: services get no password for the registry any more.
pub fn logout(tx: &mut Tx<'_>, environment: &Environment, server: &str) -> Ruling<RegistryLogin> {
    let known = tx.get::<RegistryLogin>(environment.id.as_str(), server)?;
    let known = known.ok_or_else(|| not_found(environment, server))?.record;
    tx.delete::<RegistryLogin>(environment.id.as_str(), server);
    Ok(known)
}

/// Lets all logins of an environment go, with it.
pub(crate) fn forget_all(tx: &mut Tx<'_>, environment: &EnvironmentId) -> Ruling<()> {
    for login in tx.list::<RegistryLogin>(environment.as_str())? {
        tx.delete::<RegistryLogin>(environment.as_str(), &login.server);
    }
    Ok(())
}

/// The login of an environment to a registry.
pub fn find(view: &View, environment: &Environment, server: &str) -> Ruling<Stored<RegistryLogin>> {
    view.get::<RegistryLogin>(environment.id.as_str(), server)?.ok_or_else(|| not_found(environment, server))
}

/// With which words a password is sealed.
pub fn password_words(environment: &EnvironmentId, server: &str) -> String {
    format!("password of {environment} for the registry {server}")
}

/// Checks what names a registry. Not a URL: images name it without one.
pub fn check_server(server: &str) -> Ruling<()> {
    let plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let good = !server.is_empty() && server.len() <= SERVER_BYTES_MAX && server.chars().all(plain);
    match good && server_of(&format!("{server}/image")) == server {
        true => Ok(()),
        false => Err(Refusal::InvalidValue {
            what: "the registry",
            value: format!("'{}'", server.escape_debug()),
            allowed: format!("write it as images name it: registry.example.com, 10.0.0.5:5000, {DOCKER_HUB}"),
        }),
    }
}

/// Checks a user or a password. What is wrong is said without it.
pub fn check_text(what: &'static str, text: &str) -> Ruling<()> {
    match !text.is_empty() && text.len() <= LOGIN_TEXT_BYTES_MAX && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(Refusal::InvalidValue {
            what,
            value: format!("what was given ({} bytes)", text.len()),
            allowed: format!("use 1 to {LOGIN_TEXT_BYTES_MAX} bytes without control characters"),
        }),
    }
}

/// The registry that an image is pulled from: what stands before the first slash, if that looks like an address.
pub fn server_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DOCKER_HUB,
    }
}

/// The logins that a stack's services should have, by registry, and which of each.
pub fn logins_of(stack: &Stack, logins: &[Stored<RegistryLogin>]) -> BTreeMap<String, Timestamp> {
    let servers: Vec<&str> = stack.recipe.services.iter().map(|service| server_of(&service.image)).collect();
    let used = logins.iter().filter(|login| servers.contains(&login.server.as_str()));
    used.map(|login| (login.server.clone(), login.updated_at)).collect()
}

fn not_found(environment: &Environment, server: &str) -> Refusal {
    Refusal::NotFound { what: "registry", name: server.to_owned(), scope: Some(environment.name.to_string()) }
}

#[cfg(test)]
mod tests {
    use skep_ledger::Ledger as _;

    use super::*;
    use crate::environment;
    use crate::testing::Swarm;

    #[test]
    fn an_image_says_where_it_comes_from() {
        for (image, server) in [
            ("busybox", "docker.io"),
            ("library/busybox:1.36", "docker.io"),
            ("registry.example.com/team/app:1", "registry.example.com"),
            ("10.0.0.5:5000/app@sha256:00", "10.0.0.5:5000"),
            ("localhost/app", "localhost"),
        ] {
            assert_eq!(server_of(image), server, "{image}");
        }
    }

    #[test]
    fn a_registry_is_written_as_images_name_it() {
        for good in ["registry.example.com", "10.0.0.5:5000", "localhost:5000", "docker.io", "[fd00::1]:5000"]
        {
            assert!(check_server(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "https://registry.example.com",
            "registry.example.com/v2",
            "Registry.io",
            "myregistry",
            "a b.c",
        ] {
            assert!(check_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_that_is_none_is_not_repeated_in_the_answer() {
        let refused = check_text("the password", "hunter2\n").expect_err("is refused").to_string();
        assert!(!refused.contains("hunter2") && refused.contains("8 bytes"), "{refused}");
    }

    #[tokio::test]
    async fn a_login_is_replaced_as_a_whole_and_keeps_its_beginning() {
        let swarm = Swarm::of(1, 0).await;
        let wish = |user: &str| LoginWish {
            server: "10.0.0.5:5000".into(),
            user: user.into(),
            password: Sealed::new(vec![1, 2, 3]),
            checked: true,
        };
        for user in ["ann", "ben"] {
            swarm
                .change(|tx| {
                    let environment = environment::named(tx, "prod")?;
                    login(tx, &environment, &wish(user)).map(drop)
                })
                .await;
            swarm.ledger.set_now(swarm.ledger.now() + jiff::SignedDuration::from_secs(60));
        }
        let environment = swarm.environment();
        let known = find(&swarm.ledger.view(), &environment, "10.0.0.5:5000").expect("is there").record;
        assert_eq!(known.user, "ben");
        assert_eq!(known.updated_at.duration_since(known.created_at).as_secs(), 60);
        assert!(!format!("{known:?}").contains("1, 2, 3"), "{known:?}");
        swarm.change(|tx| logout(tx, &environment, "10.0.0.5:5000").map(drop)).await;
        assert!(find(&swarm.ledger.view(), &environment, "10.0.0.5:5000").is_err());
    }
}
