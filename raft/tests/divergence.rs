//! A replica whose state is not that of the others is noticed, and stops if it is the one that is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "shared with other tests, which use the rest of it")]
mod cluster;

use std::time::Duration;

use cluster::{Cluster, eventually};
use skep_raft::{Replica, StartError};
use skep_storage::RowChange;

/// Longer than every bound in the crate: who has not answered by then hangs.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Changes the last byte of a row of a replica that does not run.
async fn change_a_row(cluster: &Cluster, node: u64) {
    let store = cluster.store(node).await;
    let view = store.view();
    let (key, mut value) =
        view.scan_prefix(b"").map(Result::unwrap).filter(|(_, value)| !value.is_empty()).last().unwrap();
    *value.last_mut().unwrap() ^= 1;
    let position = view.position().unwrap().unwrap();
    store.apply(vec![RowChange::Put(key, value)], position).unwrap();
    // The change is durable with the next sync.
    store.begin_epoch(1).unwrap();
}

async fn three_with_one_changed(changed: u64) -> Cluster {
    let mut cluster = Cluster::founded().await;
    for number in 0..20 {
        cluster.write(1, &format!("c{number}"), number).await;
    }
    let revision = cluster.fresh(changed).await.revision();
    cluster.reached(changed, revision).await;
    cluster.kill(changed).await;
    change_a_row(&cluster, changed).await;
    cluster.start(changed).await;
    cluster.leader().await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_that_differs_from_two_equal_ones_stops_and_stays_out() {
    let mut cluster = three_with_one_changed(3).await;
    let must_end = cluster.on(3, |replica| async move { replica.must_end().await });
    eventually("the rows are compared", || async {
        cluster.on(3, |replica| async move { replica.compare_rows().await }).await;
        let members = cluster.on(1, |replica| async move { replica.status().await.members }).await;
        let stopped = members.iter().any(|member| member.id == 3 && !member.diverged.is_empty());
        if stopped { Ok(()) } else { Err(members) }
    })
    .await;
    let why = tokio::time::timeout(ANSWER_MAX, must_end).await.unwrap();
    assert!(why.contains("--reset-from-peers") && why.contains("[1, 2]"), "{why}");

    cluster.kill(3).await;
    let refused = eventually("the folder is free", || async {
        match Replica::start(cluster.config(3)).await {
            Err(StartError::Storage(error)) => Err(error.to_string()),
            other => Ok(other),
        }
    })
    .await;
    assert!(matches!(refused, Err(StartError::Condemned(_))), "{:?}", refused.err());
    cluster.write(1, "without it", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_that_differ_both_raise_the_alarm_and_none_stops() {
    let mut cluster = three_with_one_changed(3).await;
    cluster.kill(2).await;
    cluster.leader().await;
    for node in [1, 3] {
        eventually("the alarm", || async {
            cluster.on(node, |replica| async move { replica.compare_rows().await }).await;
            let members = cluster.on(node, |replica| async move { replica.status().await.members }).await;
            let own = members.into_iter().find(|member| member.id == node).unwrap().diverged;
            if own.is_empty() { Err(own) } else { Ok(()) }
        })
        .await;
    }
    cluster.write(1, "still", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_replicas_raise_no_alarm() {
    let cluster = Cluster::founded().await;
    for number in 0..600 {
        cluster.write(1, &format!("c{}", number % 7), number).await;
    }
    for node in 1..=3 {
        cluster
            .on(node, |replica| async move {
                replica.compare_chain().await;
                replica.compare_rows().await;
            })
            .await;
    }
    let members = cluster.on(1, |replica| async move { replica.status().await.members }).await;
    assert!(members.iter().all(|member| member.diverged.is_empty()), "{members:?}");
}
