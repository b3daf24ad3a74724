//! What names may look like. Docker refuses bad ones too, but hosts later and lines never.

use super::quantity::Misfit;

/// A service's name is a DNS label on its networks.
const SERVICE_CHARS_MAX: usize = 63;
const HOSTNAME_CHARS_MAX: usize = 63;
const IMAGE_CHARS_MAX: usize = 255;

/// Swarm's own rule for services: letters and digits, joined by `-` or `_`.
pub(super) fn service(name: &str) -> Result<(), Misfit> {
    let shape = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if shape && begins_and_ends_alphanumeric(name) && name.len() <= SERVICE_CHARS_MAX {
        return Ok(());
    }
    Err(Misfit::new(
        format!("'{name}' cannot be the name of a service"),
        format!(
            "use at most {SERVICE_CHARS_MAX} letters, digits, '-' and '_'; begin and end with a letter or digit"
        ),
    ))
}

pub(super) fn network(name: &str) -> Result<(), Misfit> {
    let shape = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if shape && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Misfit::new(
        format!("'{name}' cannot be the name of a network"),
        "use letters, digits, '-', '_' and '.'; begin with a letter or digit",
    ))
}

/// Docker's own rule for volumes.
pub(super) fn volume(name: &str) -> Result<(), Misfit> {
    let shape = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if shape && name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Misfit::new(
        format!("'{name}' cannot be the name of a volume"),
        "use at least two letters, digits, '-', '_' and '.'; begin with a letter or digit",
    ))
}

/// A second name of a service on one network: anything the resolver can be asked for.
pub(super) fn alias(name: &str) -> Result<String, Misfit> {
    host_name_shaped(name).then(|| name.to_owned()).ok_or_else(|| {
        Misfit::new(format!("'{name}' cannot be a name in DNS"), "use letters, digits, '-', '_' and '.'")
    })
}

/// A host name, or one with a template such as `{{.Node.Hostname}}` that Swarm fills in.
pub(super) fn hostname(name: &str) -> Result<String, Misfit> {
    let fits = name.contains("{{") || (name.len() <= HOSTNAME_CHARS_MAX && host_name_shaped(name));
    fits.then(|| name.to_owned()).ok_or_else(|| {
        Misfit::new(
            format!("'{name}' cannot be a host name"),
            format!("use at most {HOSTNAME_CHARS_MAX} letters, digits, '-' and '.'"),
        )
    })
}

/// The name of an environment variable or a label.
pub(super) fn pair_key(key: &str) -> Result<(), Misfit> {
    if !key.is_empty() && !key.contains(['=', '\0']) {
        return Ok(());
    }
    Err(Misfit::new("a name is missing", "write NAME: value or - NAME=value"))
}

/// `name`, `registry:5000/path/name:tag`, `name@sha256:…`
pub(super) fn image(reference: &str) -> Result<String, Misfit> {
    let wrong = |hint: &str| Err(Misfit::new(format!("'{reference}' is not the name of an image"), hint));
    if reference.len() > IMAGE_CHARS_MAX {
        return wrong("use at most 255 characters");
    }
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return wrong("a digest is written @sha256: and 64 hexadecimal digits");
    }
    // A colon before the last slash belongs to the registry's port.
    let tag_at = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = match tag_at {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return wrong("a tag has letters, digits, '_', '.' and '-'");
    }
    let mut components: Vec<&str> = name.split('/').collect();
    if components.len() > 1 && is_registry(components[0]) {
        components.remove(0);
    }
    if components.iter().all(|component| is_path_component(component)) {
        return Ok(reference.to_owned());
    }
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return wrong("use lower case letters; only a registry and a tag may have upper case ones");
    }
    wrong("write it like nginx:1.27 or registry.example.org/team/app:2")
}

fn is_registry(component: &str) -> bool {
    let (host, port) = component.split_once(':').unwrap_or((component, "0"));
    (component.contains(['.', ':']) || component == "localhost" || component.chars().any(char::is_uppercase))
        && host_name_shaped(host)
        && port.parse::<u16>().is_ok()
}

fn is_path_component(component: &str) -> bool {
    component.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
        && begins_and_ends_alphanumeric(component)
}

fn is_tag(tag: &str) -> bool {
    const TAG_CHARS_MAX: usize = 128;
    tag.len() <= TAG_CHARS_MAX
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

fn is_digest(digest: &str) -> bool {
    const SHA256_HEX_CHARS: usize = 64;
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == SHA256_HEX_CHARS && hex.chars().all(|c| c.is_ascii_digit() || matches!(c, 'a'..='f'))
    })
}

fn host_name_shaped(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && begins_and_ends_alphanumeric(name)
}

fn begins_and_ends_alphanumeric(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(alphanumeric) && name.ends_with(alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let digest = format!("nginx@sha256:{}", "a1".repeat(32));
        for good in [
            "nginx",
            "nginx:1.27",
            "library/nginx:1.27-alpine_x",
            "localhost/app",
            "localhost:5000/app:1",
            "Registry.example.org:5000/team/my-app__x:V2",
            "skep-demo/busybox:1",
            &digest,
        ] {
            assert_eq!(image(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "Nginx",
            "nginx:",
            "nginx:a b",
            "/nginx",
            "a//b",
            "nginx@sha256:12",
            "a b",
            "-a",
            "x:5000x/y",
        ] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_services_and_networks() {
        for good in ["web", "web-1", "a_b", "A", "1"] {
            assert_eq!(service(good), Ok(()));
        }
        for bad in ["", "web.1", "-web", "web-", "wéb", "a b", &"x".repeat(64)] {
            assert!(service(bad).is_err(), "{bad}");
        }
        assert_eq!(network("front.end"), Ok(()));
        assert!(network(".front").is_err());
    }
}
