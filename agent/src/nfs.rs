//! Tries out an NFS server the way Docker will use it: reached, mounted, written, and nothing is left behind.
//!
//! The mount is made by a child in a mount namespace of its own, so no other process ever sees it and it is gone with the
//! child, whatever becomes of either. Mount helpers are not asked, because Docker does not ask them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use skep_wire::proto::agent::{NfsOutcome, NfsReply, NfsRequest};
use tokio::net::{TcpStream, lookup_host};
use tokio::process::Command;
use tokio::time::timeout;

use crate::{Entrance, features};

/// Where NFS version 4 listens.
const PORT: u16 = 2049;

/// A server in the same network answers at once.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Mounting, writing a few bytes, unmounting. A kernel may ask a server that has just vanished for longer.
const MOUNT_MAX: Duration = Duration::from_secs(15);

/// A stack has a few volumes; each becomes a folder.
const FOLDERS_MAX: usize = 64;

/// What an error says is about one line.
const MESSAGE_BYTES_MAX: usize = 500;

/// Mounts, makes the folders, writes, unmounts. The arguments: where, what, options, folders.
///
/// 3: not mounted, 4: not writable.
const TRY: &str = r#"where=$1 what=$2 options=$3; shift 3
mount -i -t nfs -o "$options" "$what" "$where" || exit 3
made=0
for folder in "$@"; do mkdir -p "$where/$folder" || made=4; done
probe="$where/.skep-$$-$(cat /proc/sys/kernel/random/uuid)"
{ echo skep >"$probe" && rm "$probe"; } || made=4
umount "$where" || umount -l "$where"
exit $made"#;

/// Tries out.
pub(crate) async fn check(request: &NfsRequest, state_dir: &Path, entrance: Entrance) -> NfsReply {
    let told = |outcome: NfsOutcome, message: String| NfsReply {
        outcome: outcome.into(),
        message: message.chars().filter(|c| !c.is_control()).take(MESSAGE_BYTES_MAX).collect(),
    };
    let is_plain = |folder: &&String| !folder.is_empty() && !folder.contains('/') && *folder != "..";
    if request.folders.len() > FOLDERS_MAX
        || request.folders.iter().filter(is_plain).count() != request.folders.len()
    {
        return told(NfsOutcome::Unspecified, "the folders are none, or too many".into());
    }
    let address = match reach(&request.server, PORT).await {
        Ok(address) => address,
        Err(why) => return told(NfsOutcome::Unreachable, why),
    };
    // A dozen small files, and a kernel configuration that has to be unpacked.
    let detecting = tokio::task::spawn_blocking(move || features::detect(entrance.root()));
    let features = detecting.await.unwrap_or_default();
    if features.get("nfs") == Some(&false) {
        return told(NfsOutcome::NoClient, "install a kernel with NFS (its module is nfs)".into());
    }
    match mount(request, &address, &state_dir.join("nfs-check"), entrance).await {
        Ok(()) => told(NfsOutcome::Works, String::new()),
        Err((outcome, why)) => told(outcome, why),
    }
}

/// Connects, and says with which address.
async fn reach(server: &str, port: u16) -> Result<SocketAddr, String> {
    let connecting = async {
        let mut last = format!("{server} has no address");
        let found = lookup_host((server, port)).await;
        for address in found.map_err(|error| format!("{server} is not found: {error}"))? {
            match TcpStream::connect(address).await {
                Ok(_) => return Ok(address),
                Err(error) => last = format!("connecting to {address}: {error}"),
            }
        }
        Err(last)
    };
    let silent = || Err(format!("{server} does not answer at {port}/tcp within {} s", CONNECT_MAX.as_secs()));
    timeout(CONNECT_MAX, connecting).await.unwrap_or_else(|_| silent())
}

async fn mount(
    request: &NfsRequest,
    address: &SocketAddr,
    folder: &Path,
    entrance: Entrance,
) -> Result<(), (NfsOutcome, String)> {
    let failed = |why: String| (NfsOutcome::NotMounted, why);
    std::fs::create_dir_all(folder)
        .map_err(|error| failed(format!("making {}: {error}", folder.display())))?;
    // A server that vanishes in between must not hold the check for ever; what was wished comes last and counts.
    let options = ["soft,timeo=30,retrans=1", &format!("addr={}", address.ip()), &request.options];
    let options: Vec<&str> = options.into_iter().filter(|option| !option.is_empty()).collect();
    // A container has the folder at the same place, but not the host's programs.
    let mut command = Command::from(entrance.command("unshare"));
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", TRY, "nfs-check"])
        .arg(folder)
        .arg(format!(":{}", request.path))
        .arg(options.join(","))
        .args(&request.folders)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = timeout(MOUNT_MAX, command.output()).await;
    let ended = ended.map_err(|_| failed(format!("no end within {} s", MOUNT_MAX.as_secs())))?;
    let ended = ended.map_err(|error| failed(format!("trying to mount: {error}")))?;
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    match ended.status.code() {
        Some(0) => Ok(()),
        Some(4) => Err((NfsOutcome::NotWritable, said)),
        _ => Err(failed(said)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_where_nobody_listens_and_a_name_that_nobody_has_are_not_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("an address").port();
        assert_eq!(reach("127.0.0.1", port).await.expect("answers").port(), port);
        drop(listener);
        let why = reach("127.0.0.1", port).await.expect_err("nobody listens");
        assert!(why.contains("127.0.0.1") && why.contains("refused"), "{why}");
        let why = reach("no-such-name.invalid", port).await.expect_err("has no address");
        assert!(why.contains("no-such-name.invalid"), "{why}");
    }

    #[tokio::test]
    async fn folders_that_lead_elsewhere_are_not_made() {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in ["..", "a/b", ""] {
            let request = NfsRequest {
                server: "127.0.0.1".into(),
                folders: vec![folder.into()],
                ..NfsRequest::default()
            };
            assert_eq!(
                check(&request, dir.path(), Entrance::Here).await.outcome(),
                NfsOutcome::Unspecified,
                "{folder}"
            );
        }
    }
}
