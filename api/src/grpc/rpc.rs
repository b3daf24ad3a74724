//! Which procedure leads to which route, as the description of the services says it.

use std::sync::LazyLock;

use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, MethodDescriptor, Value,
};
use skep_wire::proto::API_DESCRIPTORS;

/// One procedure that leads to a route.
#[derive(Debug)]
pub(super) struct Rpc {
    /// `/skep.v1.HostService/ListHosts`.
    pub(super) path: String,
    pub(super) input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
    pub(super) method: Method,
    /// The route's path with placeholders.
    pub(super) route: String,
    /// The field that becomes the request's body.
    pub(super) body: Option<FieldDescriptor>,
    /// Is it answered with events?
    pub(super) streams: bool,
    /// Where the answer goes, by the status with which it comes; empty if it is the message.
    pub(super) by_status: Vec<(u16, FieldDescriptor)>,
    /// Where the data of an event go, by the event's name; those of others are the message.
    pub(super) by_event: Vec<(String, FieldDescriptor)>,
}

/// The fields of `skep.v1.Route` that name a path.
const METHODS: &[(&str, Method)] = &[
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("patch", Method::PATCH),
    ("delete", Method::DELETE),
];

/// The build makes it, and a test walks it; what cannot be read has no procedures.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(API_DESCRIPTORS).unwrap_or_default());

static ALL: LazyLock<Vec<Rpc>> = LazyLock::new(|| {
    let services = POOL.services().collect::<Vec<_>>();
    services.iter().flat_map(|service| service.methods()).filter_map(|method| Rpc::of(&method)).collect()
});

/// Every procedure that leads to a route.
pub(super) fn all() -> &'static [Rpc] {
    &ALL
}

/// The full names of all services that are described.
pub(super) fn services() -> impl Iterator<Item = String> {
    POOL.services().map(|service| service.full_name().to_owned())
}

impl Rpc {
    fn of(method: &MethodDescriptor) -> Option<Rpc> {
        let route = option(&method.options(), "skep.v1.route")?;
        let route = route.as_message()?;
        let text = |field: &str| {
            let value = route.get_field_by_name(field)?.as_str()?.to_owned();
            Some(value).filter(|value| !value.is_empty())
        };
        let (verb, path) = METHODS.iter().find_map(|(word, verb)| Some((verb.clone(), text(word)?)))?;
        let (input, output) = (method.input(), method.output());
        let marked =
            |mark| output.fields().filter_map(move |field| Some((option(&field.options(), mark)?, field)));
        let by_status = marked("skep.v1.status").filter_map(|(status, field)| {
            let status = u16::try_from(status.as_u32()?).ok()?;
            Some((status, field))
        });
        let by_event = marked("skep.v1.event_data")
            .filter_map(|(event, field)| Some((event.as_str()?.to_owned(), field)));
        Some(Rpc {
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            body: text("body").and_then(|name| input.get_field_by_name(&name)),
            method: verb,
            route: path,
            streams: method.is_server_streaming(),
            by_status: by_status.collect(),
            by_event: by_event.collect(),
            input: input.clone(),
            output: output.clone(),
        })
    }
}

/// One of our own options, if it is given.
fn option(options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = POOL.get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}
