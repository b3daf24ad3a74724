//! What three replicas promise together: nothing acknowledged is lost, every read is linearizable, every request
//! changes things once; with replicas ended, brought back, far behind, and emptied.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::{Cluster, Counter, eventually, increment, value, values};
use skep_ledger::{Ledger, Request, RequestId, TransactError, Unavailable, WatchEvent, transact};
use skep_raft::StartError;

/// Longer than every bound in the crate: who has not answered by then hangs.
const ANSWER_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_any_replica_is_read_at_every_replica() {
    let cluster = Cluster::founded().await;
    for round in 0..5 {
        for writer in 1..=3 {
            let revision = cluster.write(writer, &format!("c{writer}"), round).await;
            assert!(cluster.local(writer).revision() >= revision, "its writer can read it at once");
            for reader in 1..=3 {
                let view = cluster.fresh(reader).await;
                assert_eq!(value(&view, &format!("c{writer}")), Some(round), "at node {reader}");
            }
        }
    }
    let status = cluster.on(1, |replica| async move { replica.status().await }).await;
    let names: Vec<_> = status.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!((names, status.voters, status.failure_tolerance), (vec!["m1", "m2", "m3"], 3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_leases_too_every_replica_reads_what_was_written_before_and_after_a_leader_is_lost() {
    let mut cluster = Cluster::founded_with_leases().await;
    let (old, _) = cluster.leader().await;
    let survivor = cluster.others(old)[0];
    for round in 0..5 {
        for (writer, reader) in [(1, 2), (2, 3), (3, 1)] {
            cluster.write(writer, "c", round).await;
            assert_eq!(value(&cluster.fresh(reader).await, "c"), Some(round), "at node {reader}");
        }
    }
    cluster.kill(old).await;
    cluster.leader().await;
    cluster.write(survivor, "c", 9).await;
    cluster.start(old).await;
    for reader in 1..=3 {
        assert_eq!(value(&cluster.fresh(reader).await, "c"), Some(9), "at node {reader}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_changes_things_once() {
    let cluster = Cluster::founded().await;
    let id = RequestId::new();
    let first = cluster.transact(1, Request::repeatable(id), |tx| increment(tx, "c")).await.unwrap();
    assert_eq!((first.answer, first.replayed), (1, false));
    for node in [1, 2, 3] {
        let again = cluster.transact(node, Request::repeatable(id), |tx| increment(tx, "c")).await.unwrap();
        assert_eq!(
            (again.answer, again.revision, again.replayed),
            (1, first.revision, true),
            "at node {node}"
        );
    }
    let other = Request::new();
    assert_eq!(cluster.transact(2, other, |tx| increment(tx, "c")).await.unwrap().answer, 2);
    assert_eq!(value(&cluster.fresh(3).await, "c"), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_increments_at_different_replicas_all_count() {
    const EACH: u64 = 200;
    let cluster = Cluster::founded().await;
    let (leader, _) = cluster.leader().await;
    let proposers = [leader, cluster.others(leader)[0]].map(|node| {
        cluster.on(node, |replica| async move {
            let mut answers = vec![];
            while (answers.len() as u64) < EACH {
                match transact(&replica, Request::new(), |tx| increment(tx, "c")).await {
                    Ok(committed) => answers.push(committed.answer),
                    // The other one was faster many times in a row; nothing was changed.
                    Err(TransactError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            answers
        })
    });
    let answers: Vec<u64> = futures::future::join_all(proposers).await.into_iter().flatten().collect();
    let distinct: BTreeSet<u64> = answers.iter().copied().collect();
    assert_eq!(distinct, (1..=2 * EACH).collect(), "every value was answered to one proposer only");
    for node in 1..=3 {
        assert_eq!(value(&cluster.fresh(node).await, "c"), Some(2 * EACH));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_come_together_are_appended_together() {
    const WRITES: u64 = 256;
    let cluster = Cluster::founded().await;
    let (leader, _) = cluster.leader().await;
    let appends = cluster
        .on(leader, |replica| async move {
            let appends = || replica.storage_meters().append.distribution().count;
            let before = appends();
            let write = |number| {
                let replica = replica.clone();
                async move {
                    let name = format!("c{number}");
                    transact(&replica, Request::new(), |tx| increment(tx, &name)).await.unwrap();
                }
            };
            futures::future::join_all((0..WRITES).map(write)).await;
            appends() - before
        })
        .await;
    assert!(appends < WRITES / 4, "{WRITES} writes were {appends} appends");
    assert_eq!(values(&cluster.fresh(leader).await).len() as u64, WRITES);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_transaction_goes_through_and_a_larger_one_is_refused() {
    let cluster = Cluster::founded().await;
    let (leader, _) = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let sized = |bytes: usize| {
        move |tx: &mut skep_ledger::Tx<'_>| {
            for part in 0..8 {
                tx.put(&Counter {
                    ballast: "x".repeat(bytes / 8),
                    ..Counter::new(format!("large{part}"), 1)
                });
            }
            Ok(())
        }
    };
    let most = 4 * 1024 * 1024 - 2048;
    for _ in 0..3 {
        cluster.transact(follower, Request::new(), sized(most)).await.unwrap();
    }
    for node in 1..=3 {
        assert_eq!(value(&cluster.fresh(node).await, "large7"), Some(1));
    }
    let refused = cluster.transact(follower, Request::new(), sized(most + 2048)).await;
    assert!(matches!(refused, Err(TransactError::Unavailable(Unavailable::TooLarge { .. }))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_leader_the_cluster_goes_on_and_the_old_leader_catches_up() {
    let mut cluster = Cluster::founded().await;
    let (old, old_term) = cluster.leader().await;
    let survivor = cluster.others(old)[0];
    let mut written = BTreeMap::new();
    for (number, node) in [1, 2, 3].into_iter().cycle().take(30).enumerate() {
        cluster.write(node, &format!("c{number}"), 1).await;
        written.insert(format!("c{number}"), 1);
    }

    cluster.kill(old).await;
    let (new, new_term) = cluster.leader().await;
    assert_ne!(new, old);
    assert!(new_term > old_term);
    assert_eq!(values(&cluster.fresh(survivor).await), written);

    let late = cluster.transact(new, Request::fenced(old_term), |tx| increment(tx, "late")).await;
    assert!(matches!(late, Err(TransactError::Fenced(term)) if term == new_term), "{late:?}");
    cluster.transact(new, Request::fenced(new_term), |tx| increment(tx, "meanwhile")).await.unwrap();
    written.insert("meanwhile".into(), 1);

    cluster.start(old).await;
    assert_eq!(values(&cluster.fresh(old).await), written);
    cluster.write(old, "back", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_shut_down_hands_over_and_knows_it() {
    let mut cluster = Cluster::founded().await;
    let (old, old_term) = cluster.leader().await;
    cluster.write(old, "c", 1).await;
    let mut leads = cluster.on(old, |replica| async move { replica.leadership() }).await;
    eventually("it leads", || async { leads.borrow().ok_or("no") }).await;

    cluster.on(old, |replica| async move { replica.shutdown().await }).await;
    let ended = async { leads.wait_for(Option::is_none).await.map(|_| ()).map_err(|_| ()) };
    tokio::time::timeout(ANSWER_MAX, ended).await.unwrap().unwrap();
    let stopped = cluster.on(old, |replica| async move { replica.stopped().await });
    tokio::time::timeout(ANSWER_MAX, stopped).await.unwrap();
    cluster.kill(old).await;

    let (new, new_term) = cluster.leader().await;
    assert!(new != old && new_term == old_term + 1, "handed over, not elected after silence: {new_term}");
    assert_eq!(value(&cluster.fresh(new).await, "c"), Some(1));
    cluster.start(old).await;
    assert_eq!(value(&cluster.fresh(old).await, "c"), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_all_end_at_once() {
    let mut cluster = Cluster::founded().await;
    for round in 0..2 {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let enough = Arc::new(AtomicBool::new(false));
        for node in 1..=3 {
            let (acknowledged, enough) = (acknowledged.clone(), enough.clone());
            // Not awaited: it ends with its node.
            let _writing = cluster.on(node, move |replica| async move {
                for number in 0.. {
                    let name = format!("r{round}-n{node}-{number}");
                    let counter = Counter::new(&name, number);
                    let written = transact(&replica, Request::new(), |tx| {
                        tx.put(&counter);
                        Ok::<(), String>(())
                    });
                    if written.await.is_ok() {
                        acknowledged.lock().unwrap().insert(name);
                    }
                    enough.store(number >= 20, Ordering::Relaxed);
                }
            });
        }
        eventually("enough is written", || async {
            let count = acknowledged.lock().unwrap().len();
            if enough.load(Ordering::Relaxed) { Ok(()) } else { Err(count) }
        })
        .await;
        for node in 1..=3 {
            cluster.kill(node).await;
        }
        for node in [3, 1, 2] {
            cluster.start(node).await;
        }
        let acknowledged = acknowledged.lock().unwrap().clone();
        for node in 1..=3 {
            let found: BTreeSet<String> = values(&cluster.fresh(node).await).into_keys().collect();
            let lost: Vec<_> = acknowledged.difference(&found).collect();
            assert!(lost.is_empty(), "node {node} has lost {lost:?} of {}", acknowledged.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_for_too_long_is_sent_the_whole_state() {
    let mut cluster = Cluster::founded().await;
    let (leader, _) = cluster.leader().await;
    let away = cluster.others(leader)[0];
    let before = cluster.write(away, "deleted meanwhile", 1).await;
    cluster.kill(away).await;

    let deleted = cluster.transact(leader, Request::new(), |tx| {
        tx.delete::<Counter>("tests", "deleted meanwhile");
        Ok(())
    });
    deleted.await.unwrap();
    for number in 0..50 {
        cluster.write(leader, &format!("c{number}"), number).await;
    }
    for node in cluster.running() {
        let taken = cluster.on(node, |replica| async move { replica.snapshot_now().await }).await.unwrap();
        assert!(taken > before, "a snapshot up to {taken}");
    }
    let after = cluster.write(leader, "after the snapshot", 1).await;

    cluster.start(away).await;
    cluster.reached(away, after).await;
    assert_eq!(values(&cluster.local(away)), values(&cluster.fresh(leader).await));
    let told =
        cluster.on(away, move |replica| async move { replica.feed().watch(before).next().await }).await;
    assert!(matches!(told, WatchEvent::Reset(_)), "it was sent a log that should be gone: {told:?}");

    // It is a full replica again: it keeps what it was sent, and counts for the majority.
    cluster.kill(away).await;
    cluster.start(away).await;
    let third = cluster.others(leader).into_iter().find(|node| *node != away).unwrap();
    cluster.kill(third).await;
    cluster.write(away, "with its vote", 1).await;
    // And it can bring up another one, although its own log does not begin at the beginning.
    let last = cluster.on(away, |replica| async move { replica.snapshot_now().await }).await.unwrap();
    cluster.kill(leader).await;
    cluster.start(third).await;
    cluster.reached(third, last).await;
    assert_eq!(value(&cluster.fresh(third).await, "with its vote"), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_few_but_large_entries_is_let_go_as_well() {
    let cluster = Cluster::founded().await;
    let (leader, _) = cluster.leader().await;
    let written = 90;
    for number in 0..written {
        let large = Counter { ballast: "x".repeat(900 * 1024), ..Counter::new("large", number) };
        let put = move |tx: &mut skep_ledger::Tx<'_>| {
            tx.put(&large);
            Ok(())
        };
        cluster.transact(leader, Request::new(), put).await.unwrap();
    }
    for node in 1..=3 {
        eventually("the log is small again", || async {
            let sizes = cluster.on(node, |replica| async move { replica.storage_sizes().unwrap() }).await;
            if sizes.log_entries < written / 2 { Ok(()) } else { Err(sizes) }
        })
        .await;
    }
    assert_eq!(value(&cluster.fresh(leader).await, "large"), Some(written - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_says_that_it_cannot_decide_and_still_shows_what_it_has() {
    let mut cluster = Cluster::founded().await;
    let (leader, _) = cluster.leader().await;
    for node in 1..=3 {
        cluster.write(node, "c", node).await;
    }
    let followers = cluster.others(leader);
    cluster.reached(followers[0], cluster.fresh(leader).await.revision()).await;
    for alone in [leader, followers[0]] {
        for node in cluster.others(alone) {
            cluster.kill(node).await;
        }
        let write = cluster.transact(alone, Request::new(), |tx| {
            tx.put(&Counter::new("never acknowledged", 1));
            Ok(())
        });
        let read = cluster.on(alone, |replica| async move { replica.fresh_view().await.map(|_| ()) });
        let answers = async { tokio::join!(write, read) };
        let (write, read) = tokio::time::timeout(ANSWER_MAX, answers).await.unwrap();
        assert!(matches!(write, Err(TransactError::Unavailable(_))), "{write:?}");
        assert!(matches!(read, Err(Unavailable::NotStarted(_))), "{read:?}");
        assert_eq!(value(&cluster.local(alone), "c"), Some(3));
        for node in 1..=3 {
            if node != alone {
                cluster.start(node).await;
            }
        }
        cluster.leader().await;
    }
    cluster.write(leader, "d", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_first_founder_does_not_found_a_second_cluster() {
    an_emptied_founder_stays_out(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_founder_does_not_vote() {
    an_emptied_founder_stays_out(3).await;
}

async fn an_emptied_founder_stays_out(emptied: u64) {
    let mut cluster = Cluster::founded().await;
    cluster.write(emptied, "c", 1).await;
    cluster.kill(emptied).await;
    cluster.empty(emptied);
    let (leader, _) = cluster.leader().await;

    cluster.start(emptied).await;
    cluster.write(leader, "c", 2).await;
    let founded = cluster.on(emptied, |replica| async move { replica.found().await }).await;
    assert!(matches!(founded, Err(StartError::DataLost)), "{founded:?}");
    cluster.write(leader, "c", 3).await;

    // With a vote of the emptied one this would be a majority, but one that need not know what was acknowledged.
    cluster.kill(leader).await;
    let survivor = cluster.others(emptied)[0];
    let read = cluster.on(survivor, |replica| async move { replica.fresh_view().await.map(|_| ()) });
    let read = tokio::time::timeout(ANSWER_MAX, read).await.unwrap();
    assert!(matches!(read, Err(Unavailable::NotStarted(_))), "{read:?}");
    assert_eq!(cluster.local(emptied).revision(), 0, "it has been told nothing");

    cluster.start(leader).await;
    assert_eq!(value(&cluster.fresh(survivor).await, "c"), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_ends_before_the_founding_is_no_stranger_afterwards() {
    let mut cluster = Cluster::of_three().await;
    for node in 1..=3 {
        cluster.start(node).await;
    }
    let ready = [2, 3].map(|node| cluster.on(node, |replica| async move { replica.found().await }));
    for founded in futures::future::join_all(ready).await {
        founded.unwrap();
    }
    cluster.kill(3).await;
    let founding = cluster.on(1, |replica| async move { replica.found().await });
    cluster.start(3).await;
    founding.await.unwrap();
    cluster.on(3, |replica| async move { replica.found().await }).await.unwrap();
    cluster.leader().await;
    cluster.write(3, "c", 1).await;
    assert_eq!(value(&cluster.fresh(1).await, "c"), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_every_change_once_and_in_order_across_a_change_of_leader() {
    let mut cluster = Cluster::founded().await;
    let (leader, _) = cluster.leader().await;
    let followers = cluster.others(leader);
    let (watched, writer) = (followers[0], followers[1]);

    let told = Arc::new(Mutex::new(Vec::new()));
    let since = cluster.local(watched).revision();
    let notebook = told.clone();
    // Not awaited: it goes on until its node ends.
    let _watching = cluster.on(watched, move |replica| async move {
        let mut watch = replica.feed().watch(since);
        loop {
            match watch.next().await {
                WatchEvent::Changes(changes) => notebook.lock().unwrap().extend(changes),
                WatchEvent::Reset(revision) => panic!("started over at {revision}"),
            }
        }
    });

    let mut written = vec![];
    let step = async |cluster: &Cluster, written: &mut Vec<(u64, String)>| {
        for _ in 0..20 {
            let name = format!("c{}", written.len());
            written.push((cluster.write(writer, &name, 1).await, name));
        }
    };
    step(&cluster, &mut written).await;
    cluster.kill(leader).await;
    step(&cluster, &mut written).await;
    cluster.start(leader).await;
    step(&cluster, &mut written).await;

    eventually("all changes are told", || async {
        let told = told.lock().unwrap();
        match told.last() {
            Some(last) if Some(last.revision) == written.last().map(|(revision, _)| *revision) => Ok(()),
            last => Err(format!("{last:?}")),
        }
    })
    .await;
    let told = told.lock().unwrap();
    let told: Vec<_> = told.iter().map(|change| (change.revision, change.rows[0].key.id.clone())).collect();
    assert_eq!(told, written);
}
