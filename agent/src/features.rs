//! Kernel features that Docker Swarm needs and that not every kernel has.
//!
//! A wrong "no" would keep people from using a good host, a wrong "yes" lets them find out the hard way;
//! so what cannot be found out is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A feature and the kernel parts that make it up; all of them are needed.
struct Feature {
    name: &'static str,
    parts: &'static [Part],
}

/// One part of the kernel: how it shows when it is there, and what it is called where kernels are built.
struct Part {
    /// Exists when the part is loaded or built in.
    paths: &'static [&'static str],
    /// The name in `/proc/filesystems`, for a file system.
    filesystem: Option<&'static str>,
    module: &'static str,
    option: &'static str,
}

/// Every feature that is looked for, in the order in which people read them.
const FEATURES: &[Feature] = &[
    // Service addresses and the routing mesh.
    Feature {
        name: "ip_vs",
        parts: &[Part {
            paths: &["proc/net/ip_vs"],
            filesystem: None,
            module: "ip_vs",
            option: "CONFIG_IP_VS",
        }],
    },
    // Overlay networks between hosts.
    Feature {
        name: "vxlan",
        parts: &[Part { paths: &[], filesystem: None, module: "vxlan", option: "CONFIG_VXLAN" }],
    },
    // Images and containers.
    Feature {
        name: "overlay",
        parts: &[Part {
            paths: &[],
            filesystem: Some("overlay"),
            module: "overlay",
            option: "CONFIG_OVERLAY_FS",
        }],
    },
    // Rules for traffic between containers of one host.
    Feature {
        name: "br_netfilter",
        parts: &[Part {
            paths: &["proc/sys/net/bridge"],
            filesystem: None,
            module: "br_netfilter",
            option: "CONFIG_BRIDGE_NETFILTER",
        }],
    },
    // Volumes on an NFS server.
    Feature {
        name: "nfs",
        parts: &[Part { paths: &[], filesystem: Some("nfs"), module: "nfs", option: "CONFIG_NFS_FS" }],
    },
    // Encrypted overlay networks: the key interface, the packets, and the cipher that Docker asks for.
    Feature {
        name: "xfrm",
        parts: &[
            Part { paths: &[], filesystem: None, module: "xfrm_user", option: "CONFIG_XFRM_USER" },
            Part { paths: &[], filesystem: None, module: "esp4", option: "CONFIG_INET_ESP" },
            Part { paths: &[], filesystem: None, module: "gcm", option: "CONFIG_CRYPTO_GCM" },
            Part { paths: &[], filesystem: None, module: "seqiv", option: "CONFIG_CRYPTO_SEQIV" },
        ],
    },
];

/// The features that could be told, with whether they are there.
pub(crate) fn detect(root: &Path) -> BTreeMap<&'static str, bool> {
    let kernel = Kernel::read(root);
    FEATURES
        .iter()
        .filter_map(|feature| Some((feature.name, all(feature.parts, |part| kernel.has(part))?)))
        .collect()
}

/// One missing part settles it; otherwise one unknown part leaves it open.
fn all<T>(items: &[T], has: impl Fn(&T) -> Option<bool>) -> Option<bool> {
    let answers: Vec<_> = items.iter().map(has).collect();
    if answers.contains(&Some(false)) {
        return Some(false);
    }
    (!answers.contains(&None)).then_some(true)
}

/// What the running kernel says about itself.
struct Kernel<'a> {
    root: &'a Path,
    filesystems: String,
    /// Loaded modules, as in `/proc/modules`.
    loaded: String,
    /// How the kernel was built, where that is known.
    config: Option<String>,
    /// Modules that could be loaded and those that are built in, where that is known.
    loadable: Option<String>,
    built_in: Option<String>,
}

