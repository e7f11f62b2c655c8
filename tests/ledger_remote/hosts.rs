//! HTTP with a token, and ssh with a key.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use piton::ledger::{Ledger, LedgerError};

use crate::{
    http::Host,
    ledger_world::{World, environment, git, good_page, ledger_in, page, reasons, try_git, write},
};

#[tokio::test]
async fn over_http_with_a_token() {
    let world = World::new();
    let host = Host::start(world.dir.path());
    let (one, two) = (ledger_in(&host.clone("one"), Some("origin")), ledger_in(&host.clone("two"), Some("origin")));
    let production = environment("production");
    write(&one, &production, page(&world.tree(), "first")).await;
    write(&two, &production, good_page(&world.tree(), "second")).await;
    one.open(&production).await.expect("it opens");
    assert_eq!(reasons(&one, &production).await, ["first", "second"]);
    let head = git(&world.origin(), &["rev-parse", "refs/heads/piton/production"]);
    assert_eq!(git(&world.origin(), &["rev-parse", "refs/piton/production/good"]), head);
}

#[tokio::test]
async fn a_wrong_token_is_told_without_the_token() {
    let world = World::new();
    let host = Host::start(world.dir.path());
    let dir = host.clone("one");
    git(&dir, &["config", "--unset", "http.extraheader"]);
    let url = host.url().replace("http://", "http://bot:hunter2-token@");
    git(&dir, &["remote", "set-url", "origin", &url]);
    let error = ledger_in(&dir, Some("origin")).open(&environment("production")).await.expect_err("it is refused");
    let LedgerError::Unreachable { why, .. } = &error else { panic!("{error:?}") };
    assert!(why.starts_with("`git ls-remote` exited with 128: "), "{why}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn over_ssh_with_a_key() {
    let world = World::new();
    let Some(host) = SshHost::start(&world) else { return };
    let dir = world.path("one");
    let url = format!("ssh://127.0.0.1:{}{}", host.port, world.origin().display());
    git(&world.clone("one"), &["remote", "set-url", "origin", &url]);
    git(&dir, &["config", "core.sshCommand", &host.command(&world)]);
    let ledger = ledger_in(&dir, Some("origin"));
    let production = environment("production");
    write(&ledger, &production, good_page(&world.tree(), "first")).await;
    write(&ledger, &production, good_page(&world.tree(), "second")).await;
    let other = world.ledger("two");
    other.open(&production).await.expect("it opens");
    assert_eq!(reasons(&other, &production).await, ["first", "second"]);

    drop(host);
    let mirror = ledger.open(&production).await.expect("the mirror answers");
    assert!(matches!(mirror.freshness, piton::ledger::Freshness::Mirror { unpushed: 0, .. }), "{:?}", mirror.freshness);
}

/// Installs a Debian package where that is possible: as root, on Debian, with its packages in reach.
fn installed(package: &str) -> bool {
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    nix::unistd::geteuid().is_root()
        && apt(&["-qq", "update"])
        && apt(&["-qq", "install", "--yes", "--no-install-recommends", package])
}

/// Debian's sshd with keys of its own on a free port.
struct SshHost {
    child: Child,
    port: u16,
}

impl SshHost {
    fn start(world: &World) -> Option<SshHost> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !sshd.exists() && !installed("openssh-server") {
            eprintln!("SKIPPED over_ssh_with_a_key: there is no {} (Debian: openssh-server)", sshd.display());
            return None;
        }
        for key in ["host_key", "user_key"] {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(world.path(key)).status();
            assert!(made.expect("ssh-keygen is there").success());
        }
        std::fs::copy(world.path("user_key.pub"), world.path("authorized_keys")).expect("a copy");
        // sshd cannot be asked for a free port: the kernel gives one, and another is tried when it is taken meanwhile.
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = Self::on_port(world, sshd, port) {
                return Some(SshHost { child, port });
            }
        }
        panic!("sshd found no port");
    }

    fn on_port(world: &World, sshd: &Path, port: u16) -> Option<Child> {
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPidFile none\nPermitRootLogin yes\n",
            world.path("host_key").display(),
            world.path("authorized_keys").display()
        );
        std::fs::write(world.path("sshd_config"), config).expect("a file");
        // Where sshd hides its unprivileged half; it is not there before the service ran once.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut command = Command::new(sshd);
        command.args(["-D", "-e", "-f"]).arg(world.path("sshd_config")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("sshd starts");
        let up = eventually(|| {
            let ended = child.try_wait().expect("it can be asked").is_some();
            (ended || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).then_some(!ended)
        });
        if up {
            return Some(child);
        }
        let _ = child.wait();
        None
    }

    fn command(&self, world: &World) -> String {
        let key = world.path("user_key");
        format!(
            "ssh -F none -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes",
            key.display()
        )
    }
}

impl Drop for SshHost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

#[test]
fn the_test_host_lets_nobody_in_without_the_token() {
    let world = World::new();
    let host = Host::start(world.dir.path());
    let said = try_git(world.dir.path(), &["ls-remote", &host.url()]).expect_err("there is no token");
    assert!(!said.is_empty());
}

/// Asks the real thing until it answers, within a minute.
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let began = std::time::Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed().as_secs() < 60, "it did not happen within a minute");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}
