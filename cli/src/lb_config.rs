//! `skep lb-config`: a configuration for a load balancer in front of the managers.
//!
//! Connections pass through as they are (TCP), so that certificates of clients, upgraded connections and streams go all the way.
//! `/lbz` has three answers: 200, send requests; 404, nothing new, what is open goes on (the manager drains); 503, do not use it.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use reqwest::Url;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::flags::Output;
use crate::session::Session;
use crate::value::{list_at, text_at};

/// Whose language it is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Balancer {
    /// HAProxy 2.2 or later; asks /lbz
    Haproxy,
    /// nginx with its stream module; notices only what does not accept connections
    Nginx,
}

/// The configuration.
#[derive(Debug, Args)]
pub struct LbConfig {
    /// For which load balancer
    balancer: Balancer,
    /// Where it listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "*:8443", value_parser = listen)]
    listen: String,
    /// Where the cluster's certificate authority (ca.pem) lies on the load balancer
    #[arg(long, value_name = "FILE", default_value = "/etc/haproxy/skep-ca.pem")]
    balancer_ca_file: String,
    /// Tell the managers where clients are; they must have it in trusted_proxies and proxy_protocol
    #[arg(long)]
    proxy_protocol: bool,
}

/// A manager behind it.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    name: String,
    address: String,
}

pub(crate) async fn run(wish: LbConfig, session: &Session) -> Result<(), Failure> {
    let cluster = session.client()?.get(&["v1", "cluster"], &[]).await?;
    let servers: Vec<Server> = list_at(&cluster, "/members").iter().filter_map(server).collect();
    if servers.is_empty() {
        return Err(Failure::usage(
            "no manager says where its API is",
            "see how they are: skep cluster status; ask again when they are there",
        ));
    }
    let id = text_at(&cluster, "/cluster").unwrap_or_default();
    let text = match wish.balancer {
        Balancer::Haproxy => haproxy(&id, &wish, &servers),
        Balancer::Nginx => nginx(&id, &wish, &servers),
    };
    match session.output(Output::Table) {
        Output::Json => session.print_json(&json!({"config": text})),
        _ => session.screen.result(&text),
    }
    Ok(())
}

fn server(member: &Value) -> Option<Server> {
    let url = Url::parse(&text_at(member, "/api_url")?).ok()?;
    let address = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    Some(Server { name: text_at(member, "/name")?, address })
}

fn haproxy(cluster: &str, wish: &LbConfig, servers: &[Server]) -> String {
    let mut text = format!(
        "# HAProxy in front of the managers of Skep cluster {cluster}. Written by: skep lb-config haproxy\n\
         # Put the cluster's ca.pem at {ca}.\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    # Streams say something every 15 seconds.\n    \
         timeout client 75s\n    timeout server 75s\n    timeout tunnel 1h\n    timeout check 2s\n    \
         # A manager that has died since it was last asked: the connection goes to another one.\n    \
         retries 3\n    option redispatch 1\n\n\
         frontend skep\n    bind {listen}\n    default_backend skep-managers\n\n\
         backend skep-managers\n    balance leastconn\n    option httpchk\n    \
         http-check send meth GET uri /lbz ver HTTP/1.1 hdr Host skep\n    \
         # 404: it drains; nothing new, and what is open goes on.\n    \
         http-check disable-on-404\n    http-check expect status 200\n    \
         default-server inter 1s fall 2 rise 1 check check-ssl ca-file {ca} verify required on-marked-down shutdown-sessions{says_who}\n",
        says_who = if wish.proxy_protocol { " send-proxy-v2" } else { "" },
        ca = wish.balancer_ca_file,
        listen = wish.listen,
    );
    for Server { name, address } in servers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    server {name} {address}");
    }
    text
}

fn nginx(cluster: &str, wish: &LbConfig, servers: &[Server]) -> String {
    let mut text = format!(
        "# nginx in front of the managers of Skep cluster {cluster}. Written by: skep lb-config nginx\n\
         # Belongs beside http {{ … }}, not into it; on Debian the stream module is libnginx-mod-stream.\n\
         # nginx does not ask managers how they are: one that drains gets connections until it closes its port.\n\
         stream {{\n    upstream skep_managers {{\n        least_conn;\n"
    );
    for Server { name, address } in servers {
        let _ = writeln!(text, "        server {address} max_fails=1 fail_timeout=5s; # {name}");
    }
    let listen = wish.listen.strip_prefix("*:").unwrap_or(&wish.listen);
    let says_who = if wish.proxy_protocol { "        proxy_protocol on;\n" } else { "" };
    let _ = write!(
        text,
        "    }}\n\n    server {{\n        listen {listen};\n        proxy_pass skep_managers;\n        \
         proxy_connect_timeout 2s;\n        # Streams say something every 15 seconds.\n        \
         proxy_timeout 75s;\n        proxy_next_upstream on;\n{says_who}    }}\n}}\n"
    );
    text
}

fn listen(text: &str) -> Result<String, String> {
    let wrong = || format!("'{text}' is not ADDRESS:PORT, such as *:8443 or 10.0.0.5:443");
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let good = address == "*" || bare.parse::<std::net::IpAddr>().is_ok();
    if good && port.parse::<u16>().is_ok_and(|port| port > 0) { Ok(text.to_owned()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_says_where_it_is_becomes_a_server() {
        let known = json!({"name": "m1", "api_url": "https://10.0.0.11:8443"});
        assert_eq!(server(&known), Some(Server { name: "m1".into(), address: "10.0.0.11:8443".into() }));
        let with_six = json!({"name": "m1", "api_url": "https://[fd00::1]:8443"});
        assert_eq!(server(&with_six).unwrap().address, "[fd00::1]:8443");
        assert_eq!(server(&json!({"name": "m2", "api_url": null})), None);
    }

    #[test]
    fn who_asks_is_told_where_it_is_wished() {
        let wish = |proxy_protocol| LbConfig {
            balancer: Balancer::Haproxy,
            listen: "*:8443".into(),
            balancer_ca_file: "ca.pem".into(),
            proxy_protocol,
        };
        let servers = [Server { name: "m1".into(), address: "10.0.0.11:8443".into() }];
        for (write, word) in [
            (haproxy as fn(&str, &LbConfig, &[Server]) -> String, " send-proxy-v2\n"),
            (nginx, "proxy_protocol on;\n"),
        ] {
            assert!(write("c1", &wish(true), &servers).contains(word));
            assert!(!write("c1", &wish(false), &servers).contains("proxy_protocol"));
            assert!(!write("c1", &wish(false), &servers).contains("send-proxy"));
        }
    }

    #[test]
    fn where_it_listens_is_an_address_and_a_port() {
        for good in ["*:8443", "10.0.0.5:443", "[::]:443"] {
            assert_eq!(listen(good), Ok(good.to_owned()));
        }
        for wrong in ["", "8443", "*:0", "*:x", "name:443", "*:8443\nbind x:1"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }
}
