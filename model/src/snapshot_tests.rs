//! When backups are due, which are kept, and what may be wished.

use skep_ledger::{Ledger as _, MemoryLedger, Request, transact};
use uuid::Uuid;

use super::*;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(minutes * 60).expect("is a time")
}

fn snapshot(minutes: i64) -> Snapshot {
    Snapshot {
        id: SnapshotId::new(Uuid::from_u128(minutes as u128)),
        manager: "m1".into(),
        path: format!("/backups/{minutes}"),
        created_at: at(minutes),
        verified_at: at(minutes),
        epoch: 1,
        snapshot_revision: 7,
        rows: 3,
        file_bytes: 100,
        sha256: "ab".into(),
        removal: false,
    }
}

fn wish() -> ScheduleWish {
    ScheduleWish {
        enabled: true,
        every_minutes: 60,
        keep: 2,
        directory: None,
        recipients: vec!["age1".into()],
    }
}

async fn done<A: Serialize + serde::de::DeserializeOwned + Send>(
    ledger: &MemoryLedger,
    rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
) -> A {
    transact(ledger, Request::new(), rule).await.expect("is allowed").answer
}

#[tokio::test]
async fn a_new_cluster_is_backed_up_soon_and_then_as_often_as_wished() {
    let ledger = MemoryLedger::new();
    let due = |minutes| is_due(&ledger.view(), 1, at(minutes)).expect("reads");
    assert!(!due(60), "there is no schedule");
    done(&ledger, |tx| bootstrap(tx, Some("age1"))).await;
    assert!(!due(9));
    assert!(due(10));
    done(&ledger, |tx| taken(tx, &snapshot(10))).await;
    assert!(!due(10 + 12 * 60 - 1));
    assert!(due(10 + 12 * 60));
    assert!(is_due(&ledger.view(), 2, at(11)).expect("reads"), "a backup of an older epoch does not count");
}

#[tokio::test]
async fn a_failure_is_told_and_tried_again_after_a_while() {
    let ledger = MemoryLedger::new();
    done(&ledger, |tx| bootstrap(tx, Some("age1"))).await;
    ledger.set_now(at(20));
    done(&ledger, |tx| failed(tx, "no space left")).await;
    assert_eq!(health(&ledger.view()).expect("reads").error.as_deref(), Some("no space left"));
    assert!(!is_due(&ledger.view(), 1, at(24)).expect("reads"));
    assert!(is_due(&ledger.view(), 1, at(25)).expect("reads"));
    done(&ledger, |tx| taken(tx, &snapshot(26))).await;
    assert_eq!(health(&ledger.view()).expect("reads").error, None);
}

#[tokio::test]
async fn without_a_key_or_switched_off_nothing_is_due() {
    let ledger = MemoryLedger::new();
    done(&ledger, |tx| bootstrap(tx, None)).await;
    assert!(!is_due(&ledger.view(), 1, at(1_000)).expect("reads"));
    done(&ledger, |tx| set_schedule(tx, &ScheduleWish { enabled: false, ..wish() }).map(|_| ())).await;
    assert!(!is_due(&ledger.view(), 1, at(1_000)).expect("reads"));
}

#[tokio::test]
async fn the_oldest_go_when_there_are_more_than_are_kept() {
    let ledger = MemoryLedger::new();
    done(&ledger, |tx| set_schedule(tx, &wish()).map(|_| ())).await;
    for minutes in [1, 2, 3] {
        done(&ledger, |tx| taken(tx, &snapshot(minutes))).await;
    }
    let going = || -> Vec<bool> {
        list(&ledger.view()).expect("reads").into_iter().map(|(known, _)| known.removal).collect()
    };
    assert_eq!(going(), [false, false, true], "newest first");
    done(&ledger, |tx| removed(tx, &snapshot(1).id)).await;
    assert_eq!(going(), [false, false]);
    done(&ledger, |tx| remove(tx, snapshot(3).id.as_str()).map(|_| ())).await;
    assert_eq!(going(), [true, false]);
}

#[test]
fn a_wish_outside_its_bounds_is_refused() {
    for wrong in [
        ScheduleWish { every_minutes: 1, ..wish() },
        ScheduleWish { keep: 0, ..wish() },
        ScheduleWish { directory: Some("relative".into()), ..wish() },
        ScheduleWish { recipients: vec![], ..wish() },
    ] {
        assert!(matches!(check(&wrong), Err(Refusal::InvalidValue { .. })), "{wrong:?}");
    }
}
