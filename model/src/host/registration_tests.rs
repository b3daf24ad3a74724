//! Machines that offer themselves: who is let in, once, and what is refused.

use skep_ledger::{Ledger, MemoryLedger, Request, TransactError, transact};
use uuid::Uuid;

use super::*;
use crate::environment::EnvironmentWish;
use crate::host::{self, HostState};

const ENVIRONMENT: u128 = 100;

fn token_wish(uses: u32) -> TokenWish {
    TokenWish {
        id: "t1".into(),
        role: WishedRole::Worker,
        labels: BTreeMap::from([("zone".to_owned(), "eu-1".to_owned())]),
        life: TOKEN_LIFE,
        uses,
    }
}

async fn change<A: Send + Serialize + serde::de::DeserializeOwned>(
    ledger: &MemoryLedger,
    rule: impl FnMut(&mut Tx<'_>) -> Ruling<A> + Send,
) -> Result<A, Refusal> {
    match transact(ledger, Request::new(), rule).await {
        Ok(committed) => Ok(committed.answer),
        Err(TransactError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

/// An environment without hosts and with a token for so many.
async fn environment_for(uses: u32) -> std::sync::Arc<MemoryLedger> {
    let ledger = MemoryLedger::new();
    let wish = EnvironmentWish {
        id: EnvironmentId::new(Uuid::from_u128(ENVIRONMENT)),
        operation: OperationId::new(Uuid::now_v7()),
        name: "prod".into(),
        template: "default".into(),
        hosts: vec![],
        driver: "local".into(),
        options: BTreeMap::new(),
        change: Default::default(),
    };
    let made = change(&ledger, |tx| {
        environment::wish(tx, &wish)?;
        let environment = environment::usable(tx, "prod")?;
        create_token(tx, &environment, &token_wish(uses))
    });
    made.await.expect("made");
    ledger
}

async fn offered(ledger: &MemoryLedger, key: &[u8], name: &str, address: &str) -> Result<HostId, Refusal> {
    let (host, operation) = (HostId::new(Uuid::now_v7()), OperationId::new(Uuid::now_v7()));
    let offer =
        Offer { token: "t1", key_hash: key, name, address, node: None, adopt: false, host, operation };
    change(ledger, |tx| enrol(tx, &offer)).await
}

fn found(ledger: &MemoryLedger, id: &HostId) -> Host {
    let environment = EnvironmentId::new(Uuid::from_u128(ENVIRONMENT));
    let stored = ledger.view().get::<Host>(environment.as_str(), id.as_str()).expect("readable");
    stored.expect("there").record
}

#[tokio::test]
async fn a_machine_becomes_one_host_however_often_it_asks() {
    let ledger = environment_for(1).await;
    let id = offered(&ledger, b"key", "web-1", "10.0.0.7").await.expect("let in");
    let host = found(&ledger, &id);
    assert_eq!((host.role, host.driver.as_deref()), (WishedRole::Worker, None));
    assert_eq!(host.placement.labels["zone"], "eu-1");
    assert!(host.placement.outstanding(), "its node gets the labels when it has joined");
    let HostState { word, .. } = host.state();
    assert_eq!(word, "unreachable", "its agent has not linked yet");

    // The answer was lost; the token is used up meanwhile.
    assert_eq!(offered(&ledger, b"key", "web-1", "10.0.0.7").await, Ok(id.clone()));
    let refused = offered(&ledger, b"other", "web-2", "10.0.0.8").await.expect_err("is refused");
    assert_eq!(refused, Refusal::RegistrationTokenUseless);
    // Its certificate has run out; the key is enough, and only this one.
    for (key, answer) in [(b"key".as_slice(), Registered::Welcome), (b"other", Registered::TokenUsed)] {
        let registered = change(&ledger, |tx| register(tx, id.as_str(), key, false)).await;
        assert_eq!(registered, Ok(answer));
    }
}

#[tokio::test]
async fn an_address_or_a_name_that_is_taken_is_refused_and_uses_nothing_up() {
    let ledger = environment_for(2).await;
    offered(&ledger, b"a", "web-1", "10.0.0.7").await.expect("let in");
    let refused = offered(&ledger, b"b", "web-2", "10.0.0.7").await.expect_err("is refused");
    assert_eq!(refused.code(), "SKP-1504");
    assert_eq!(refused, Refusal::AddressTaken { address: "10.0.0.7".into(), host: "web-1".into() });
    let refused = offered(&ledger, b"b", "web-1", "10.0.0.8").await.expect_err("is refused");
    assert_eq!(refused.code(), "SKP-1301");
    for address in ["", "eth0", "0.0.0.0", "127.0.0.1", "224.0.0.1"] {
        let refused = offered(&ledger, b"b", "web-2", address).await.expect_err("is refused");
        assert_eq!(refused.code(), "SKP-1202", "{address}");
    }
    offered(&ledger, b"b", "web-2", "10.0.0.8").await.expect("the token is good for one more");
}

#[tokio::test]
async fn a_machine_whose_host_was_removed_can_be_added_again() {
    let ledger = environment_for(2).await;
    let id = offered(&ledger, b"key", "web-1", "10.0.0.7").await.expect("let in");
    let removed = change(&ledger, |tx| {
        let environment = environment::usable(tx, "prod")?;
        host::remove(tx, &environment, "web-1", OperationId::new(Uuid::now_v7()), None)
    });
    removed.await.expect("asked for");
    let refused = offered(&ledger, b"key", "web-1", "10.0.0.7").await.expect_err("is refused");
    assert_eq!(refused.code(), "SKP-1302", "not before it is gone");
    let environment = EnvironmentId::new(Uuid::from_u128(ENVIRONMENT));
    change(&ledger, |tx| host::forget(tx, &environment, &id)).await.expect("forgotten");
    let again = offered(&ledger, b"key", "web-1", "10.0.0.7").await.expect("let in");
    assert_ne!(again, id);
}

#[tokio::test]
async fn a_token_ends_is_revoked_and_goes_with_its_environment() {
    let ledger = environment_for(1).await;
    let view = ledger.view();
    let token = view.get::<RegistrationToken>(CLUSTER, "t1").expect("readable").expect("there");
    let ends = token.expires_at;
    assert!(is_useful(&view, "t1", ends - SignedDuration::from_secs(1)).expect("readable"));
    assert!(!is_useful(&view, "t1", ends).expect("readable"));

    let revoked = change(&ledger, |tx| {
        let environment = environment::usable(tx, "prod")?;
        revoke_token(tx, &environment, "t1")
    });
    revoked.await.expect("revoked");
    let refused = offered(&ledger, b"key", "web-1", "10.0.0.7").await.expect_err("is refused");
    assert_eq!(refused, Refusal::RegistrationTokenUseless);

    for (wish, code) in [
        (TokenWish { uses: 0, ..token_wish(1) }, "SKP-1202"),
        (TokenWish { life: SignedDuration::from_hours(24 * 366), ..token_wish(1) }, "SKP-1202"),
        (
            TokenWish { labels: BTreeMap::from([("com.docker.x".into(), String::new())]), ..token_wish(1) },
            "SKP-1202",
        ),
    ] {
        let refused = change(&ledger, |tx| {
            let environment = environment::usable(tx, "prod")?;
            create_token(tx, &environment, &wish)
        });
        assert_eq!(refused.await.expect_err("is refused").code(), code);
    }
}

/// A wished host has labels in the same way.
#[tokio::test]
async fn a_wished_host_has_its_labels_from_the_start() {
    let ledger = environment_for(1).await;
    let wished = async |labels: &[(&str, &str)]| {
        let wish = host::HostWish {
            id: HostId::new(Uuid::now_v7()),
            operation: OperationId::new(Uuid::now_v7()),
            name: "web-1".into(),
            driver: "local".into(),
            options: BTreeMap::new(),
            skip_preflight: false,
            labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        };
        let made = change(&ledger, |tx| {
            let environment = environment::usable(tx, "prod")?;
            host::wish(tx, &environment, &wish, None)
        });
        made.await.map(|_| found(&ledger, &wish.id).placement)
    };
    let refused = wished(&[("com.docker.x", "")]).await.expect_err("is Docker's own");
    assert_eq!(refused.code(), "SKP-1202");
    let placement = wished(&[("rack", "b")]).await.expect("is wished");
    assert_eq!(placement.labels["rack"], "b");
    assert!(placement.outstanding(), "its node gets the labels when it has joined");
}
