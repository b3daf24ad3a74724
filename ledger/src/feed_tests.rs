//! Tests of the feed: who is told what, and what is forgotten. Beside it because they look at what it keeps.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::{Op, Topic};

fn txn(at_ms: i64, keys: &[(&str, &str, &str)]) -> Txn {
    let op = |(table, partition, id): &(&str, &str, &str)| Op {
        row: Key::new(table, partition, id).row(),
        value: Some(vec![]),
    };
    Txn { at_ms, ops: keys.iter().map(op).collect(), ..Txn::default() }
}

/// What a watch would answer at once.
fn now(watch: &mut Watch) -> Option<WatchEvent> {
    match pin!(watch.next()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => Some(event),
        Poll::Pending => None,
    }
}

fn revisions(event: Option<WatchEvent>) -> Vec<Revision> {
    match event {
        Some(WatchEvent::Changes(changes)) => changes.iter().map(|change| change.revision).collect(),
        other => panic!("changes are due, not {other:?}"),
    }
}

#[test]
fn a_filtered_watch_is_told_only_what_it_follows() {
    let feed = Feed::starting_at(0);
    let key = Key::new("host", "e1", "h1");
    let filters = [
        (Filter::everything(), vec![1, 2, 3, 4, 5]),
        (Filter::of([Topic::table("host")]), vec![1, 2, 3, 5]),
        (Filter::of([Topic::partition("host", "e1")]), vec![1, 2, 5]),
        (Filter::of([Topic::starting_with("host", "e1", "h1")]), vec![1, 5]),
        (Filter::of([Topic::object(&key)]), vec![1, 5]),
        (Filter::of([Topic::object(&key), Topic::table("stack")]), vec![1, 4, 5]),
        (Filter::of([]), vec![]),
    ];
    let mut early: Vec<_> =
        filters.iter().map(|(filter, _)| feed.watch_matching(0, filter.clone())).collect();
    let changes: [&[_]; 5] = [
        &[("host", "e1", "h1")],
        &[("host", "e1", "h2")],
        &[("host", "e2", "h1")],
        &[("stack", "e1", "h1")],
        &[("operation", "c", "o"), ("host", "e1", "h1")],
    ];
    for (revision, keys) in (1..).zip(changes) {
        feed.publish(revision, &txn(0, keys));
    }
    for (watch, (filter, expected)) in early.iter_mut().zip(&filters) {
        // Whoever resumes later is told the same.
        for watch in [watch, &mut feed.watch_matching(0, filter.clone())] {
            match expected.is_empty() {
                true => assert_eq!(now(watch), None, "{filter:?}"),
                false => assert_eq!(revisions(now(watch)), *expected, "{filter:?}"),
            }
            assert_eq!((now(watch), watch.position()), (None, 5), "{filter:?}");
        }
    }
}

#[test]
fn a_change_does_not_touch_watchers_that_follow_others() {
    let feed = Feed::starting_at(0);
    let _others: Vec<_> = (0..1_000)
        .map(|n| feed.watch_matching(0, Filter::of([Topic::partition("host", &format!("e{n}"))])))
        .collect();
    let change =
        Change { revision: 1, rows: vec![ChangedRow { key: Key::new("host", "e7", "h"), deleted: false }] };
    assert_eq!(feed.shared.lock().index.interested_in(&change).len(), 1);
}

#[test]
fn a_watch_that_ends_leaves_nothing() {
    let feed = Feed::starting_at(0);
    let topics = [
        Topic::table("a"),
        Topic::partition("a", "p"),
        Topic::starting_with("a", "p", "x"),
        Topic::object(&Key::new("b", "p", "i")),
        Topic::object(&Key::new("b", "p", "j")),
    ];
    let watches = [
        feed.watch(0),
        feed.watch_matching(0, Filter::of(topics.clone())),
        feed.watch_matching(0, Filter::of(topics)),
    ];
    assert_eq!(feed.meters().watches, 3);
    drop(watches);
    let state = feed.shared.lock();
    assert!(state.watches.is_empty() && state.index.is_empty(), "{state:?}");
}

