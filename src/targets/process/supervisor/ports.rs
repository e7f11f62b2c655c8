//! Free loopback ports.

use std::{fs, io, net::IpAddr};

use tokio::net::TcpListener;

const TRIES: usize = 200;
const LOWEST: u16 = 10_000;

/// A port that nobody listens on at this moment. It lies below the range from which the kernel takes the ports of
/// outgoing connections, so that none of those sits on it before the service does.
pub fn free() -> io::Result<u16> {
    let highest = kernel_range_start().max(LOWEST + 1000);
    for _ in 0..TRIES {
        let port = LOWEST + random()? % (highest - LOWEST);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no free port after {TRIES} tries")))
}

/// Listens on the port, or on a free one for 0.
pub async fn listen(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    if port != 0 {
        return TcpListener::bind((address, port)).await;
    }
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        match TcpListener::bind((address, free()?)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn kernel_range_start() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|start| start.parse().ok()).unwrap_or(32_768)
}

fn random() -> io::Result<u16> {
    let number = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
    Ok((number >> 16) as u16)
}
