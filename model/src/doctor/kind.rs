//! Every kind of finding: its code, how bad it is, what causes it, what helps.
//!
//! Codes are stable and never reused. `docs/reference/findings.md` is made from this list.

use std::fmt::Write;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work, or will not.
    Error,
    /// It works, and somebody should look at it.
    Warning,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Stable.
    pub code: &'static str,
    /// The same for programs.
    pub reason: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where it comes from.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
}

impl Kind {
    /// The worst first, then by code.
    pub(super) fn order(&self) -> (Severity, &'static str) {
        (self.severity, self.code)
    }
}

/// All of them, by code.
pub const KINDS: &[&Kind] = &[
    &AGENT_UNREACHABLE,
    &ENGINE_UNREACHABLE,
    &NOT_IN_SWARM,
    &NODE_DOWN,
    &CLOCK_DIFFERS,
    &CLOCK_WRONG,
    &FEATURE_MISSING,
    &ENCRYPTION_MISSING,
    &ROUTING_MESH_MISSING,
    &DISK_LOW,
    &DISK_FULL,
    &ENGINE_VERSIONS_DIFFER,
    &ADDRESS_DUPLICATE,
    &HOSTNAME_DUPLICATE,
    &NOTHING_PASSES,
    &MANAGEMENT_BLOCKED,
    &GOSSIP_TCP_BLOCKED,
    &GOSSIP_UDP_BLOCKED,
    &OVERLAY_BLOCKED,
    &PACKETS_TOO_SMALL,
    &PACKETS_LOST_ON_THE_WAY,
    &CERTIFICATE_ENDED,
    &CERTIFICATE_NOT_RENEWED,
    &LINK_TOO_NARROW,
    &BRIDGE_TOO_WIDE,
    &ENGINE_NETWORK_TOO_WIDE,
    &ENCRYPTION_NEEDED,
    &NFS_UNUSABLE,
];

/// No manager reaches the agent.
pub const AGENT_UNREACHABLE: Kind = Kind {
    code: "SKF-101",
    reason: "AGENT_UNREACHABLE",
    severity: Severity::Error,
    cause: "The machine is off, its agent does not run, or it cannot dial any manager's peer port (8444 unless it was set \
            otherwise).",
    fix: "On the host: systemctl status skep-agent, then journalctl -u skep-agent. It names the managers that it tries.",
};

/// The agent answers, its engine does not.
pub const ENGINE_UNREACHABLE: Kind = Kind {
    code: "SKF-102",
    reason: "ENGINE_UNREACHABLE",
    severity: Severity::Error,
    cause: "Docker Engine does not run on the host, hangs, or listens at another socket than the agent's.",
    fix: "On the host: systemctl status docker, then systemctl restart docker.",
};

/// Not a node.
pub const NOT_IN_SWARM: Kind = Kind {
    code: "SKF-103",
    reason: "NOT_IN_SWARM",
    severity: Severity::Warning,
    cause: "The environment has a swarm, and the host is no node of it: it is still joining, or cannot.",
    fix: "See what it waits for: skep host inspect HOST, skep op ls. A host that is kept out has a finding of the network too.",
};

/// A node that is down.
pub const NODE_DOWN: Kind = Kind {
    code: "SKF-104",
    reason: "NODE_DOWN",
    severity: Severity::Error,
    cause: "The swarm's managers have lost the node: its engine does not reach any of them at 2377/tcp, or does not run.",
    fix: "Mend what else is found of this host first. If nothing is: systemctl restart docker on the host.",
};

/// More than a second.
pub const CLOCK_DIFFERS: Kind = Kind {
    code: "SKF-111",
    reason: "CLOCK_DIFFERS",
    severity: Severity::Warning,
    cause: "The clocks of the host and of the manager are not kept by the same time servers, or by none.",
    fix: "On both: timedatectl; then systemctl enable --now systemd-timesyncd (or chrony).",
};

/// More than 15 seconds.
pub const CLOCK_WRONG: Kind = Kind {
    code: "SKF-112",
    reason: "CLOCK_WRONG",
    severity: Severity::Error,
    cause: "A clock is so far off that certificates and join tokens are taken for not yet, or no longer, valid.",
    fix: "Find out which is wrong: date on the host and on the manager; then systemctl restart systemd-timesyncd (or chrony).",
};

/// Something that every swarm needs.
pub const FEATURE_MISSING: Kind = Kind {
    code: "SKF-121",
    reason: "KERNEL_FEATURE_MISSING",
    severity: Severity::Error,
    cause: "The kernel was built without a part that Docker Swarm needs, or its module is not installed.",
    fix: "Install the distribution's complete kernel (on clouds often linux-image-generic or linux-modules-extra), and restart.",
};

/// Something that only encrypted networks need.
pub const ENCRYPTION_MISSING: Kind = Kind {
    code: "SKF-122",
    reason: "ENCRYPTION_FEATURE_MISSING",
    severity: Severity::Warning,
    cause: "The kernel cannot encrypt packets (xfrm). Only overlay networks with the option encrypted need that.",
    fix: "As for SKF-121, if encrypted networks are wanted.",
};

