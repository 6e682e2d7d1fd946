//! Are the ports free that the servers are about to take?

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context, Result, anyhow, bail};

/// A server's address and the flag that changes its port.
#[derive(Clone, Copy)]
pub struct Port {
    /// Where it will listen.
    pub address: SocketAddr,
    /// Such as `--port`.
    pub flag: &'static str,
}

/// Checks that every port can be bound, and no two are the same.
pub fn check_free(ports: &[Port]) -> Result<()> {
    for (i, port) in ports.iter().enumerate() {
        if let Some(other) = ports[..i].iter().find(|other| other.address.port() == port.address.port()) {
            bail!("{} and {} are both {}; give each its own port", other.flag, port.flag, port.address.port());
        }
        check_one(port)?;
    }
    Ok(())
}

fn check_one(Port { address, flag }: &Port) -> Result<()> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    let (ip, port) = (address.ip(), address.port());
    match error.kind() {
        ErrorKind::AddrInUse => {
            Err(anyhow!("port {port} on {ip} is taken; stop what uses it, or choose another with {flag}"))
        }
        ErrorKind::PermissionDenied => {
            Err(anyhow!("port {port} may not be used by this user; choose one from 1024 with {flag}"))
        }
        ErrorKind::AddrNotAvailable => Err(anyhow!("this machine has no address {ip}; choose another with --host")),
        _ => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_changes_it() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = holder.local_addr().expect("an address");
        let error = check_free(&[Port { address, flag: "--inference-port" }]).expect_err("it is taken").to_string();
        assert_eq!(
            error,
            format!(
                "port {} on 127.0.0.1 is taken; stop what uses it, or choose another with --inference-port",
                address.port()
            )
        );
        drop(holder);
        check_free(&[Port { address, flag: "--inference-port" }]).expect("it is free now");
    }

    #[test]
    fn one_port_cannot_serve_two() {
        let address = "127.0.0.1:9".parse().expect("an address");
        let ports = [Port { address, flag: "--port" }, Port { address, flag: "--preprocess-port" }];
        let error = check_free(&ports[1..]).and_then(|()| check_free(&ports)).expect_err("both are the same");
        assert_eq!(error.to_string(), "--port and --preprocess-port are both 9; give each its own port");
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let address = "192.0.2.1:8080".parse().expect("an address");
        let error = check_free(&[Port { address, flag: "--port" }]).expect_err("a documentation address").to_string();
        assert_eq!(error, "this machine has no address 192.0.2.1; choose another with --host");
    }
}
