//! What is said to those who may not, or who ask for what cannot be.

use serde_json::{Value, json};
use skep_wire::proto::v1::kv_client::KvClient;
use skep_wire::proto::v1::{GetRequest, Key};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::client::{Client, POOL, info, message, method};
use crate::contract::routes;
use crate::support::Door;

/// They ask for no token in REST either.
const OPEN: &[&str] = &[
    "SessionService/AskForDeviceCode",
    "SessionService/ExchangeDeviceCode",
    "SessionService/SetUp",
    "TokenService/ListAuthProviders",
    "TokenService/SignIn",
];

#[tokio::test]
async fn every_procedure_is_closed_without_a_token() {
    let door = Door::new().await;
    let stranger = Client::new(&door).without_token();
    let wrong = stranger.with("authorization", "Bearer skp_one_wrong");
    let mut walked = 0;
    for route in routes().into_iter().filter(|route| !OPEN.contains(&route.procedure.as_str())) {
        let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let request = Value::Object(names.map(|name| (name.to_owned(), json!("x"))).collect());
        for client in [&stranger, &wrong] {
            let refused = match route.streams {
                true => client.follow(&route.procedure, request.clone()).await.err().unwrap(),
                false => client.call(&route.procedure, request.clone()).await.unwrap_err(),
            };
            assert_eq!(refused.code(), Code::Unauthenticated, "{}", route.procedure);
            let info = info(&refused);
            assert_eq!((info.reason.as_str(), info.domain.as_str()), ("UNAUTHENTICATED", "skep"));
            assert_eq!(info.metadata["code"], "SKP-1101");
        }
        walked += 1;
    }
    assert!(walked > 80, "only {walked} procedures");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let door = Door::new().await;
    let client = Client::new(&door);
    // Whatever a name is made of, it stays in its place in the path.
    for name in ["nowhere", "a/b?c=d#e", "ä ö%2F", ".."] {
        let refused =
            client.call("EnvironmentService/GetEnvironment", json!({"environment": name})).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
        let info = info(&refused);
        assert_eq!((info.reason.as_str(), info.metadata["code"].as_str()), ("NOT_FOUND", "SKP-1203"));
        assert_eq!((info.metadata["what"].as_str(), info.metadata["name"].as_str()), ("environment", name));
        let id = refused.get_error_details().request_info().unwrap().request_id.clone();
        assert_eq!(refused.metadata().get("skep-request-id").unwrap(), id.as_str());
    }
}

#[tokio::test]
async fn nobody_may_more_than_over_rest() {
    let door = Door::new().await;
    door.environment("prod").await;
    let client = Client::new(&door);
    let key = json!({"environment": "prod", "wish": {"name": "ci", "role": "readonly"}});
    let told = client.call("TokenService/CreateEnvironmentToken", key).await.unwrap();
    let token = told.message["token"].as_str().unwrap();
    let reader = client.with("authorization", &format!("Bearer {token}"));
    reader.call("EnvironmentService/GetEnvironment", json!({"environment": "prod"})).await.unwrap();
    let refused =
        reader.call("EnvironmentService/PauseEnvironment", json!({"environment": "prod"})).await.unwrap_err();
    assert_eq!((refused.code(), info(&refused).reason.as_str()), (Code::PermissionDenied, "FORBIDDEN"));
    let get = GetRequest { key: Some(Key { partition: "p".into(), id: "i".into() }), consistency: 0 };
    let refused = KvClient::new(door.router.clone()).get(reader.request(get.clone())).await.unwrap_err();
    assert_eq!((refused.code(), info(&refused).reason.as_str()), (Code::PermissionDenied, "FORBIDDEN"));
    KvClient::new(door.router.clone()).get(client.request(get)).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_taken_exists_already() {
    let door = Door::new().await;
    door.environment("prod").await;
    let wish = json!({"wish": {"name": "prod", "template": "default"}});
    let refused = Client::new(&door).call("EnvironmentService/CreateEnvironment", wish).await.unwrap_err();
    assert_eq!((refused.code(), info(&refused).reason.as_str()), (Code::AlreadyExists, "NAME_TAKEN"));
}

#[tokio::test]
async fn every_place_that_is_wrong_is_named() {
    let door = Door::new().await;
    door.environment("prod").await;
    let recipe = "services:\n  web:\n    image: nginx\n    prots: [80]\n";
    let wish = json!({"environment": "prod", "stack": "shop", "wish": {"recipe": recipe}});
    let refused = Client::new(&door).call("StackService/DeployStack", wish).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let details = refused.get_error_details();
    let places = &details.bad_request().unwrap().field_violations;
    assert!(places.iter().any(|place| place.field == "services.web.prots"), "{places:?}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let door = Door::new().await;
    let client = Client::new(&door);
    let refused = client.call("EnvironmentService/GetEnvironment", json!({})).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("environment"), "{refused:?}");
    let refused = client.call("EnvironmentService/CreateEnvironment", json!({})).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("name"), "{refused:?}");
}

#[tokio::test]
async fn a_field_that_is_not_known_is_not_skipped() {
    let door = Door::new().await;
    door.environment("prod").await;
    // A message of another procedure, which has fields of higher numbers.
    let newer = message(
        &method("HostService/UpdateHost").input(),
        json!({"environment": "prod", "wish": {"spec": {"role": "worker"}}}),
    );
    let get = method("EnvironmentService/GetEnvironment");
    let refused = Client::new(&door).send(&get, newer).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("field 3 of skep.v1.GetEnvironmentRequest"), "{refused:?}");
}

#[tokio::test]
async fn the_description_is_for_those_who_may_come_in() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let door = Door::new().await;
    let client = Client::new(&door);
    let ask = |what| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(what) };
        futures::stream::iter([request])
    };
    let services = || ask(MessageRequest::ListServices(String::new()));
    let mut reflection = ServerReflectionClient::new(client.router());
    let stranger = client.without_token();
    let refused = reflection.server_reflection_info(stranger.request(services())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let mut answers =
        reflection.server_reflection_info(client.request(services())).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in POOL.services() {
        assert!(names.contains(&service.full_name().to_owned()), "{} in {names:?}", service.full_name());
    }
    for own in skep_api::SERVICES {
        assert!(names.contains(&own.0.to_owned()), "{} in {names:?}", own.0);
    }
    let symbol = ask(MessageRequest::FileContainingSymbol("skep.v1.Operation".into()));
    let mut answers = reflection.server_reflection_info(client.request(symbol)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
}

#[tokio::test]
async fn whoever_has_no_time_left_is_told_so() {
    let door = Door::new().await;
    // What nobody has reached yet is waited for.
    let client = Client::new(&door).with("skep-min-revision", "1000000");
    let ask = |timeout| {
        let client = client.with("grpc-timeout", timeout);
        async move { client.call("EnvironmentService/ListEnvironments", json!({})).await.unwrap_err() }
    };
    let refused = ask("20m").await;
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
    let refused = ask("soon").await;
    assert_eq!(
        (refused.code(), info(&refused).metadata["code"].as_str()),
        (Code::InvalidArgument, "SKP-1001")
    );
    assert!(refused.message().contains("soon"), "{refused:?}");
}
