//! Where values come from, in words, for `skep context show`.

use super::{Context, Variables};
use crate::flags::GlobalFlags;
use crate::project::{PROJECT_FILE, Project};

/// Where each value comes from: a flag, a variable, the project's file, a context, or nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origins {
    pub(crate) context: String,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) ca_file: String,
    pub(crate) env: String,
    pub(crate) output: String,
    pub(crate) progress: String,
    pub(crate) timeout: String,
    pub(crate) detach: String,
    pub(crate) consistency: String,
}

impl Origins {
    pub(super) fn of_server(
        flags: &GlobalFlags,
        variables: &Variables,
        project: &Project,
        context: Option<(&str, &Context)>,
        named_by: String,
    ) -> Origins {
        let origin = |flag: Option<&str>, names: &[&str], has: fn(&Context) -> bool| {
            let variable = names.iter().find(|name| variables.get(name).is_some());
            match (flag, variable, context.filter(|(_, context)| has(context))) {
                (Some(flag), ..) => format!("flag {flag}"),
                (None, Some(variable), _) => format!("variable {variable}"),
                (None, None, Some((name, _))) => format!("context {name}"),
                (None, None, None) => "not set".to_owned(),
            }
        };
        Origins {
            context: named_by,
            url: match (&flags.url, &flags.context) {
                (None, Some(name)) => format!("context {name}"),
                (given, _) => origin(given.as_ref().map(|_| "--url"), &["SKEP_URL"], |_| true),
            },
            token: origin(
                flags.token_file.as_ref().map(|_| "--token-file"),
                &["SKEP_TOKEN_FILE", "SKEP_TOKEN"],
                |context| context.token_file.is_some(),
            ),
            ca_file: origin(flags.ca_file.as_ref().map(|_| "--ca-file"), &["SKEP_CA_FILE"], |context| {
                context.ca_file.is_some()
            }),
            env: match (&flags.env, variables.get("SKEP_ENV"), &project.env) {
                (None, None, Some(_)) => PROJECT_FILE.to_owned(),
                (flag, ..) => {
                    origin(flag.as_ref().map(|_| "--env"), &["SKEP_ENV"], |context| context.env.is_some())
                }
            },
            ..Origins::default()
        }
    }

    /// What has nothing to do with a server.
    pub(super) fn of_the_rest(&mut self, flags: &GlobalFlags, variables: &Variables) {
        let origin = |flag: Option<&str>, name: &str| match (flag, variables.get(name)) {
            (Some(flag), _) => format!("flag {flag}"),
            (None, Some(_)) => format!("variable {name}"),
            (None, None) => "built in".to_owned(),
        };
        self.output = origin(flags.output.map(|_| "--output"), "SKEP_OUTPUT");
        self.progress = origin(flags.progress.map(|_| "--progress"), "SKEP_PROGRESS");
        self.timeout = origin(flags.timeout.as_ref().map(|_| "--timeout"), "SKEP_TIMEOUT");
        self.consistency = origin(flags.consistency.map(|_| "--consistency"), "SKEP_CONSISTENCY");
        let detach = match (flags.detach, flags.wait) {
            (true, _) => Some("--detach"),
            (_, true) => Some("--wait"),
            _ => None,
        };
        self.detach = origin(detach, "SKEP_WAIT");
    }
}
