//! Loopback ports that stay free for us, also while a program that listens on one is down.

use std::{
    fs::{self, File},
    net::TcpListener,
};

const LOWEST: u16 = 20_000;
/// The kernel takes the ports of outgoing connections from above.
const HIGHEST: u16 = 32_000;

/// A port that no other test takes as long as this lives.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _reserved: File,
}

impl Port {
    pub fn reserve() -> Port {
        let folder = super::programs::cache().join("ports");
        fs::create_dir_all(&folder).expect("room for the cache");
        for _ in 0..500 {
            let chance = getrandom::u32().expect("the system has chance") >> 16;
            let number = LOWEST + (chance as u16) % (HIGHEST - LOWEST);
            let file = File::create(folder.join(number.to_string())).expect("a lock file");
            if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Port { number, _reserved: file };
            }
        }
        panic!("no free port between {LOWEST} and {HIGHEST} after 500 tries");
    }

    /// The port as a loopback address.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.number)
    }
}