impl<'a> Kernel<'a> {
    fn read(root: &'a Path) -> Kernel<'a> {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let release = text("proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        Kernel {
            root,
            filesystems: text("proc/filesystems").unwrap_or_default(),
            loaded: text("proc/modules").unwrap_or_default(),
            config: text(&format!("boot/config-{release}")).or_else(|| built_with(root)),
            loadable: text(&format!("lib/modules/{release}/modules.dep")),
            built_in: text(&format!("lib/modules/{release}/modules.builtin")),
        }
    }

    fn has(&self, part: &Part) -> Option<bool> {
        if self.shows(part) {
            return Some(true);
        }
        match (self.configured(part.option), self.installed(part.module)) {
            // Built in is there, whether it shows or not.
            (Some(Configured::BuiltIn), _) | (_, Some(true)) => Some(true),
            (Some(Configured::No), _) | (_, Some(false)) => Some(false),
            // A module that was built: perhaps its file is there, perhaps not.
            (Some(Configured::Module) | None, None) => None,
        }
    }

    fn shows(&self, part: &Part) -> bool {
        let module_dir = format!("sys/module/{}", part.module);
        part.paths.iter().any(|path| self.root.join(path).exists())
            || self.root.join(module_dir).exists()
            || self.loaded.lines().any(|line| line.split_whitespace().next() == Some(part.module))
            || part.filesystem.is_some_and(|name| {
                self.filesystems.lines().any(|line| line.split_whitespace().next_back() == Some(name))
            })
    }

    fn configured(&self, option: &str) -> Option<Configured> {
        let config = self.config.as_ref()?;
        let value = config.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
        Some(match value {
            Some("y") => Configured::BuiltIn,
            Some("m") => Configured::Module,
            _ => Configured::No,
        })
    }

    /// Whether the module can be loaded or is built in; `None` if this machine keeps no list of modules.
    fn installed(&self, module: &str) -> Option<bool> {
        let (loadable, built_in) = (self.loadable.as_ref()?, self.built_in.as_ref()?);
        let dashed = module.replace('_', "-");
        let is_it = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or(path);
            let name = file.split(".ko").next().unwrap_or(file);
            name == module || name == dashed
        };
        let loadable = loadable.lines().filter_map(|line| line.split(':').next()).any(is_it);
        Some(loadable || built_in.lines().any(is_it))
    }
}

enum Configured {
    BuiltIn,
    Module,
    No,
}

/// As the kernel tells it. The one that runs this program stays the same, and is asked once.
fn built_with(root: &Path) -> Option<String> {
    static THIS_KERNEL: OnceLock<Option<String>> = OnceLock::new();
    let ask = || unpack(&root.join("proc/config.gz"));
    if root == Path::new("/") { THIS_KERNEL.get_or_init(ask).clone() } else { ask() }
}

/// Done by the tool that every host has: this is the only compressed thing an agent ever reads.
fn unpack(path: &Path) -> Option<String> {
    if !path.exists() {
        return None;
    }
    let unpacked =
        Command::new("gzip").arg("-dc").arg(path).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    unpacked.status.success().then(|| String::from_utf8_lossy(&unpacked.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root folder with these files, and what is detected in it.
    fn detected(files: &[(&str, &str)]) -> BTreeMap<&'static str, bool> {
        let root = tempfile::tempdir().expect("a folder");
        let release = ("proc/sys/kernel/osrelease", "6.1.0\n");
        for (path, text) in files.iter().chain([&release]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            fs::write(path, text).expect("written");
        }
        detect(root.path())
    }

    #[test]
    fn what_cannot_be_found_out_is_left_out() {
        assert_eq!(detected(&[]), BTreeMap::new());
        assert_eq!(detected(&[("boot/config-6.1.0", "CONFIG_VXLAN=m\n")]).get("vxlan"), None);
    }

    #[test]
    fn what_is_loaded_is_there() {
        let found = detected(&[
            ("proc/net/ip_vs", ""),
            ("proc/modules", "vxlan 126976 0 - Live 0x0\n"),
            ("proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n"),
        ]);
        assert_eq!(found, BTreeMap::from([("ip_vs", true), ("vxlan", true), ("overlay", true)]));
    }

    #[test]
    fn the_kernels_configuration_is_believed() {
        let config = "CONFIG_VXLAN=y\n# CONFIG_IP_VS is not set\nCONFIG_XFRM_USER=y\nCONFIG_INET_ESP=y\nCONFIG_OVERLAY_FS=m\n";
        let found = detected(&[("boot/config-6.1.0", config)]);
        // Without the cipher there is no encryption; whether overlay's module is installed is not known.
        let expected = BTreeMap::from([
            ("ip_vs", false),
            ("vxlan", true),
            ("br_netfilter", false),
            ("nfs", false),
            ("xfrm", false),
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn installed_modules_count() {
        let found = detected(&[
            (
                "lib/modules/6.1.0/modules.dep",
                "kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/libcrc32c.ko\nkernel/fs/overlayfs/overlay.ko:\n",
            ),
            ("lib/modules/6.1.0/modules.builtin", "kernel/drivers/net/vxlan/vxlan.ko\n"),
        ]);
        assert_eq!(
            found,
            BTreeMap::from([
                ("ip_vs", true),
                ("vxlan", true),
                ("overlay", true),
                ("br_netfilter", false),
                ("nfs", false),
                ("xfrm", false)
            ])
        );
    }
}
