//! What does the same here, with the requests that it sends.

/// A line for a seed command. `FOLDER` and `URL` in it stand for a folder with files and for the manager.
pub(crate) struct Line {
    pub(crate) seed: &'static str,
    pub(crate) skep: &'static str,
    pub(crate) requests: &'static [&'static str],
    /// Of the first request that changes something, where it matters.
    pub(crate) body: Option<&'static str>,
}

const fn line(seed: &'static str, skep: &'static str, requests: &'static [&'static str]) -> Line {
    Line { seed, skep, requests, body: None }
}

const fn says(
    seed: &'static str,
    skep: &'static str,
    request: &'static [&'static str],
    body: &'static str,
) -> Line {
    Line { seed, skep, requests: request, body: Some(body) }
}

pub(crate) const LINES: &[Line] = &[
    // The `rancher` command.
    line("rancher --version", "version", &["GET /v1/meta"]),
    line("rancher config", "login URL --token-file FOLDER/token", &["GET /v1/whoami"]),
    line(
        "rancher config",
        "login URL --user ann --password-file FOLDER/password",
        &["GET /v1/auth-providers", "POST /v1/sessions", "GET /v1/whoami"],
    ),
    line("rancher config", "use prod/shop", &[]),
    line(
        "cat > ~/.rancher/cli.json",
        "context create shop --url URL --token-file FOLDER/token",
        &["GET /v1/whoami"],
    ),
    line("rancher config --print", "context show --origin", &[]),
    line("rancher env ls", "env ls", &["GET /v1/environments?limit=1000"]),
    line("rancher env ls", "env ls -q", &["GET /v1/environments?limit=1000"]),
    line("rancher env ls", "env ls --format {{.Name}}", &["GET /v1/environments?limit=1000"]),
    says(
        "rancher env create -t swarmNFS testEnv",
        "env create -t swarmNFS testEnv",
        &["POST /v1/environments"],
        r#"{"name": "testEnv", "hosts": null, "template": "swarmNFS"}"#,
    ),
    says(
        "rancher env create newEnv",
        "env create newEnv",
        &["POST /v1/environments"],
        r#"{"name": "newEnv", "hosts": null, "template": "default"}"#,
    ),
    says(
        "rancher env template import swarmNFS.yaml",
        "template import FOLDER/swarmNFS.yaml",
        &["POST /v1/templates"],
        r#"{"document": "name: swarmNFS\n", "name": "swarmNFS", "replace": false}"#,
    ),
    says(
        "rancher env template import swarmNFS.yaml",
        "env template import FOLDER/swarmNFS.yaml",
        &["POST /v1/templates"],
        r#"{"document": "name: swarmNFS\n", "name": "swarmNFS", "replace": false}"#,
    ),
    line("rancher env template export T", "template export T", &["GET /v1/templates/T"]),
    line("rancher env template export T", "env template export T", &["GET /v1/templates/T"]),
    line(
        "rancher env rm E",
        "env rm E --confirm E",
        &["GET /v1/environments/E", "GET /v1/environments/E/stacks?limit=1000", "DELETE /v1/environments/E"],
    ),
    line("rancher env activate E", "env resume E", &["POST /v1/environments/E/actions/resume"]),
    line("rancher env activate E", "env activate E", &["POST /v1/environments/E/actions/resume"]),
    line("rancher env deactivate E", "env pause E --yes", &["POST /v1/environments/E/actions/pause"]),
    line("rancher env deactivate E", "env deactivate E --yes", &["POST /v1/environments/E/actions/pause"]),
    line("rancher hosts", "hosts", &["GET /v1/environments/prod/hosts?limit=1000"]),
    line("rancher hosts ls", "hosts ls", &["GET /v1/environments/prod/hosts?limit=1000"]),
    line("rancher hosts ls", "host ls", &["GET /v1/environments/prod/hosts?limit=1000"]),
    line("rancher host", "host", &["GET /v1/environments/prod/hosts?limit=1000"]),
    says(
        "rancher hosts create rancher-node-01",
        "hosts create rancher-node-01 --driver local",
        &["POST /v1/environments/prod/hosts"],
        r#"{"name": "rancher-node-01", "driver": "local", "options": {}}"#,
    ),
    says(
        "rancher hosts create -d DRIVER --DRIVER-opt v",
        "host create rancher-node-01 --driver openstack --option flavor=m1.small",
        &["POST /v1/environments/prod/hosts"],
        r#"{"name": "rancher-node-01", "driver": "openstack", "options": {"flavor": "m1.small"}}"#,
    ),
    line(
        "rancher ssh rancher-node-01",
        "host ssh rancher-node-01 -- uptime",
        &["POST /v1/environments/prod/hosts/rancher-node-01/exec"],
    ),
    line(
        "rancher rm $HOSTID",
        "host rm rancher-node-01 --yes",
        &["DELETE /v1/environments/prod/hosts/rancher-node-01"],
    ),
    line(
        "rancher rm $HOSTID",
        "rm host/rancher-node-01 --yes",
        &["DELETE /v1/environments/prod/hosts/rancher-node-01"],
    ),
    line(
        "rancher rm $HOSTID",
        "host rm rancher-node-01 --keep-machine --yes",
        &["POST /v1/environments/prod/hosts/rancher-node-01/actions/let-go"],
    ),
    line("rancher rm --type T", "rm stack/shop --yes", &["DELETE /v1/environments/prod/stacks/shop"]),
    says(
        "rancher --host 1h11 docker stack deploy --compose-file docker-compose.yml testApp",
        "up -f FOLDER/docker-compose.yml --stack testApp",
        &["PUT /v1/environments/prod/stacks/testApp"],
        r#"{"recipe": "services: {web: {image: nginx}}\n", "variables": {}}"#,
    ),
    says(
        "export DOCKER_MTU=1400",
        "env update prod --mtu auto",
        &["PATCH /v1/environments/prod"],
        r#"{"spec": {"mtu": null}}"#,
    ),
    says(
        "export DOCKER_MTU=1400",
        "env update prod --mtu 1400",
        &["PATCH /v1/environments/prod"],
        r#"{"spec": {"mtu": 1400}}"#,
    ),
    line("rancher ps", "ps", &["GET /v1/environments/prod/tasks?limit=1000"]),
    line("rancher ps -c", "ps --tasks", &["GET /v1/environments/prod/tasks?limit=1000"]),
    line("rancher stacks ls", "stacks ls", &["GET /v1/environments/prod/stacks?limit=1000"]),
    says(
        "rancher stacks create -f F",
        "stack deploy -f FOLDER/docker-compose.yml --stack testApp",
        &["PUT /v1/environments/prod/stacks/testApp"],
        r#"{"recipe": "services: {web: {image: nginx}}\n", "variables": {}}"#,
    ),
    says(
        "rancher up -d -s S -f F -e E",
        "up -d --stack S -f FOLDER/docker-compose.yml --env-file FOLDER/settings.env",
        &["PUT /v1/environments/prod/stacks/S"],
        r#"{"recipe": "services: {web: {image: nginx}}\n", "variables": {"MTU": "1400"}}"#,
    ),
    line("rancher events", "events tail --first 1", &["GET /v1/events"]),
    line("rancher events", "event tail --first 1", &["GET /v1/events"]),
    line(
        "rancher inspect REF --links --format",
        "inspect host/web-1 -o json",
        &["GET /v1/environments/prod/hosts/web-1"],
    ),
    line(
        "rancher inspect REF --links --format",
        "inspect host/web-1 --format {{.Name}}",
        &["GET /v1/environments/prod/hosts/web-1"],
    ),
    line(
        "rancher wait REF --wait-timeout --wait-state",
        "wait host/web-1 --timeout 5s --for state=active",
        &["GET /v1/environments/prod/hosts/web-1"],
    ),
    line("rancher wait REF --wait-timeout --wait-state", "wait op/op_1", &[]),
    line("rancher --wait -w", "env create newEnv", &["POST /v1/environments"]),
    line("rancher --wait -w", "env create newEnv -d", &["POST /v1/environments"]),
    // `rancher-compose`, and `docker-compose` for the server itself.
    line(
        "rancher-compose up -d",
        "up -d -f FOLDER/docker-compose.yml --stack testApp",
        &["PUT /v1/environments/prod/stacks/testApp"],
    ),
    line(
        "rancher-compose up --upgrade --confirm-upgrade",
        "up -f FOLDER/docker-compose.yml --stack testApp",
        &["PUT /v1/environments/prod/stacks/testApp"],
    ),
    line("rancher-compose rm", "stack rm --yes", &["DELETE /v1/environments/prod/stacks/testApp"]),
    line("rancher-compose rm", "stack rm testApp --yes", &["DELETE /v1/environments/prod/stacks/testApp"]),
    line(
        "rancher-compose upgrade",
        "up -f FOLDER/docker-compose.yml --stack testApp",
        &["PUT /v1/environments/prod/stacks/testApp"],
    ),
    says(
        "rancher-compose -e env-file -p project",
        "up -f FOLDER/docker-compose.yml --stack project --env-file FOLDER/settings.env",
        &["PUT /v1/environments/prod/stacks/project"],
        r#"{"recipe": "services: {web: {image: nginx}}\n", "variables": {"MTU": "1400"}}"#,
    ),
    // `docker-machine`.
    line("docker-machine version", "version", &["GET /v1/meta"]),
    says(
        "docker-machine create NAME -d DRIVER",
        "host create NAME --driver local",
        &["POST /v1/environments/prod/hosts"],
        r#"{"name": "NAME", "driver": "local", "options": {}}"#,
    ),
    line("docker-machine ls", "host ls", &["GET /v1/environments/prod/hosts?limit=1000"]),
    line("docker-machine ls -q -f Name", "host ls -q", &["GET /v1/environments/prod/hosts?limit=1000"]),
    line(
        "docker-machine ls -q -f Name",
        "host ls --format {{.Name}}",
        &["GET /v1/environments/prod/hosts?limit=1000"],
    ),
    line(
        "docker-machine ls -q | xargs docker-machine rm --force",
        "host rm --all --confirm prod",
        &["GET /v1/environments/prod/hosts?limit=1000", "DELETE /v1/environments/prod/hosts/web-1"],
    ),
    line(
        "docker-machine ssh NAME",
        "host ssh NAME -- uptime",
        &["POST /v1/environments/prod/hosts/NAME/exec"],
    ),
    line(
        "docker-machine ip/url/inspect/status/active/config",
        "host inspect NAME -o json",
        &["GET /v1/environments/prod/hosts/NAME"],
    ),
    line(
        "docker-machine ip/url/inspect/status/active/config",
        "host inspect NAME --format {{.Address}}",
        &["GET /v1/environments/prod/hosts/NAME"],
    ),
    line(
        "docker-machine provision",
        "host reprovision NAME --yes",
        &["POST /v1/environments/prod/hosts/NAME/actions/reprovision"],
    ),
    line(
        "docker-machine regenerate-certs",
        "env rotate-ca prod",
        &["POST /v1/environments/prod/actions/rotate-ca"],
    ),
    line(
        "docker-machine upgrade",
        "env upgrade prod --to 29.1.2",
        &["POST /v1/environments/prod/actions/upgrade"],
    ),
    // MiCADO.
    says(
        "micado start -n application|database",
        "host label application01 tier=application",
        &["PATCH /v1/environments/prod/hosts/application01"],
        r#"{"spec": {"labels": {"tier": "application"}}}"#,
    ),
    line(
        "micado stop -t application01",
        "host rm application01 --yes",
        &["DELETE /v1/environments/prod/hosts/application01"],
    ),
    line("micado list -i", "host ls", &["GET /v1/environments/prod/hosts?limit=1000"]),
    // Steps with curl, docker and a console.
    says(
        "sudo docker run rancher/agent",
        "host register",
        &["POST /v1/environments/prod/registration-tokens"],
        r#"{"role": "auto", "labels": {}, "ttl_seconds": 3600, "uses": 1}"#,
    ),
    line(
        "sudo docker run rancher/agent",
        "host register --as docker-run",
        &["POST /v1/environments/prod/registration-tokens"],
    ),
    line(
        "-e CATTLE_AGENT_IP",
        "host register --address 10.0.0.5",
        &["POST /v1/environments/prod/registration-tokens"],
    ),
    says(
        "-e CATTLE_HOST_LABELS='a=b&c=d'",
        "host register --label a=b --label c=d",
        &["POST /v1/environments/prod/registration-tokens"],
        r#"{"role": "auto", "labels": {"a": "b", "c": "d"}, "ttl_seconds": 3600, "uses": 1}"#,
    ),
    says(
        "POST /v2-beta/apikey",
        "token create --name admin-api",
        &["POST /v1/tokens"],
        r#"{"name": "admin-api", "ttl_seconds": null}"#,
    ),
    says(
        r#"PUT {"kind":"admin"}"#,
        "user set-role alice admin",
        &["PUT /v1/role-bindings/user/alice"],
        r#"{"role": "admin"}"#,
    ),
    says(
        "NFS server by hand",
        "env update prod --nfs server=10.0.0.2,path=/exports",
        &["PATCH /v1/environments/prod"],
        r#"{"spec": {"nfs": {"server": "10.0.0.2", "path": "/exports", "options": ""}}}"#,
    ),
    line("scripts to find the host's MTU", "host inspect web-1", &["GET /v1/environments/prod/hosts/web-1"]),
];
