//! The names under which clients know the cluster: those of a load balancer, a virtual address.
//!
//! Every manager has them in its certificate as subject alternative names (RFC 5280, 4.2.1.6), beside addresses of its
//! own. They can change while the managers run: each one renews its certificate when it finds other ones here.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use skep_ledger::{Record, Tx, View};

use crate::{CLUSTER, Refusal, Ruling};

/// Names beyond this many make every handshake longer, and are somebody's mistake.
pub const SANS_MAX: usize = 32;

/// Longest name (RFC 1035, 2.3.4).
const NAME_LENGTH_MAX: usize = 253;

/// Longest part of a name.
const LABEL_LENGTH_MAX: usize = 63;

/// Names below it are the managers' own, for each other.
const INTERNAL_ZONE: &str = ".skep.internal";

/// What every manager's certificate has beside the manager's own addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sans {
    /// DNS names in lower case and IP addresses, each once.
    pub names: Vec<String>,
}

impl Record for Sans {
    const TABLE: &'static str = "sans";
    fn partition(&self) -> &str {
        CLUSTER
    }
    fn id(&self) -> String {
        CLUSTER.into()
    }
}

/// Sets them, all at once.
pub fn set(tx: &mut Tx<'_>, wish: &[String]) -> Ruling<Sans> {
    if wish.len() > SANS_MAX {
        return Err(refused(format!("a list of {}", wish.len()), format!("at most {SANS_MAX}")));
    }
    let mut names = vec![];
    for name in wish {
        let name = parsed(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let sans = Sans { names };
    if tx.get::<Sans>(CLUSTER, CLUSTER)?.is_none_or(|stored| stored.record != sans) {
        tx.put(&sans);
    }
    Ok(sans)
}

/// Writes down what the managers were founded with, where nothing was ever set.
pub fn note(tx: &mut Tx<'_>, founded_with: &[String]) -> Ruling<()> {
    if tx.get::<Sans>(CLUSTER, CLUSTER)?.is_none() {
        tx.put(&Sans { names: founded_with.to_vec() });
    }
    Ok(())
}

/// What was set; nothing if nobody has yet, which leaves certificates as they are.
pub fn get(view: &View) -> Ruling<Option<Sans>> {
    Ok(view.get::<Sans>(CLUSTER, CLUSTER)?.map(|stored| stored.record))
}

/// A name as certificates have it.
fn parsed(name: &str) -> Ruling<String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let name = name.to_ascii_lowercase();
    let good_label = |label: &str| {
        (1..=LABEL_LENGTH_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A number at the end is an address that is wrong (RFC 1123, 2.1).
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let good = name.len() <= NAME_LENGTH_MAX
        && name.split('.').all(good_label)
        && !name.rsplit('.').next().is_some_and(is_number)
        && !name.ends_with(INTERNAL_ZONE);
    let allowed = "a DNS name such as skep.example.com or an IP address, without a port or a scheme";
    if good { Ok(name) } else { Err(refused(name, allowed.to_owned())) }
}

fn refused(value: String, allowed: String) -> Refusal {
    Refusal::InvalidValue { what: "names", value, allowed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_ledger::{Ledger as _, MemoryLedger, Request, transact};

    #[test]
    fn names_are_what_certificates_can_have() {
        for (given, kept) in [
            ("skep.example.com", "skep.example.com"),
            ("Skep.Example.COM", "skep.example.com"),
            ("skep", "skep"),
            ("10.0.0.100", "10.0.0.100"),
            ("FD00:0::1", "fd00::1"),
            ("1a.example", "1a.example"),
        ] {
            assert_eq!(parsed(given).expect(given), kept);
        }
        let long = format!("{}.com", "a".repeat(64));
        for wrong in [
            "",
            ".",
            "a..b",
            "https://skep.example.com",
            "skep.example.com:8443",
            "10.0.0",
            "10.0.0.256",
            "*.example.com",
            "-a.com",
            "a b",
            "ä.com",
            &long,
            "managers.c1.skep.internal",
            &"a.".repeat(200),
        ] {
            parsed(wrong).expect_err(wrong);
        }
    }

    #[tokio::test]
    async fn what_managers_were_founded_with_is_noted_until_something_is_set() {
        let ledger = MemoryLedger::new();
        let names = |text: &[&str]| text.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(get(&ledger.view()).expect("readable"), None);
        let (founded, wished) =
            (names(&["old.example.com"]), names(&["LB.example.com", "10.0.0.9", "lb.example.com"]));
        transact(&*ledger, Request::new(), |tx| note(tx, &founded)).await.expect("is noted");
        assert_eq!(get(&ledger.view()).expect("readable"), Some(Sans { names: founded.clone() }));
        transact(&*ledger, Request::new(), |tx| set(tx, &wished)).await.expect("is set");
        transact(&*ledger, Request::new(), |tx| note(tx, &founded)).await.expect("changes nothing");
        let kept = Sans { names: names(&["lb.example.com", "10.0.0.9"]) };
        assert_eq!(get(&ledger.view()).expect("readable"), Some(kept));
        let many: Vec<String> = (0..=SANS_MAX).map(|number| format!("n{number}")).collect();
        let refused = transact(&*ledger, Request::new(), |tx| set(tx, &many)).await.expect_err("is refused");
        assert!(refused.to_string().contains("at most 32"), "{refused}");
        transact(&*ledger, Request::new(), |tx| set(tx, &[])).await.expect("is set");
        assert_eq!(
            get(&ledger.view()).expect("readable"),
            Some(Sans::default()),
            "none is set, and stays so"
        );
    }
}
