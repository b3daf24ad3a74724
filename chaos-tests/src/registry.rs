//! A registry with one image, which asks for a password. As much of the registry's HTTP API as an engine needs to pull it, see
//! <https://distribution.github.io/distribution/spec/api/>.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

/// The image's name and tag at the registry.
pub const IMAGE: &str = "app:1";

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The registry. It answers until the program ends.
pub struct Registry {
    /// Where it listens, on all addresses of this computer.
    pub port: u16,
    kept: Arc<Kept>,
}

struct Kept {
    /// By digest; the manifest by its tag as well.
    contents: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// What the `Authorization` header has to say.
    login: Mutex<String>,
}

impl Registry {
    /// Serves an image that is this archive of a root file system and runs this command; `login` is user and password in
    /// base64, as HTTP's basic authentication has them.
    pub fn start(root: Vec<u8>, command: &[&str], login: &str) -> Result<Registry> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": command},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(&root)]},
        });
        let config = config.to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "size": bytes.len(), "digest": digest_of(bytes)});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("application/vnd.docker.container.image.v1+json", &config),
            "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", &root)],
        });
        let manifest = manifest.to_string().into_bytes();
        let tag = IMAGE.split_once(':').map_or(IMAGE, |(_, tag)| tag);
        let contents = [
            (tag.to_owned(), (MANIFEST, manifest.clone())),
            (digest_of(&manifest), (MANIFEST, manifest)),
            (digest_of(&config), ("application/octet-stream", config)),
            (digest_of(&root), ("application/octet-stream", root)),
        ];
        let kept = Arc::new(Kept { contents: contents.into(), login: Mutex::new(login.to_owned()) });
        let listener = TcpListener::bind(("0.0.0.0", 0)).context("listening")?;
        let port = listener.local_addr().context("its own address")?.port();
        let serving = kept.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = serving.clone();
                // A client that has gone away is nobody's concern.
                std::thread::spawn(move || kept.answer(&client));
            }
        });
        Ok(Registry { port, kept })
    }

    /// From now on only this login is let in.
    pub fn change_login(&self, login: &str) {
        login.clone_into(&mut self.kept.login());
    }
}

impl Kept {
    fn login(&self) -> MutexGuard<'_, String> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one request and answers it; the connection ends with that.
    fn answer(&self, client: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(client).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let wanted = format!("authorization: basic {}", *self.login());
        let mut is_let_in = false;
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            is_let_in |= line.eq_ignore_ascii_case(&wanted);
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let name = path.rsplit('/').next().unwrap_or_default();
        let (status, kind, body) = match self.contents.get(name) {
            _ if !is_let_in => ("401 Unauthorized", "application/json", &b"{}"[..]),
            _ if path == "/v2/" => ("200 OK", "application/json", &b"{}"[..]),
            Some((kind, bytes)) => ("200 OK", *kind, bytes.as_slice()),
            None => ("404 Not Found", "application/json", &b"{}"[..]),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: {kind}\r\nContent-Length: \
             {}\r\nDocker-Content-Digest: {}\r\nWWW-Authenticate: Basic realm=\"registry\"\r\nConnection: close\r\n\r\n",
            body.len(),
            digest_of(body)
        );
        let mut client = client;
        client.write_all(head.as_bytes())?;
        if method != "HEAD" {
            client.write_all(body)?;
        }
        client.flush()
    }
}

fn digest_of(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
