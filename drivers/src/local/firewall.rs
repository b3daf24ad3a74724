//! Lets the bridge's packets through a firewall that drops what nobody allowed.
//!
//! A computer that also runs Docker itself has `FORWARD` on DROP, and with `br_netfilter` loaded that holds for
//! packets between two ports of one bridge as well. Where nothing is dropped by default, no rule is made.

use super::layout::Layout;
use super::tools;
use crate::DriverError;

const TRYING: &str = "letting the bridge through the firewall";
/// Each manager that starts may have added its rule at the same time as another.
const COPIES_MAX: usize = 16;

/// Adds the rules that are needed and not there.
pub(super) fn allow(layout: &Layout) -> Result<(), DriverError> {
    for (chain, rule) in rules(layout) {
        let policy = tools::run(TRYING, "iptables", &["-w", "-S", chain])?;
        let drops = policy.lines().next().is_some_and(|line| line.ends_with(" DROP"));
        if drops && !change("-C", chain, &rule) {
            tools::run(TRYING, "iptables", &arguments("-I", chain, &rule))?;
        }
    }
    Ok(())
}

/// Removes the rules; says how many there were.
pub(super) fn remove(layout: &Layout) -> usize {
    if tools::find("iptables").is_none() {
        return 0;
    }
    rules(layout)
        .iter()
        .map(|(chain, rule)| (0..COPIES_MAX).take_while(|_| change("-D", chain, rule)).count())
        .sum()
}

fn rules(layout: &Layout) -> [(&'static str, Vec<String>); 2] {
    let bridge = layout.bridge();
    let comment = format!("skep-local-{}", layout.tag);
    let rule = |matches: &[&str]| {
        let end = ["-m", "comment", "--comment", comment.as_str(), "-j", "ACCEPT"];
        [matches, &end].concat().into_iter().map(str::to_owned).collect()
    };
    [("FORWARD", rule(&["-i", &bridge, "-o", &bridge])), ("INPUT", rule(&["-i", &bridge]))]
}

/// Whether it could be done; a rule that is not there cannot be deleted or found.
fn change(action: &str, chain: &str, rule: &[String]) -> bool {
    tools::run(TRYING, "iptables", &arguments(action, chain, rule)).is_ok()
}

fn arguments<'a>(action: &'a str, chain: &'a str, rule: &'a [String]) -> Vec<&'a str> {
    ["-w", action, chain].into_iter().chain(rule.iter().map(String::as_str)).collect()
}
