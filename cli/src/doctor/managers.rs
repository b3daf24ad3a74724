//! `skep doctor server`: the managers, each asked by itself.
//!
//! [`about_cluster`] and [`about_member`] are functions of what was answered; only [`check`] asks.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::checks::{Check, tell};
use crate::client::Client;
use crate::failure::Failure;
use crate::session::Session;
use crate::value::{list_at, text_at};

/// A certificate renews itself long before; one that is due so soon has not been renewed.
const CERTIFICATE_DUE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// More than a healthy follower is ever behind.
const BEHIND_MAX: u64 = 1_000;

pub(super) async fn check(session: &Session) -> Result<(), Failure> {
    let client = session.client()?;
    // What one manager knows will do; it may be that there is no leader.
    let cluster = match client.get(&["v1", "cluster"], &[]).await {
        Ok(cluster) => cluster,
        Err(failure) if failure.may_pass() => client.get_stale(&["v1", "cluster"]).await?,
        Err(failure) => return Err(failure),
    };
    let mut checks = about_cluster(&cluster);
    for member in list_at(&cluster, "/members") {
        let ready = match text_at(member, "/api_url") {
            Some(url) => Some(readiness(&url, session).await),
            None => None,
        };
        checks.extend(about_member(member, &cluster, ready, Timestamp::now()));
    }
    tell(&checks, "skep doctor server", session)
}

/// What a manager says of itself, line by line, or why it says nothing.
async fn readiness(url: &str, session: &Session) -> Result<String, Failure> {
    let answer = Client::of_one(url, &session.settings, session.screen.clone())?
        .raw(reqwest::Method::GET, &["readyz"], &[("verbose", "")], &reqwest::header::HeaderMap::new(), None)
        .await?;
    answer.text().await
}

fn about_cluster(cluster: &Value) -> Vec<Check> {
    let leader = match text_at(cluster, "/leader") {
        Some(leader) => Check::ok("cluster", "leader", leader),
        None => Check::error(
            "cluster",
            "leader",
            "nobody leads: nothing can be changed",
            "start managers until more than half of the voters run; if they are lost: docs/how-to/the-majority-is-lost.md",
        ),
    };
    let tolerance = match (cluster["failure_tolerance"].as_u64(), cluster["voters"].as_u64()) {
        (Some(0), Some(1)) => Check::warning(
            "cluster",
            "failures",
            "one manager: if it is lost, so is everything that is in no backup",
            "add two: skep cluster join-command; and keep backups: skep snapshot schedule --help",
        ),
        (Some(0), _) => Check::warning(
            "cluster",
            "failures",
            "no further manager may fail",
            "bring the others back, or replace them: skep cluster join-command",
        ),
        (tolerance, _) => {
            Check::ok("cluster", "failures", format!("{} may fail", tolerance.unwrap_or_default()))
        }
    };
    let diverged = list_at(cluster, "/diverged");
    let state = match diverged.is_empty() {
        true => Check::ok("cluster", "state", "the same on all managers"),
        false => Check::error(
            "cluster",
            "state",
            format!("{} managers have another state than the rest", diverged.len()),
            "docs/how-to/a-managers-data-is-damaged.md",
        ),
    };
    vec![leader, tolerance, state]
}

/// A line of `/readyz?verbose`: `log: ok`, perhaps with more behind it; the last one sums up.
fn is_ok(line: &str) -> bool {
    line.rsplit_once(": ").map_or(line, |(_, state)| state).starts_with("ok")
}

