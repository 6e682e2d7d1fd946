//! Whether a text can be the reference of an image: registry, repository, and a tag or digest.
//!
//! # Source
//! `pkg/name` of google/go-containerregistry, weak validation.

/// Whether a text refers to an image.
pub(super) fn is_image_reference(text: &str) -> bool {
    is_tagged(text) || is_digested(text)
}

fn is_tagged(text: &str) -> bool {
    match split_tag(text) {
        (repository, "") => is_repository(repository),
        (repository, tag) => is_tag(tag) && is_repository(repository),
    }
}

fn is_digested(text: &str) -> bool {
    let parts: Vec<&str> = text.split('@').collect();
    let [base, digest] = parts[..] else { return false };
    let is_hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let repository = if is_tagged(base) { split_tag(base).0 } else { base };
    digest.strip_prefix("sha256:").is_some_and(is_hex) && is_repository(repository)
}

/// What stands before the last colon and behind it; a port of the registry is no tag.
fn split_tag(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (text, ""),
    }
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.chars().count()) && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn is_repository(name: &str) -> bool {
    let (registry, repository) = match name.split_once('/') {
        Some((registry, repository)) if registry.contains(['.', ':']) => (registry, repository),
        _ => ("", name),
    };
    let is_repository_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
    (2..=255).contains(&repository.chars().count())
        && repository.chars().all(is_repository_char)
        && is_authority(registry)
}

/// Whether a text is a host with an optional port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c) || !c.is_ascii();
    port.bytes().all(|byte| byte.is_ascii_digit())
        && match in_brackets {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.chars().all(is_host_char),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: bool) {
        assert_eq!(is_image_reference(text), wanted, "{text}");
    }

    #[test]
    fn references_are_told_from_other_texts() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        check("busybox", true);
        check("example.com/fn:v1", true);
        check("localhost:5000/a/b", true);
        check("[::1]:5000/ab", true);
        check("library/busybox:", true);
        check(&format!("example.com/fn@{digest}"), true);
        check(&format!("example.com/fn:v1@{digest}"), true);
        check("foo:bar:baz", false);
        check("a", false);
        check("Example/Fn", false);
        check("example.com:x/fn", false);
        check("fn:tag with spaces", false);
        check("fn@sha256:abc", false);
        check(&format!("fn@{digest}@{digest}"), false);
        check(&format!("fn:{}", "t".repeat(129)), false);
        // A registry called `http` without a port number.
        check("http://example.com/fn", true);
    }
}
