//! Machines for which no host stands, and those that only look like it.

use crate::support::{Door, MACHINES, delete};

#[tokio::test]
async fn the_machine_of_a_host_is_no_orphan() {
    let door = Door::new().await;
    door.environment("prod").await;
    let host = door.host("prod", "web-1").await;
    let refused = door.send(&delete(&format!("/v1/drivers/local/orphans/{host}"))).await;
    refused.is_problem(409, "SKP-1321");
    assert!(refused.detail().contains(host.as_str()), "{refused:?}");
}

#[tokio::test]
async fn what_a_driver_cannot_do_is_told_in_its_words() {
    let door = Door::new().await;
    std::fs::write(door.spool.path().join(MACHINES), "a file where its folder should be").unwrap();
    let refused = door.get("/v1/drivers/local/orphans").await;
    refused.is_problem(502, "SKP-2421");
    assert!(refused.detail().starts_with("driver local, listing its machines: "), "{refused:?}");
    door.send(&delete("/v1/drivers/clouds/orphans/host_1")).await.is_problem(404, "SKP-1203");
}

#[tokio::test]
async fn what_no_driver_could_have_made_is_not_there() {
    let door = Door::new().await;
    for name in ["no.tag", "%C8%BEI", &"a".repeat(49)] {
        door.send(&delete(&format!("/v1/drivers/local/orphans/{name}"))).await.is_problem(404, "SKP-1203");
    }
}

#[tokio::test]
async fn a_removal_that_is_repeated_with_its_key_is_answered_as_before_and_conditions_do_not_fit_it() {
    let door = Door::new().await;
    let path = "/v1/drivers/local/orphans/host_1";
    let keyed = || delete(path).with("idempotency-key", "once");
    let first = door.send(&keyed()).await;
    assert_eq!(
        (first.status.as_u16(), &first.body["result"]),
        (200, &serde_json::json!("gone")),
        "{first:?}"
    );
    let again = door.send(&keyed()).await;
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let conditional = door.send(&delete(path).with("if-match", "\"3\"")).await;
    assert!(conditional.status.is_client_error(), "{conditional:?}");
}
