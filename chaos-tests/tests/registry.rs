//! The login to a registry of an environment, with real engines and a registry that asks for a password: every host pulls
//! with it, also one that comes later, and a new password reaches services that run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use skep_chaos_tests::lab::{Lab, Wish};
use skep_chaos_tests::registry::{IMAGE, Registry};

const ENVIRONMENT: &str = "shop";

/// User and password as HTTP has them: `ci:first` and `ci:second`.
const FIRST: &str = "Y2k6Zmlyc3Q=";
const SECOND: &str = "Y2k6c2Vjb25k";

fn root_file_system() -> Vec<u8> {
    let script = format!(
        "{}/../examples/busybox-image.sh",
        std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests")
    );
    let made = Command::new("sh").arg(script).output().expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

fn host(lab: &Lab, name: &str) -> Value {
    let listed = lab.json(&["host", "ls", "-e", ENVIRONMENT]).expect("lists the hosts");
    let mut hosts = listed["items"].as_array().cloned().unwrap_or_default().into_iter();
    hosts.find(|host| host["metadata"]["name"] == name).expect("is listed")
}

fn id(host: &Value) -> &str {
    host["metadata"]["id"].as_str().expect("has an id")
}

/// The registry has no certificate, so each engine is told to do without.
fn trusts(lab: &Lab, host: &Value, registry: &str) {
    let folders = fs::read_dir(lab.hosts_folder()).expect("a folder").flatten();
    let settings: Vec<PathBuf> =
        folders.map(|tag| tag.path().join("hosts").join(id(host)).join("etc-docker")).collect();
    let text = json!({"insecure-registries": [registry]}).to_string();
    fs::write(settings[0].join("daemon.json"), text).expect("the engine's settings");
    lab.signal_engine(id(host), Signal::SIGHUP).expect("it reads them anew");
    lab.wait_for("the engine to know the registry", || {
        let told = lab.docker(id(host), &["info", "--format", "{{json .RegistryConfig.IndexConfigs}}"])?;
        Ok(told.contains(registry).then_some(()))
    })
    .expect("it does");
}

fn runs_on(lab: &Lab, host: &Value) {
    lab.wait_for("a task that runs", || {
        let running =
            lab.docker(id(host), &["ps", "--quiet", "--filter", "label=com.docker.swarm.service.name"])?;
        Ok((!running.trim().is_empty()).then_some(()))
    })
    .unwrap_or_else(|error| {
        let tasks = lab.docker(id(&self::host(lab, "shop-1")), &["service", "ps", "web_app", "--no-trunc"]);
        panic!("{error:#}\n{}", tasks.unwrap_or_else(|error| format!("{error:#}")))
    });
}

#[test]
fn a_login_to_a_registry_reaches_every_host_also_later_ones_and_a_new_password_replaces_it() {
    let registry = Registry::start(root_file_system(), &["sleep", "100000"], FIRST).expect("it listens");
    let lab = Lab::start(&Wish::new("registry", 1, 28_943).expect("a wish")).expect("a manager starts");
    lab.succeed(&["env", "create", ENVIRONMENT, "-t", "single", "--hosts", "1", "--driver", "local"])
        .expect("a host");
    let first = host(&lab, "shop-1");
    let own = first["status"]["address"].as_str().expect("has an address");
    let (network, _) = own.rsplit_once('.').expect("is an IPv4 address");
    let server = format!("{network}.1:{}", registry.port);
    trusts(&lab, &first, &server);

    let files = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        fs::write(files.path().join(name), text).expect("written");
        files.path().join(name).display().to_string()
    };
    let log_in = |password: &str| {
        let password = file("password", password);
        let words = ["registry", "login", &server, "--user", "ci", "--password-file", &password];
        lab.skep(&[&words[..], &["-e", ENVIRONMENT]].concat()).expect("runs")
    };
    let refused = log_in("wrong");
    assert!(refused.code != 0 && refused.stderr.contains("SKP-2432"), "{refused:?}");
    let known = lab.json(&["registry", "ls", "-e", ENVIRONMENT]).expect("lists");
    assert_eq!(known["items"], json!([]), "nothing is kept of it");
    let let_in = log_in("first");
    assert_eq!(let_in.code, 0, "{let_in:?}");

    let deploy = "      restart_policy: {delay: 1s}\n      mode: global\n";
    let recipe = format!("services:\n  app:\n    image: {server}/{IMAGE}\n    deploy:\n{deploy}");
    let recipe = file("recipe.yml", &recipe);
    lab.succeed(&["up", "-f", &recipe, "--stack", "web", "-e", ENVIRONMENT]).expect("it is pulled");
    runs_on(&lab, &first);

    let comes = |name: &str| {
        lab.succeed(&["host", "create", name, "--driver", "local", "-e", ENVIRONMENT]).expect("another host");
        let new = host(&lab, name);
        trusts(&lab, &new, &server);
        runs_on(&lab, &new);
    };
    comes("shop-2");

    registry.change_login(SECOND);
    let renewed = log_in("second");
    assert_eq!(renewed.code, 0, "{renewed:?}");
    comes("shop-3");

    lab.succeed(&["env", "rm", ENVIRONMENT, "--confirm", ENVIRONMENT]).expect("everything goes");
    lab.stop().expect("nothing is left");
}
