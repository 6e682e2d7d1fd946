//! Names: what Kubernetes accepts as one, and the names that Knative gives to what belongs to another object.
//!
//! # Source
//! `k8s.io/apimachinery/pkg/util/validation`; `kmeta.ChildName` of knative.dev/pkg.

use md5::{Digest, Md5};

/// The longest label of a host name, and so the longest name.
const LABEL_MAX_LEN: usize = 63;
const SUBDOMAIN_MAX_LEN: usize = 253;
/// What is left of a name beside a hash of 32 characters.
const HEAD_LEN: usize = LABEL_MAX_LEN - 32;

/// Name of what belongs to `parent`: parent and suffix, with a hash in the middle if that is more than 63 characters.
pub fn child_name(parent: &str, suffix: &str) -> String {
    if parent.len() + suffix.len() <= LABEL_MAX_LEN {
        return format!("{parent}{suffix}");
    }
    match HEAD_LEN.checked_sub(suffix.len()) {
        Some(head_len) if head_len > 0 => format!("{}{}{suffix}", head(parent, head_len), md5_hex(&[parent])),
        _ => {
            let hashed = format!("{}{}", head(parent, HEAD_LEN), md5_hex(&[parent, suffix]));
            let name = format!("{hashed}{}", head(suffix, LABEL_MAX_LEN.saturating_sub(hashed.len())));
            name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
        }
    }
}

/// Name of the revision that a configuration makes in its `generation`.
pub fn revision_name(configuration: &str, generation: i64) -> String {
    child_name(configuration, &format!("-{generation:05}"))
}

/// The beginning of a text, not cut within a character.
fn head(text: &str, len: usize) -> &str {
    &text[..text.floor_char_boundary(len)]
}

fn md5_hex(parts: &[&str]) -> String {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part.as_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

const LABEL_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1123_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
     must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
     an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Why a name is no label of a host name by RFC 1035; empty if it is one.
pub(crate) fn dns_1035_label_faults(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > LABEL_MAX_LEN {
        faults.push(format!("must be no more than {LABEL_MAX_LEN} characters"));
    }
    if !(is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())) {
        faults.push(LABEL_1035_RULE.to_owned());
    }
    faults
}

/// The same for the beginning of a name, which may end with a dash.
pub(crate) fn dns_1035_prefix_faults(prefix: &str) -> Vec<String> {
    match prefix.strip_suffix('-') {
        // Kubernetes puts an `a` in the place of the last two characters, whatever the first of the two is.
        Some(rest) if !rest.is_empty() => {
            let mut masked = rest.to_owned();
            masked.pop();
            masked.push('a');
            dns_1035_label_faults(&masked)
        }
        _ => dns_1035_label_faults(prefix),
    }
}

/// Why a name is no label of a host name by RFC 1123; empty if it is one.
pub(crate) fn dns_1123_label_faults(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > LABEL_MAX_LEN {
        faults.push(format!("must be no more than {LABEL_MAX_LEN} characters"));
    }
    if !is_label(name) {
        let is_subdomain = name.split('.').all(is_label);
        faults.push(if is_subdomain { "must not contain dots" } else { LABEL_1123_RULE }.to_owned());
    }
    faults
}

/// Why a name is no host name by RFC 1123; empty if it is one.
pub(crate) fn dns_1123_subdomain_faults(name: &str) -> Vec<String> {
    subdomain_faults(name, "characters")
}

fn subdomain_faults(name: &str, unit: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > SUBDOMAIN_MAX_LEN {
        faults.push(format!("must be no more than {SUBDOMAIN_MAX_LEN} {unit}"));
    }
    if !name.split('.').all(is_label) {
        faults.push(SUBDOMAIN_RULE.to_owned());
    }
    faults
}

/// Why a name is no key of a label or annotation; empty if it is one.
pub(crate) fn qualified_name_faults(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let local = match name.split('/').collect::<Vec<_>>()[..] {
        [local] => local,
        [prefix, local] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(subdomain_faults(prefix, "bytes").iter().map(|fault| format!("prefix part {fault}")));
            }
            local
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED_NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if local.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if local.len() > LABEL_MAX_LEN {
        faults.push(format!("name part must be no more than {LABEL_MAX_LEN} bytes"));
    }
    if !has_form(local, |c| c.is_ascii_alphanumeric(), "-_.") {
        faults.push(format!("name part {QUALIFIED_NAME_RULE}"));
    }
    faults
}

