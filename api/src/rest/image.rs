//! Images brought onto the hosts without a registry.
//!
//! The archive is written to a file first and then sent to every active host at once: hosts are not equally fast, and
//! a stream shared among them would be as slow as the slowest and as broken as the first that fails.

use std::io;
use std::path::Path;

use aws_lc_rs::digest::{Context as Hasher, SHA256};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bollard::query_parameters::{CreateImageOptionsBuilder, ImportImageOptionsBuilder};
use bollard::{Docker, body_try_stream};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use skep_ledger::Stored;
use skep_model::environment;
use skep_model::host::Host;
use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Bare, BodyHash, Keyed, answered};
use crate::extract::{Params, Place, Reference, Within, next_chunk};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::List;

/// Hosts that get an archive at the same time. More would only share the managers' line, and each holds a stream.
const HOSTS_AT_ONCE_MAX: usize = 16;

/// Read from the file at once: large enough that an archive of gigabytes does not cost a million system calls.
const CHUNK_BYTES: usize = 256 * 1024;

/// What the engine says in front of the name of each image in an archive.
const LOADED: &[&str] = &["Loaded image: ", "Loaded image ID: "];

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(load))
}

/// One image on one host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
struct Image {
    /// The host's name.
    host: String,
    /// The image's name; null if it could not be loaded.
    image: Option<String>,
    /// Is it there now?
    ok: bool,
    /// Why not.
    message: String,
}

/// What the archive is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Loading {
    /// The archive is a root file system; an image of this name is made from it (`NAME:TAG`).
    import: Option<String>,
    /// Only say to which hosts it would be brought.
    #[serde(default)]
    #[param(required = false)]
    dry_run: bool,
}

/// Brings an image archive onto every active host of an environment.
///
/// The body is a tar as `docker save` writes it. The answer comes when every host has answered; one that failed does
/// not hold up the others.
#[utoipa::path(post, path = "/v1/environments/{environment}/images", operation_id = "load_images",
    params(Loading, Keyed, Within),
    request_body(content = String, content_type = "application/x-tar", description = "The archive"),
    responses((status = 200, body = List<Image>, description = "What each host has answered"), Refused))]
async fn load(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    Params(loading): Params<Loading>,
    Bare(change): Bare,
    body: Body,
) -> Reply<Response> {
    let view = api.ledger().fresh_view().await?;
    let environment = environment::find(&view, &reference)?;
    let mut hosts = view.list::<Host>(environment.id.as_str())?;
    let total = hosts.len();
    hosts.retain(|host| host.is_active());
    if hosts.is_empty() {
        let detail = format!("environment '{}' has no active host ({total} in all)", environment.name);
        return Err(
            Problem::new(Code::NoActiveHost, detail).hinting("wait until a host is active: skep host ls")
        );
    }
    if loading.dry_run {
        let would = hosts.iter().map(|host| item(host.name.as_str(), None, false, "would be loaded".into()));
        return Ok(List::at(view.revision(), would.collect()).into_response());
    }
    let (archive, hash) = spooled(&api.parts.spool, body).await?;
    let change = change.with_body(hash);
    let loading = async { Ok(load_everywhere(&api, &hosts, &archive, loading.import.as_deref()).await) };
    let committed = api.once(&change, loading).await?;
    let list = List::at(committed.revision, committed.answer.clone());
    Ok(answered(&committed, list))
}

