//! Where servers are reached; arithmetic on addresses, no name is looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The URL of a server on its own machine; one that listens everywhere listens on loopback too.
pub fn local_url(listening: SocketAddr) -> String {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}/", SocketAddr::new(ip, listening.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(listening: &str, url: &str) {
        assert_eq!(local_url(listening.parse().expect("an address")), url);
    }

    #[test]
    fn what_listens_everywhere_is_reached_on_loopback_and_the_rest_where_it_is() {
        check("0.0.0.0:81", "http://127.0.0.1:81/");
        check("[::]:81", "http://[::1]:81/");
        check("192.168.0.7:81", "http://192.168.0.7:81/");
        check("[::1]:81", "http://[::1]:81/");
    }
}
