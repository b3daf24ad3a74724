//! What load balancers see.

use http::Method;
use skep_api::Readiness;

use crate::support::{Ask, Door};

async fn probed(door: &Door, path: &str) -> u16 {
    door.send(&Ask::new(Method::GET, path).without_token()).await.status.as_u16()
}

#[tokio::test]
async fn a_draining_manager_is_told_from_one_that_cannot_serve() {
    let door = Door::new().await;
    for (readiness, ready, balanced) in [
        (Readiness::Serving, 200, 200),
        (Readiness::Draining, 503, 404),
        (Readiness::Unusable("the disk is full".into()), 503, 503),
    ] {
        *door.manager.readiness.lock().unwrap() = readiness;
        assert_eq!(probed(&door, "/livez").await, 200);
        assert_eq!(probed(&door, "/readyz").await, ready);
        assert_eq!(probed(&door, "/lbz").await, balanced);
    }
}

#[tokio::test]
async fn what_was_checked_is_listed_and_how_it_is_only_for_those_who_may_see_the_cluster() {
    let door = Door::new().await;
    let ask = |path: &str| Ask::new(Method::GET, path);
    let stranger = door.send(&ask("/readyz?verbose").without_token()).await;
    assert_eq!((stranger.status.as_u16(), &stranger.body), (200, &"leader: ok\ndisk: ok\nok\n".into()));
    let wrong = door.send(&ask("/readyz?verbose").with("authorization", "Bearer skp_one_wrong")).await;
    assert_eq!(wrong.body, stranger.body, "a wrong token is none");
    let known = door.send(&ask("/readyz?verbose")).await;
    assert_eq!(known.body, "leader: ok (planted detail)\ndisk: ok (7 MiB are free)\nok\n");

    *door.manager.readiness.lock().unwrap() = Readiness::Unusable("secret".into());
    let unusable = door.send(&ask("/readyz?verbose").without_token()).await;
    assert_eq!(unusable.status, 503);
    assert_eq!(unusable.body, "leader: not ok\ndisk: ok\nunusable\n");
    assert_eq!(door.send(&ask("/livez?verbose").without_token()).await.body, "process: ok\nok\n");
    assert_eq!(door.send(&ask("/readyz?verbose=false")).await.body, "unusable\n");
}

#[tokio::test]
async fn only_the_leader_says_that_it_leads() {
    let door = Door::new().await;
    assert_eq!(probed(&door, "/leaderz").await, 200);
    *door.manager.leads.lock().unwrap() = false;
    assert_eq!(probed(&door, "/leaderz").await, 503);
}

#[tokio::test]
async fn probes_tell_no_details() {
    let door = Door::new().await;
    *door.manager.readiness.lock().unwrap() = Readiness::Unusable("secret".into());
    for path in ["/readyz", "/lbz"] {
        let answer = door.send(&Ask::new(Method::GET, path).without_token()).await;
        assert_eq!(answer.body, "unusable\n");
    }
}
