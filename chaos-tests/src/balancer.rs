//! A real load balancer before managers of this machine, with the configuration that `skep lb-config` prints.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::managers::Managers;
use crate::process::Process;

const HAPROXY: &str = "/usr/sbin/haproxy";
const NGINX: &str = "/usr/sbin/nginx";

/// Debian has it in a package of its own.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A load balancer that runs. Dropping it ends it.
pub struct Balancer {
    /// First, so that it has ended when its folder goes.
    _process: Process,
    _folder: TempDir,
    listen: String,
}

impl Balancer {
    /// HAProxy; `more` goes to `skep lb-config`.
    pub fn haproxy(managers: &Managers, more: &[&str]) -> Result<Balancer> {
        let authority =
            managers.authority().to_str().context("the path of the authority is not text")?.to_owned();
        let more = [&["--balancer-ca-file", &authority], more].concat();
        Balancer::start(managers, "haproxy", &more, |config, _| {
            succeeds(Command::new(HAPROXY).arg("-c").arg("-f").arg(config))?;
            let mut haproxy = Command::new(HAPROXY);
            haproxy.arg("-db").arg("-f").arg(config);
            Ok(haproxy)
        })
    }

    /// nginx with its stream module; `more` goes to `skep lb-config`.
    pub fn nginx(managers: &Managers, more: &[&str]) -> Result<Balancer> {
        Balancer::start(managers, "nginx", more, |config, folder| {
            let printed = fs::read_to_string(config).context("reading its configuration")?;
            // One process, which ends with what has started it.
            let own = format!(
                "load_module {NGINX_STREAM};\ndaemon off;\nmaster_process off;\npid {}/pid;\nerror_log stderr;\nevents {{}}\n",
                folder.display()
            );
            fs::write(config, own + &printed).context("writing its configuration")?;
            succeeds(Command::new(NGINX).arg("-t").arg("-c").arg(config))?;
            let mut nginx = Command::new(NGINX);
            nginx.arg("-c").arg(config);
            Ok(nginx)
        })
    }

    fn start(
        managers: &Managers,
        kind: &str,
        more: &[&str],
        command: impl FnOnce(&Path, &Path) -> Result<Command>,
    ) -> Result<Balancer> {
        let folder = tempfile::tempdir().context("making a folder")?;
        let listen =
            TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).context("finding a port")?;
        let listen = listen.to_string();
        let printed = managers.succeed(&[&["lb-config", kind, "--listen", &listen], more].concat())?;
        let config = folder.path().join("config");
        fs::write(&config, printed).with_context(|| format!("writing the configuration of {kind}"))?;
        let process = Process::start(command(&config, folder.path())?, &folder.path().join("log"))?;
        Ok(Balancer { _process: process, _folder: folder, listen })
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("https://{}", self.listen)
    }
}

fn succeeds(command: &mut Command) -> Result<()> {
    let ran = command.output().with_context(|| format!("{command:?}: deploy/setup.sh installs it"))?;
    if !ran.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    Ok(())
}
