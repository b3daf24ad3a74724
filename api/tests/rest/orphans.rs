//! Machines for which no host stands, and those that only look like it.

use crate::support::{Door, delete};

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
    let refused = door.send(&delete("/v1/drivers/local/orphans/no.tag")).await;
    refused.is_problem(502, "SKP-2421");
    assert!(refused.detail().contains("letters, digits"), "{refused:?}");
    door.send(&delete("/v1/drivers/clouds/orphans/host_1")).await.is_problem(404, "SKP-1203");
}
