//! Procedures and messages are the routes and documents of REST: nothing is missing, nothing is more.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};
use serde_json::{Map, Value};
use skep_api::{ROUTES, SERVICES};

use crate::client::POOL;

/// Routes without a procedure, and why.
const WITHOUT: &[(&str, &str, &str)] = &[
    ("GET", "/join/{token}", "a script, for machines that have no client"),
    ("GET", "/join/{token}/skep", "a program, for machines that have no client"),
    ("GET", "/lbz", "a probe: grpc.health.v1"),
    ("GET", "/leaderz", "a probe"),
    ("GET", "/livez", "a probe"),
    ("GET", "/metrics", "text for collectors of metrics"),
    ("GET", "/readyz", "a probe: grpc.health.v1"),
    ("POST", "/v1/environments/{environment}/hosts/{host}/exec", "a WebSocket"),
    ("GET", "/v1/environments/{environment}/hosts/{host}/logs", "a WebSocket"),
    ("PUT", "/v1/environments/{environment}/hosts/{host}/swarm-state", "an archive of any size"),
    ("POST", "/v1/environments/{environment}/images", "an archive of any size"),
    ("GET", "/v1/environments/{environment}/swarm-state", "an archive of any size"),
    ("GET", "/v1/openapi.json", "the description of REST: grpc.reflection.v1"),
    ("GET", "/v1/snapshots/{snapshot}/content", "an archive of any size"),
];

/// Parameters of routes that their procedures do not have, and why.
const NOT_ASKED: &[(&str, &str, &str)] = &[
    ("OperationService/GetOperation", "logs", "for streams"),
    ("WatchService/Watch", "index", "a request that waits; a stream needs none"),
    ("WatchService/Watch", "wait", "a request that waits; a stream needs none"),
];

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(skep_api::document()).unwrap());

/// A procedure and where it leads.
pub struct Route {
    pub procedure: String,
    pub method: &'static str,
    pub path: String,
    pub streams: bool,
    body: Option<FieldDescriptor>,
    descriptor: MethodDescriptor,
}

/// Every procedure that leads to a route, as its option says it.
pub fn routes() -> Vec<Route> {
    let methods = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.filter_map(route).collect()
}

fn route(descriptor: MethodDescriptor) -> Option<Route> {
    let (options, option) = (descriptor.options(), extension("route"));
    if !options.has_extension(&option) {
        return None;
    }
    let value = options.get_extension(&option);
    let route: &DynamicMessage = value.as_message().unwrap();
    let text = |name: &str| {
        let value = route.get_field_by_name(name).unwrap();
        Some(value.as_str().unwrap().to_owned()).filter(|text| !text.is_empty())
    };
    let methods =
        [("get", "GET"), ("put", "PUT"), ("post", "POST"), ("patch", "PATCH"), ("delete", "DELETE")];
    let mut found = methods.into_iter().filter_map(|(word, method)| Some((method, text(word)?)));
    let (method, path) = found.next().unwrap_or_else(|| panic!("{} leads nowhere", descriptor.full_name()));
    assert!(found.next().is_none(), "{} leads to two routes", descriptor.full_name());
    Some(Route {
        procedure: format!("{}/{}", descriptor.parent_service().name(), descriptor.name()),
        method,
        path,
        streams: descriptor.is_server_streaming(),
        body: text("body").map(|name| descriptor.input().get_field_by_name(&name).unwrap()),
        descriptor,
    })
}

fn extension(name: &str) -> ExtensionDescriptor {
    POOL.get_extension_by_name(&format!("skep.v1.{name}")).unwrap()
}

