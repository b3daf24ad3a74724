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