/// Writes the body to a file that is gone when its handle is.
async fn spooled(folder: &Path, body: Body) -> Reply<(NamedTempFile, BodyHash)> {
    let cannot = |error: io::Error| {
        let detail = format!("keeping the archive in {}: {error}", folder.display());
        Problem::new(Code::SpoolFailed, detail)
    };
    let archive = tempfile::Builder::new().prefix("skep-image-").tempfile_in(folder).map_err(cannot)?;
    let mut file = File::from_std(archive.reopen().map_err(cannot)?);
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut hash) = (0, Hasher::new(&SHA256));
    while let Some(chunk) = next_chunk(&mut chunks).await? {
        let chunk = chunk.map_err(|error| {
            Problem::new(
                Code::MalformedRequest,
                format!("the archive broke off after {bytes} bytes: {error}"),
            )
        })?;
        bytes += chunk.len();
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(cannot)?;
    }
    file.flush().await.map_err(cannot)?;
    match bytes {
        0 => Err(Problem::new(Code::MalformedRequest, "the request has no body; a tar archive is expected")),
        _ => {
            let mut hashed = BodyHash::default();
            hashed.copy_from_slice(hash.finish().as_ref());
            Ok((archive, hashed))
        }
    }
}

async fn load_everywhere(
    api: &Api,
    hosts: &[Stored<Host>],
    archive: &NamedTempFile,
    import: Option<&str>,
) -> Vec<Image> {
    let load = async |host: &Stored<Host>| {
        let docker = api.parts.hub.docker(host.id.as_str(), None);
        let loaded = load_on(&docker, archive, import).await;
        images(host.name.as_str(), loaded.map_err(|error| error.to_string()))
    };
    let loading: Vec<_> = hosts.iter().map(load).collect();
    let loaded: Vec<_> = stream::iter(loading).buffer_unordered(HOSTS_AT_ONCE_MAX).collect().await;
    let mut items: Vec<Image> = loaded.into_iter().flatten().collect();
    items.sort_by(|a, b| (&a.host, &a.image).cmp(&(&b.host, &b.image)));
    items
}

async fn load_on(
    docker: &Docker,
    archive: &NamedTempFile,
    import: Option<&str>,
) -> Result<Vec<String>, bollard::errors::Error> {
    let file = File::from_std(archive.reopen()?);
    let body = body_try_stream(ReaderStream::with_capacity(file, CHUNK_BYTES));
    let Some(name) = import else {
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let said: Vec<_> = docker.import_image(options, body, None).try_collect().await?;
        let words = said.into_iter().filter_map(|said| said.stream).collect::<String>();
        return Ok(loaded_images(&words));
    };
    let (repository, tag) = repository_and_tag(name);
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(repository).tag(tag).build();
    docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await?;
    Ok(vec![format!("{repository}:{tag}")])
}

/// The names of the images in what the engine said.
fn loaded_images(words: &str) -> Vec<String> {
    let name = |line: &str| LOADED.iter().find_map(|said| line.trim().strip_prefix(said)).map(str::to_owned);
    words.lines().filter_map(name).collect()
}

/// A colon in front of a slash belongs to the registry's port.
fn repository_and_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

fn item(host: &str, image: Option<String>, ok: bool, message: String) -> Image {
    Image { host: host.to_owned(), image, ok, message }
}

fn images(host: &str, loaded: Result<Vec<String>, String>) -> Vec<Image> {
    let item = |image, ok, message: String| item(host, image, ok, message);
    match loaded {
        Ok(images) if images.is_empty() => vec![item(None, true, "the engine names no image".into())],
        Ok(images) => images.into_iter().map(|image| item(Some(image), true, String::new())).collect(),
        Err(why) => vec![item(None, false, why)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_images_are_read_from_what_the_engine_says() {
        let words = "Loaded image: web:1\nLoaded image ID: sha256:abc\nsomething else\n";
        assert_eq!(loaded_images(words), ["web:1", "sha256:abc"]);
    }

    #[test]
    fn a_tag_is_told_from_a_port() {
        for (name, parts) in [
            ("tools:1", ("tools", "1")),
            ("tools", ("tools", "latest")),
            ("host:5000/tools", ("host:5000/tools", "latest")),
            ("host:5000/tools:2", ("host:5000/tools", "2")),
        ] {
            assert_eq!(repository_and_tag(name), parts, "{name}");
        }
    }
}