/// Something that only the routing mesh needs.
pub const ROUTING_MESH_MISSING: Kind = Kind {
    code: "SKF-123",
    reason: "ROUTING_MESH_MISSING",
    severity: Severity::Warning,
    cause: "The kernel has no IPVS. While one host of the environment lacks it, services have no address of their own and \
            cannot publish ports through the routing mesh, only with mode: host.",
    fix: "As for SKF-121, on every host that lacks it.",
};

/// Below 10 %, or 2 GiB.
pub const DISK_LOW: Kind = Kind {
    code: "SKF-131",
    reason: "DISK_LOW",
    severity: Severity::Warning,
    cause: "Less than 10 % or 2 GiB can still be written; images, volumes or logs of containers have grown.",
    fix: "On the host: docker system df, docker system prune; limit the logs of containers, or give the machine a larger disk.",
};

/// Below 2 %, or 200 MiB.
pub const DISK_FULL: Kind = Kind {
    code: "SKF-132",
    reason: "DISK_FULL",
    severity: Severity::Error,
    cause: "Less than 2 % or 200 MiB can still be written: images cannot be pulled, and a swarm manager stops when it \
            cannot write its log.",
    fix: "As for SKF-131, now.",
};

/// Not of one version.
pub const ENGINE_VERSIONS_DIFFER: Kind = Kind {
    code: "SKF-141",
    reason: "ENGINE_VERSIONS_DIFFER",
    severity: Severity::Warning,
    cause: "The hosts run engines of different versions. During an upgrade that is so; for long it is tried by nobody.",
    fix: "Bring all hosts to one version, one host at a time: skep host evacuate HOST, upgrade, skep host uncordon HOST.",
};

/// One address, two machines.
pub const ADDRESS_DUPLICATE: Kind = Kind {
    code: "SKF-151",
    reason: "ADDRESS_DUPLICATE",
    severity: Severity::Error,
    cause: "Two machines have the same address, for instance because one was copied from the other.",
    fix: "Give one of them another address, and make the host anew: skep host rm HOST, skep host create HOST.",
};

/// One name, two machines.
pub const HOSTNAME_DUPLICATE: Kind = Kind {
    code: "SKF-152",
    reason: "HOSTNAME_DUPLICATE",
    severity: Severity::Warning,
    cause: "Two machines call themselves the same. Docker shows nodes by that name, so that they cannot be told apart.",
    fix: "On one of them: hostnamectl set-hostname NAME, then systemctl restart docker.",
};

/// Everything is blocked.
pub const NOTHING_PASSES: Kind = Kind {
    code: "SKF-201",
    reason: "NOTHING_PASSES",
    severity: Severity::Error,
    cause: "There is no way between the hosts, or a filter drops everything that a swarm needs.",
    fix: "Let 2377/tcp, 7946/tcp, 7946/udp and 4789/udp pass between all hosts of the environment: in the hosts' own filters \
          and in the cloud's security groups. If it is none of them: ping, ip route.",
};

/// 2377/tcp.
pub const MANAGEMENT_BLOCKED: Kind = Kind {
    code: "SKF-202",
    reason: "MANAGEMENT_BLOCKED",
    severity: Severity::Error,
    cause: "A filter stops 2377/tcp, by which nodes reach the swarm's managers: the host cannot join or is seen as down.",
    fix: "Let 2377/tcp pass from all hosts to the swarm's managers: in the hosts' own filters and in the cloud's security groups.",
};

/// 7946/tcp.
pub const GOSSIP_TCP_BLOCKED: Kind = Kind {
    code: "SKF-203",
    reason: "GOSSIP_TCP_BLOCKED",
    severity: Severity::Error,
    cause: "A filter stops 7946/tcp, by which nodes tell each other about networks: names of services are not found, or late.",
    fix: "Let 7946/tcp pass between all hosts: in the hosts' own filters and in the cloud's security groups.",
};

/// 7946/udp.
pub const GOSSIP_UDP_BLOCKED: Kind = Kind {
    code: "SKF-204",
    reason: "GOSSIP_UDP_BLOCKED",
    severity: Severity::Error,
    cause: "A filter stops 7946/udp, by which nodes notice each other: containers on one host are not found from the other.",
    fix: "Let 7946/udp pass between all hosts: in the hosts' own filters and in the cloud's security groups.",
};

/// 4789/udp.
pub const OVERLAY_BLOCKED: Kind = Kind {
    code: "SKF-205",
    reason: "OVERLAY_BLOCKED",
    severity: Severity::Error,
    cause: "A filter stops 4789/udp, which carries overlay networks: the swarm looks well, and containers on different hosts do \
            not reach each other.",
    fix: "Let 4789/udp pass between all hosts: in the hosts' own filters and in the cloud's security groups. Some virtual \
          networks use this port themselves and keep it from their guests.",
};

/// The way is too narrow for overlay networks.
pub const PACKETS_TOO_SMALL: Kind = Kind {
    code: "SKF-211",
    reason: "PACKETS_TOO_SMALL",
    severity: Severity::Error,
    cause: "Packets as large as overlay networks make them do not pass: small answers arrive, large ones hang.",
    fix: "Let the environment's networks be made for what passes: skep env update ENV --mtu BYTES, then remove and deploy its \
          stacks again; or make the network between the hosts carry more.",
};

