//! Environment templates of Rancher 1.6: what their infrastructure stacks mean here.
//!
//! Rancher brought as stacks what Docker Swarm and Skep do by themselves: health checks, scheduling, names. Those are
//! accepted and noted. Stacks that set something are read into the option that it is here. Any other is refused by its
//! line: an environment that lacks what its template says would be a surprise.

use super::document::{Draft, mtu, range, ruled};
use crate::options;
use crate::recipe::node::{Node, Value};
use crate::recipe::reader::{Key, Reader, read};

/// A stack that Rancher's catalog knows.
struct Known {
    /// The last part of its id: `library:infra*ipsec` ends with `ipsec`.
    id: &'static str,
    here: Here,
}

/// What it is here.
enum Here {
    /// Needed no more, because of this.
    Done(&'static str),
    /// Its answers are options; being there at all may be one, too.
    Sets(fn(&mut Draft)),
}

/// Every stack that means something.
const KNOWN: &[Known] = &[
    Known { id: "healthcheck", here: Here::Done("Docker checks the health of tasks and starts them anew") },
    Known { id: "scheduler", here: Here::Done("the swarm places tasks") },
    Known { id: "network-services", here: Here::Done("Docker gives services names and addresses") },
    Known { id: "network-policy-manager", here: Here::Done("each stack has networks of its own") },
    Known {
        id: "portainer",
        here: Here::Done("skep host, skep stack and skep ps show hosts, stacks and tasks"),
    },
    Known { id: "swarm", here: Here::Sets(|_| {}) },
    Known { id: "nfs", here: Here::Sets(|_| {}) },
    Known { id: "vxlan", here: Here::Sets(|_| {}) },
    // IPsec is what encrypts overlay networks here as well.
    Known { id: "ipsec", here: Here::Sets(|draft| draft.options.encrypted = true) },
];

/// One stack of the list. Its answers are read once it is known which it is.
const STACK_KEYS: &[Key<Stack>] = &[
    read("name", "for people", |cx, node, stack| stack.name = cx.text(node).unwrap_or_default()),
    read("template_id", "which of Rancher's stacks", |cx, node, stack| stack.id = cx.text(node)),
    read("template_version_id", "its version", |cx, node, _| drop(cx.text(node))),
    read("answers", "its settings", |_, _, _| {}),
];

#[derive(Default)]
struct Stack {
    name: String,
    id: Option<String>,
}

/// Settings of stacks that are options here, and those that only meant something within Rancher.
const ANSWERS: &[Key<Draft>] = &[
    read("MANAGER_SCALE", "swarm.managers", |cx, node, draft| {
        draft.swarm_managers =
            cx.value(node, |text| ruled(text, options::swarm_managers, "write 1, 3, 5 or 7"));
    }),
    read("MTU", "network.mtu", |cx, node, draft| draft.mtu = cx.value(node, mtu)),
    read("SUBNET", "network.addressPools", |cx, node, draft| {
        draft.options.address_pools.extend(cx.value(node, range));
    }),
    read("NFS_SERVER", "nfs.server", |cx, node, draft| {
        draft.nfs.get_or_insert_default().server = cx.text(node).unwrap_or_default();
    }),
    read("MOUNT_DIR", "nfs.path", |cx, node, draft| {
        draft.nfs.get_or_insert_default().path = cx.text(node).unwrap_or_default();
    }),
    read("NFS_VERS", "nfs.options", nfs_option),
    read("MOUNT_OPTS", "nfs.options", nfs_option),
    read("ON_REMOVE", "", within_rancher),
    read("DOCKER_BRIDGE", "", within_rancher),
    read("RANCHER_DEBUG", "", within_rancher),
    read("RANCHER_HAIRPIN_MODE", "", within_rancher),
    read("RANCHER_PROMISCUOUS_MODE", "", within_rancher),
    read("HOST_PORTS", "", within_rancher),
];

fn nfs_option(cx: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    draft.nfs.get_or_insert_default().options.extend(cx.text(node));
}

fn within_rancher(_: &mut Reader<'_>, _: &Node, _: &mut Draft) {}

/// Reads the list of stacks.
pub(super) fn read_stacks(cx: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    cx.each_item(node, |cx, item| {
        let mut stack = Stack::default();
        cx.keys(item, STACK_KEYS, &mut stack);
        let Some(id) = stack.id else {
            return cx.fail_hint(
                item,
                "the stack does not say which it is",
                "add template_id, or leave it out",
            );
        };
        let last = id.rsplit(['*', ':']).next().unwrap_or_default();
        match KNOWN.iter().find(|known| known.id == last).map(|known| &known.here) {
            Some(Here::Done(why)) => draft.notes.push(format!("stack {} is not needed: {why}", stack.name)),
            Some(Here::Sets(set)) => {
                set(draft);
                if let Some(answers) = answers(item) {
                    cx.keys(answers, ANSWERS, draft);
                }
            }
            None => cx.fail_hint(
                item,
                format!("Rancher's stack '{id}' has no counterpart here"),
                "leave it out, and deploy it as a recipe if it is needed: skep up",
            ),
        }
    });
}

fn answers(stack: &Node) -> Option<&Node> {
    let Value::Map(entries) = &stack.value else { return None };
    entries.iter().find(|(name, _)| name.text == "answers").map(|(_, answers)| answers)
}