#[test]
fn every_route_has_a_procedure_or_a_reason_why_not() {
    let procedures: BTreeSet<_> = routes().into_iter().map(|route| (route.method, route.path)).collect();
    let routes: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| (*method, (*path).to_owned())).collect();
    let without: BTreeSet<_> =
        WITHOUT.iter().map(|(method, path, _)| (*method, (*path).to_owned())).collect();
    let missing: Vec<_> = routes.difference(&procedures).filter(|route| !without.contains(route)).collect();
    assert!(
        missing.is_empty(),
        "add a procedure to a service under wire/proto/skep/v1, or a line with a reason here: {missing:#?}"
    );
    let nowhere: Vec<_> = procedures.difference(&routes).collect();
    assert!(nowhere.is_empty(), "procedures that lead nowhere: {nowhere:#?}");
    for route in &without {
        assert!(routes.contains(route) && !procedures.contains(route), "{route:?} needs no reason");
    }
}

#[test]
fn every_service_is_of_routes_or_in_the_table_of_who_may_call_it() {
    for service in POOL.services() {
        let listed = SERVICES.iter().any(|(name, _)| *name == service.full_name());
        for method in service.methods() {
            let leads = method.options().has_extension(&extension("route"));
            assert_ne!(leads, listed, "{}", method.full_name());
        }
    }
}

#[test]
fn procedures_take_what_their_routes_take() {
    let mut findings = Findings::default();
    for route in routes() {
        let operation = operation(&route);
        let input = route.descriptor.input();
        let mut left: BTreeSet<String> = input.fields().map(|field| field.name().to_owned()).collect();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let is_header = parameter["in"] == "header";
            if is_header || NOT_ASKED.iter().any(|(at, what, _)| (*at, *what) == (&*route.procedure, name)) {
                continue;
            }
            if !left.remove(name) {
                findings.add(format!("{} lacks `{name}` of its route", input.full_name()));
            }
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        match (&route.body, body) {
            (None, Value::Null) => {}
            (Some(field), schema) if !schema.is_null() => {
                left.remove(field.name());
                findings.compare(schema, &field.kind(), true, field.full_name());
            }
            _ => findings
                .add(format!("{}: the route and the procedure disagree about a body", route.procedure)),
        }
        for name in left {
            findings.add(format!("{}.{name} is nothing that the route takes", input.full_name()));
        }
    }
    findings.none();
}

#[test]
fn procedures_answer_what_their_routes_answer() {
    let mut findings = Findings::default();
    for route in routes().into_iter().filter(|route| !route.streams) {
        let output = route.descriptor.output();
        let by_status: Vec<_> = output.fields().filter_map(|field| Some((status(&field)?, field))).collect();
        for (answered, response) in operation(&route)["responses"].as_object().unwrap() {
            let schema = &response["content"]["application/json"]["schema"];
            if answered == "default" {
                continue;
            }
            let kind = match by_status.iter().find(|(of, _)| of.to_string() == *answered) {
                Some((_, field)) => field.kind(),
                None if by_status.is_empty() => Kind::Message(output.clone()),
                None => {
                    findings.add(format!("{} has no field for {answered}", output.full_name()));
                    continue;
                }
            };
            findings.compare(schema, &kind, false, &format!("{} {answered}", route.procedure));
        }
    }
    let event = POOL.get_message_by_name("skep.v1.WatchEvent").unwrap();
    findings.compare(&DOCUMENT["components"]["schemas"]["Event"], &Kind::Message(event), false, "WatchEvent");
    findings.none();
}

fn operation(route: &Route) -> &'static Value {
    let operation = &DOCUMENT["paths"][&route.path][route.method.to_lowercase()];
    assert!(operation.is_object(), "{} {}", route.method, route.path);
    operation
}

fn status(field: &FieldDescriptor) -> Option<u32> {
    let (options, option) = (field.options(), extension("status"));
    options.has_extension(&option).then(|| options.get_extension(&option).as_u32().unwrap())
}

/// Where documents and messages differ.
#[derive(Default)]
struct Findings {
    found: BTreeSet<String>,
    compared: BTreeSet<(String, String, bool)>,
}

impl Findings {
    fn add(&mut self, finding: String) {
        self.found.insert(finding);
    }

    #[track_caller]
    fn none(self) {
        assert!(self.found.is_empty(), "change the messages under wire/proto/skep/v1: {:#?}", self.found);
        assert!(self.compared.len() > 20, "{} messages were compared", self.compared.len());
    }