#[test]
fn a_slow_watcher_is_bounded_and_starts_over() {
    let feed = Feed::starting_at(0);
    let mut slow = feed.watch(0);
    let mut narrow = feed.watch_matching(0, Filter::of([Topic::table("rare")]));
    let many = WATCH_BUFFER_CHANGES_MAX as u64 + 10;
    for revision in 1..=many {
        feed.publish(revision, &txn(0, &[("t", "p", "i")]));
    }
    assert_eq!(now(&mut slow), Some(WatchEvent::Reset(many)));
    assert_eq!((now(&mut slow), now(&mut narrow)), (None, None));
    feed.publish(many + 1, &txn(0, &[("rare", "p", "i")]));
    assert_eq!(revisions(now(&mut slow)), [many + 1]);
    assert_eq!(revisions(now(&mut narrow)), [many + 1]);
    assert_eq!(feed.meters().resets_slow, 1);
}

#[test]
fn history_is_bounded_by_number_rows_and_age() {
    let feed = Feed::starting_at(0);
    let last = HISTORY_CHANGES_MAX as u64 + 5;
    for revision in 1..=last {
        feed.publish(revision, &txn(0, &[("t", "p", "i")]));
    }
    let rare = || Filter::of([Topic::table("rare")]);
    assert_eq!(now(&mut feed.watch_matching(4, rare())), Some(WatchEvent::Reset(last)));
    assert_eq!(now(&mut feed.watch_matching(5, rare())), None);

    let id = "x".repeat(8);
    let wide = vec![("t", "p", id.as_str()); HISTORY_ROWS_MAX / 2];
    for revision in last + 1..=last + 3 {
        feed.publish(revision, &txn(0, &wide));
    }
    assert_eq!(now(&mut feed.watch_matching(last, rare())), Some(WatchEvent::Reset(last + 3)));
    assert_eq!(now(&mut feed.watch_matching(last + 1, rare())), None);

    let later_ms = HISTORY_AGE_MINUTES_MAX * 60_000 + 1;
    feed.publish(last + 4, &txn(later_ms, &[("t", "p", "i")]));
    assert_eq!(now(&mut feed.watch_matching(last + 2, rare())), Some(WatchEvent::Reset(last + 4)));
    assert_eq!(now(&mut feed.watch_matching(last + 3, rare())), None);
    assert_eq!(feed.meters().resets_history, 3);
}

#[test]
fn a_replaced_state_resets_everybody() {
    let feed = Feed::starting_at(0);
    let mut watch = feed.watch_matching(0, Filter::of([Topic::table("rare")]));
    feed.publish(1, &txn(0, &[("rare", "p", "i")]));
    feed.reset(9);
    assert_eq!(now(&mut watch), Some(WatchEvent::Reset(9)));
    assert_eq!(now(&mut watch), None);
    assert_eq!(now(&mut feed.watch(8)), Some(WatchEvent::Reset(9)));
    assert_eq!((feed.meters().resets_replaced, feed.meters().resets_history), (1, 1));
}

#[test]
fn a_watch_from_the_future_waits_for_what_is_really_new() {
    let feed = Feed::starting_at(3);
    let mut ahead = feed.watch(5);
    for revision in 4..=6 {
        feed.publish(revision, &txn(0, &[("t", "p", "i")]));
    }
    assert_eq!(revisions(now(&mut ahead)), [6]);
}

#[tokio::test]
async fn only_those_are_woken_whose_revision_is_reached() {
    let feed = Feed::starting_at(0);
    let mut third = Box::pin(feed.reached(3));
    let mut given_up = Box::pin(feed.reached(9));
    let mut context = Context::from_waker(Waker::noop());
    assert!(
        third.as_mut().poll(&mut context).is_pending() && given_up.as_mut().poll(&mut context).is_pending()
    );
    feed.advance(2);
    assert!(third.as_mut().poll(&mut context).is_pending());
    feed.publish(3, &txn(0, &[]));
    third.await;
    feed.reached(1).await;
    drop(given_up);
    assert!(feed.shared.lock().waiting.is_empty(), "who gives up is forgotten");
}