/// Faults as Go prints a list.
pub(crate) fn go_list(faults: &[String]) -> String {
    format!("[{}]", faults.join(" "))
}

fn is_label(name: &str) -> bool {
    has_form(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), "-")
}

/// Whether a name is not empty, starts and ends with an `edge` character and has `inner` ones besides only within.
fn has_form(name: &str, edge: fn(char) -> bool, inner: &str) -> bool {
    name.starts_with(edge) && name.ends_with(edge) && name.chars().all(|c| edge(c) || inner.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_counted_with_five_digits() {
        assert_eq!(revision_name("hello", 7), "hello-00007");
        assert_eq!(revision_name("hello", 123_456), "hello-123456");
    }

    #[track_caller]
    fn check_child(parent: &str, suffix: &str, name: &str) {
        assert_eq!(child_name(parent, suffix), name);
        assert!(name.len() <= 63);
    }

    #[test]
    fn a_long_parent_is_cut_and_hashed() {
        check_child(&"a".repeat(57), "-00001", &format!("{}-00001", "a".repeat(57)));
        check_child(&"a".repeat(58), "-00001", "aaaaaaaaaaaaaaaaaaaaaaaaadc2f2f2462a0d72358b2f99389458606-00001");
        check_child(&"c".repeat(60), "-private", "cccccccccccccccccccccccd57c23276fea774a9c0564697fcfed7e-private");
    }

    #[test]
    fn a_long_suffix_is_hashed_with_its_parent() {
        let name = child_name("short", &"-x".repeat(40));
        assert_eq!(name.len(), 63);
        assert!(name.starts_with("short") && name.ends_with("-x-x"), "{name}");
        assert_ne!(child_name("short", &"-y".repeat(40)), name);
    }

    #[track_caller]
    fn check(faults: Vec<String>, wanted: &[&str]) {
        assert_eq!(faults.len(), wanted.len(), "{faults:?}");
        for (fault, wanted) in faults.iter().zip(wanted) {
            assert!(fault.starts_with(wanted), "{fault}");
        }
    }

    #[test]
    fn labels_follow_rfc_1035() {
        check(dns_1035_label_faults("a-1"), &[]);
        check(dns_1035_label_faults(&"a".repeat(63)), &[]);
        check(dns_1035_label_faults(&"a".repeat(64)), &["must be no more than 63 characters"]);
        for bad in ["", "1a", "-a", "a-", "A", "a.b", "a_b", "ä"] {
            check(dns_1035_label_faults(bad), &["a DNS-1035 label must"]);
        }
        check(dns_1035_label_faults(&"A".repeat(64)), &["must be no more", "a DNS-1035 label must"]);
    }

    #[test]
    fn prefixes_may_end_with_a_dash() {
        check(dns_1035_prefix_faults("hello-"), &[]);
        check(dns_1035_prefix_faults("hello"), &[]);
        check(dns_1035_prefix_faults("he.lo-"), &["a DNS-1035 label must"]);
        check(dns_1035_prefix_faults("-"), &["a DNS-1035 label must"]);
    }

    #[test]
    fn subdomains_are_labels_and_dots() {
        check(dns_1123_subdomain_faults("a.1b.c-d"), &[]);
        check(dns_1123_subdomain_faults("a..b"), &["a lowercase RFC 1123 subdomain"]);
        check(dns_1123_subdomain_faults(&"a".repeat(254)), &["must be no more than 253 characters"]);
    }

    #[test]
    fn qualified_names_may_have_a_domain() {
        check(qualified_name_faults("My.Name_1"), &[]);
        check(qualified_name_faults("example.com/MyName"), &[]);
        check(qualified_name_faults("/a"), &["prefix part must be non-empty"]);
        check(qualified_name_faults("A/a"), &["prefix part a lowercase RFC 1123"]);
        check(qualified_name_faults("a/"), &["name part must be non-empty", "name part must consist"]);
        check(qualified_name_faults("b ar"), &["name part must consist of alphanumeric"]);
        check(qualified_name_faults("a/b/c"), &["a valid label key must consist"]);
        check(qualified_name_faults(&"a".repeat(64)), &["name part must be no more than 63 bytes"]);
    }
}