    /// Can what the schema allows be said with this kind of value?
    fn compare(&mut self, schema: &Value, kind: &Kind, asked: bool, at: &str) {
        let schema = meant(schema);
        let said = match (word(&schema).as_str(), kind) {
            ("integer", Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64) => true,
            ("number", Kind::Double) | ("boolean", Kind::Bool) => true,
            ("string", Kind::Message(message)) => {
                let is_time = message.full_name() == "google.protobuf.Timestamp";
                is_time && schema["format"] == "date-time"
            }
            ("string", Kind::String) => schema["format"] != "date-time",
            ("any" | "map" | "object", Kind::Message(message)) if is(message, "Struct") => true,
            ("array", Kind::Message(message)) => is(message, "ListValue"),
            ("object", Kind::Message(message)) => return self.compare_fields(&schema, message, asked),
            _ => false,
        };
        if !said {
            self.add(format!("{at} is {kind:?}, which cannot say {schema}"));
        }
    }

    fn compare_fields(&mut self, schema: &Value, message: &MessageDescriptor, asked: bool) {
        let name = message.full_name();
        if !self.compared.insert((schema.to_string(), name.to_owned(), asked)) {
            return;
        }
        let properties = schema["properties"].as_object().unwrap();
        let next = message.fields().map(|field| field.number()).max().unwrap_or(0) + 1;
        for (property, schema) in properties {
            match message.get_field_by_name(property) {
                Some(field) => self.compare_field(schema, &field, asked),
                None => self.add(format!("{name} lacks `{property}` (the next number is {next}): {schema}")),
            }
        }
        for field in message.fields().filter(|field| !properties.contains_key(field.name())) {
            self.add(format!("{} is in no document", field.full_name()));
        }
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
        for field in message.fields().filter(|field| asked && !required.contains(&&Value::from(field.name())))
        {
            // What is left out would be sent as nothing, and nothing is not what is meant then.
            if !field.is_list() && !field.is_map() && !field.supports_presence() {
                self.add(format!("{} may be left out: make it optional", field.full_name()));
            }
        }
    }

    fn compare_field(&mut self, schema: &Value, field: &FieldDescriptor, asked: bool) {
        let (schema, at) = (meant(schema), field.full_name());
        match word(&schema).as_str() {
            "array" if field.is_list() => self.compare(&schema["items"], &field.kind(), asked, at),
            "map" if field.is_map() => {
                let Kind::Message(entry) = field.kind() else { unreachable!("entries are messages") };
                let value = entry.map_entry_value_field();
                self.compare(&schema["additionalProperties"], &value.kind(), asked, at);
            }
            _ if field.is_list() || field.is_map() => self.add(format!("{at} cannot say {schema}")),
            _ => self.compare(&schema, &field.kind(), asked, at),
        }
    }
}

fn is(message: &MessageDescriptor, known: &str) -> bool {
    message.full_name() == format!("google.protobuf.{known}")
}

/// The schema itself, behind references, without null, and with all its parts.
fn meant(schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return meant(DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap());
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts: Vec<_> = parts.iter().map(meant).collect();
        let properties: Map<String, Value> =
            parts.iter().flat_map(|part| part["properties"].as_object().unwrap().clone()).collect();
        let required: Vec<_> =
            parts.iter().filter_map(|part| part["required"].as_array()).flatten().collect();
        return serde_json::json!({"type": "object", "properties": properties, "required": required});
    }
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    let mut choices = choices.filter(|choice| choice["type"] != "null");
    match choices.next() {
        Some(choice) => meant(choice),
        None => schema.clone(),
    }
}

/// `object` has named fields, `map` has names of its own.
fn word(schema: &Value) -> String {
    let of = match &schema["type"] {
        Value::Array(types) => types.iter().find(|of| *of != "null").and_then(Value::as_str),
        of => of.as_str(),
    };
    match of {
        Some("object") if schema["properties"].is_null() => "map".into(),
        Some(of) => of.into(),
        None => "any".into(),
    }
}