fn about_member(
    member: &Value,
    cluster: &Value,
    ready: Option<Result<String, Failure>>,
    now: Timestamp,
) -> Vec<Check> {
    let about = format!("manager/{}", text_at(member, "/name").unwrap_or_default());
    let mut checks = vec![match ready {
        None => Check::warning(&about, "ready", "its address is not known", "wait until it has been heard"),
        Some(Err(failure)) => Check::error(
            &about,
            "ready",
            failure.to_string(),
            "on its machine: systemctl status skep-server, journalctl -u skep-server",
        ),
        Some(Ok(text)) => match text.lines().find(|line| !is_ok(line)) {
            None => Check::ok(
                &about,
                "ready",
                text.lines().filter(|line| line.contains(':')).collect::<Vec<_>>().join(", "),
            ),
            Some(line) => Check::warning(&about, "ready", line, "on its machine: journalctl -u skep-server"),
        },
    }];
    let behind = member["lag_entries"].as_u64().unwrap_or_default();
    checks.push(match behind > BEHIND_MAX {
        true => Check::warning(
            &about,
            "log",
            format!("{behind} entries behind"),
            "if that stays so, its disk or its network is too slow: skep cluster status",
        ),
        false => Check::ok(&about, "log", format!("{behind} entries behind")),
    });
    let version = text_at(member, "/version").unwrap_or_default();
    let others = list_at(cluster, "/members").iter().filter_map(|other| text_at(other, "/version"));
    if others.into_iter().any(|other| !version.is_empty() && other != version) {
        checks.push(Check::warning(
            &about,
            "version",
            format!("{version}, and not all have it"),
            "upgrade the others; managers of two versions should not stay together",
        ));
    }
    if let Some(expires) =
        text_at(member, "/certificate_expires_at").and_then(|text| text.parse::<Timestamp>().ok())
    {
        checks.push(match expires.duration_since(now) < CERTIFICATE_DUE {
            true => Check::warning(
                &about,
                "certificate",
                format!("expires at {expires}"),
                "it should have been renewed by itself; renew it: skep cluster rotate-certificates",
            ),
            false => Check::ok(&about, "certificate", format!("until {expires:.0}")),
        });
    }
    if member["draining"] == true {
        let name = text_at(member, "/name").unwrap_or_default();
        checks.push(Check::warning(
            &about,
            "drain",
            "serves nothing new",
            format!("let it serve again: skep cluster drain {name} --off"),
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(checks: &[Check]) -> Vec<String> {
        let line =
            |row: Value| format!("{} {} {}", row["about"], row["check"], row["state"]).replace('"', "");
        checks.iter().map(Check::row).map(line).collect()
    }

    #[test]
    fn a_healthy_cluster_has_nothing_but_ok() {
        let member = json!({"name": "m1", "version": "1", "lag_entries": 0,
                            "certificate_expires_at": "2027-02-27T00:00:00Z", "draining": false});
        let cluster =
            json!({"leader": "m1", "failure_tolerance": 1, "voters": 3, "diverged": [], "members": [member]});
        assert_eq!(
            told(&about_cluster(&cluster)),
            ["cluster leader ok", "cluster failures ok", "cluster state ok"]
        );
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
        let ready = Some(Ok("leader: ok (manager 1 leads)\nlog: ok\nok\n".to_owned()));
        let checks = about_member(&member, &cluster, ready, now);
        assert_eq!(told(&checks), ["manager/m1 ready ok", "manager/m1 log ok", "manager/m1 certificate ok"]);
    }

    #[test]
    fn whatever_is_wrong_is_told_with_what_helps() {
        let member = json!({"name": "m2", "version": "1", "lag_entries": 5_000,
                            "certificate_expires_at": "2026-11-30T00:00:00Z", "draining": true});
        let cluster = json!({"leader": null, "failure_tolerance": 0, "voters": 3, "diverged": ["m2"],
                             "members": [member, {"version": "2"}]});
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().unwrap();
        let ready = Some(Ok("leader: ok\ndisk: nearly full\nok\n".to_owned()));
        let mut checks = about_cluster(&cluster);
        checks.extend(about_member(&member, &cluster, ready, now));
        assert_eq!(
            told(&checks),
            [
                "cluster leader error",
                "cluster failures warning",
                "cluster state error",
                "manager/m2 ready warning",
                "manager/m2 log warning",
                "manager/m2 version warning",
                "manager/m2 certificate warning",
                "manager/m2 drain warning",
            ]
        );
        assert!(checks.iter().all(|check| !check.row()["fix"].as_str().unwrap_or_default().is_empty()));
    }
}
