//! What can be allowed, from one list.

/// How far a permission reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It can be given for one environment, or for all of them.
    Environment,
    /// It is about the whole cluster.
    Cluster,
}

macro_rules! permissions {
    ($(#[doc = $about:literal] $name:ident = $word:literal, $reach:ident;)*) => {
        /// One kind of thing that can be done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission {
            $(#[doc = $about] $name,)*
        }

        impl Permission {
            /// All of them.
            pub const ALL: &[Permission] = &[$(Permission::$name),*];

            /// In roles, in the API and on the command line: `VERB:TYPE`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Permission::$name => $word,)*
                }
            }

            /// What it allows.
            pub fn about(self) -> &'static str {
                match self {
                    $(Permission::$name => $about,)*
                }
            }

            /// How far it reaches.
            pub fn reach(self) -> Reach {
                match self {
                    $(Permission::$name => Reach::$reach,)*
                }
            }
        }
    };
}

permissions! {
    #[doc = "See an environment, its swarm and its operations"]
    ViewEnvironment = "view:environment", Environment;
    #[doc = "Change, pause, upgrade, rescue and remove an environment; rotate its swarm's keys"]
    ManageEnvironment = "manage:environment", Environment;
    #[doc = "See who is a member of an environment"]
    ViewMember = "view:member", Environment;
    #[doc = "Say who is a member of an environment, and in which role"]
    ManageMember = "manage:member", Environment;
    #[doc = "See the API keys of an environment"]
    ViewToken = "view:token", Environment;
    #[doc = "Make, rotate and revoke API keys of an environment"]
    ManageToken = "manage:token", Environment;
    #[doc = "See hosts and how busy they are"]
    ViewHost = "view:host", Environment;
    #[doc = "Add, change, check and remove hosts"]
    ManageHost = "manage:host", Environment;
    #[doc = "Run commands on hosts"]
    UseHost = "use:host", Environment;
    #[doc = "See stacks and what runs of them"]
    ViewStack = "view:stack", Environment;
    #[doc = "Deploy, change and remove stacks"]
    ManageStack = "manage:stack", Environment;
    #[doc = "Bring images to hosts"]
    ManageImage = "manage:image", Environment;
    #[doc = "Read logs"]
    ViewLog = "view:log", Environment;
    #[doc = "See to which registries an environment logs in"]
    ViewRegistry = "view:registry", Environment;
    #[doc = "Log in to registries and out of them"]
    ManageRegistry = "manage:registry", Environment;
    #[doc = "Read what opens an environment's swarm: its unlock key and backups of its state"]
    ViewSecret = "view:secret", Environment;
    #[doc = "Make environments, and own them"]
    CreateEnvironment = "create:environment", Cluster;
    #[doc = "See templates"]
    ViewTemplate = "view:template", Cluster;
    #[doc = "Import and remove templates"]
    ManageTemplate = "manage:template", Cluster;
    #[doc = "See from where machines can come"]
    ViewDriver = "view:driver", Cluster;
    #[doc = "See the managers and what they measure"]
    ViewCluster = "view:cluster", Cluster;
    #[doc = "Let managers join and go, drain them, give leadership over; remove orphaned machines"]
    ManageCluster = "manage:cluster", Cluster;
    #[doc = "Make, fetch and remove snapshots, which contain everything"]
    ManageSnapshot = "manage:snapshot", Cluster;
    #[doc = "See users, groups, roles and who has which"]
    ViewUser = "view:user", Cluster;
    #[doc = "Make, change and remove users, groups and roles, and say who has which"]
    ManageUser = "manage:user", Cluster;
    #[doc = "Read who has done what"]
    ViewAudit = "view:audit", Cluster;
    #[doc = "Read and write the raw key-value store"]
    UseStore = "use:store", Cluster;
}

impl Permission {
    /// The permission that is written so.
    pub fn parse(text: &str) -> Option<Permission> {
        Permission::ALL.iter().copied().find(|permission| permission.as_str() == text)
    }
}