/// The way is narrower than the interfaces say.
pub const PACKETS_LOST_ON_THE_WAY: Kind = Kind {
    code: "SKF-212",
    reason: "PACKETS_LOST_ON_THE_WAY",
    severity: Severity::Warning,
    cause: "The way carries less than the sender's interface lets out. Overlay networks fit, other large packets may be lost.",
    fix: "Set the MTU of the hosts' interfaces to what passes: ip link set dev INTERFACE mtu BYTES, and in the host's \
          network configuration.",
};

/// A node that nobody believes any more.
pub const CERTIFICATE_ENDED: Kind = Kind {
    code: "SKF-241",
    reason: "NODE_CERTIFICATE_ENDED",
    severity: Severity::Error,
    cause: "The certificate with which the host is a node of the swarm is not valid any more, so no other node speaks with \
            it. The machine was off for long, or its clock is wrong.",
    fix: "Mend the clock if that is found too; then take the host out and in again: on the host, docker swarm leave --force; \
          Skep joins it anew.",
};

/// Docker should have renewed it long ago.
pub const CERTIFICATE_NOT_RENEWED: Kind = Kind {
    code: "SKF-242",
    reason: "NODE_CERTIFICATE_NOT_RENEWED",
    severity: Severity::Warning,
    cause: "Docker renews the certificate of a node when half to four fifths of its life are over. This one is in its last tenth: \
            the node does not reach a manager of the swarm, or the managers cannot agree.",
    fix: "See whether the swarm has its quorum: skep env inspect ENVIRONMENT; and whether 2377/tcp passes. Replace the \
          certificates of all nodes: skep env rotate-ca ENVIRONMENT.",
};

/// A host joined whose link carries less than the environment's networks were made for.
pub const LINK_TOO_NARROW: Kind = Kind {
    code: "SKF-251",
    reason: "LINK_TOO_NARROW",
    severity: Severity::Error,
    cause: "The host's link carries less than the environment's overlay networks were made for: large packets between \
            containers on this host and on others are lost without a word.",
    fix: "Let the environment's networks be made for what its narrowest link carries: skep env update ENV --mtu auto. \
          Networks that exist keep their size: remove and deploy their stacks again. Or give the link what the others have.",
};

/// Docker's bridge for tasks.
pub const BRIDGE_TOO_WIDE: Kind = Kind {
    code: "SKF-252",
    reason: "BRIDGE_TOO_WIDE",
    severity: Severity::Warning,
    cause: "docker_gwbridge, over which tasks reach the world, was there before the host joined, or was made for a wider \
            link: large packets from tasks to the world are lost.",
    fix: "Take the host out and in again: skep host rm HOST; on a machine of your own then docker network rm docker_gwbridge; \
          and add it again. It is made for the host's link when the host joins.",
};

/// Docker's bridge for everything else.
pub const ENGINE_NETWORK_TOO_WIDE: Kind = Kind {
    code: "SKF-253",
    reason: "ENGINE_NETWORK_TOO_WIDE",
    severity: Severity::Warning,
    cause: "docker0, the network of containers outside of the swarm and of image builds, is made for more than the host's link \
            carries. Docker was there before the host registered, so Skep leaves its settings alone.",
    fix: "On the host: put \"mtu\": BYTES into /etc/docker/daemon.json, then systemctl restart docker; one host at a time, \
          after skep host evacuate HOST.",
};

/// Encrypted networks are wished and cannot be had.
pub const ENCRYPTION_NEEDED: Kind = Kind {
    code: "SKF-254",
    reason: "ENCRYPTION_NEEDED",
    severity: Severity::Error,
    cause: "The environment's overlay networks are encrypted, and the host's kernel cannot encrypt packets (xfrm, ESP with \
            AES-GCM): such a host is kept out of the swarm; one that is in it gets nothing from the others.",
    fix: "As for SKF-121, or do without: skep env update ENV --encrypted off.",
};

/// Volumes on NFS will not come up there.
pub const NFS_UNUSABLE: Kind = Kind {
    code: "SKF-255",
    reason: "NFS_UNUSABLE",
    severity: Severity::Warning,
    cause: "The host cannot use the environment's NFS server; that was found when it joined, or before the last deployment. \
            Deployments with volumes of driver nfs are refused until it can.",
    fix: "Let the host reach the server at 2049/tcp and write what it exports; a kernel without an NFS client needs the \
          distribution's complete kernel. Then: skep env apply ENV, which has hosts try it again.",
};

/// The reference page `docs/reference/findings.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Findings of a diagnosis\n\n\
         What `skep doctor env NAME` can find. Codes never change their meaning and are never used for anything else. An error \
         means that something does not work or will not; with a warning it works, and somebody should look at it.\n",
    );
    for Kind { code, reason, severity, cause, fix } in KINDS {
        let _ = write!(page, "\n## {code} {reason} ({severity})\n\n{cause}\n\n**What helps.** {fix}\n");
    }
    page
}
