//! Every id has its own type, from this one list. The text form carries its kind: `host_0198f2c1…`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What the text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// The id made of a UUID, which the caller mints.
            pub fn new(uuid: Uuid) -> $name {
                $name(format!(concat!($prefix, "_{}"), uuid.simple()))
            }

            /// Takes an id that was written before; anything else is no id of this kind.
            pub fn parse(text: &str) -> Option<$name> {
                let uuid = text.strip_prefix(concat!($prefix, "_"))?;
                Uuid::try_parse(uuid).ok().map(|_| $name(text.to_owned()))
            }

            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// An environment.
    EnvironmentId = "env";
    /// A host; also the name in its certificate and the tag on its machine.
    HostId = "host";
    /// One run of a workflow.
    OperationId = "op";
    /// A backup that is kept.
    SnapshotId = "snap";
    /// A stack.
    StackId = "stack";
    /// A user.
    UserId = "user";
}
