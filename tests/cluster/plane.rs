//! The programs of a control plane: etcd, API server, controller manager, scheduler.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    access,
    ports::Port,
    programs::{APISERVER, CONTROLLER_MANAGER, ETCD, GoProgram, SCHEDULER},
    reaper::Reaper,
};

/// The controllers' own limit of requests would make everything slower by seconds.
const QPS: [&str; 2] = ["--kube-api-qps=500", "--kube-api-burst=1000"];

/// A control plane in one folder, on loopback.
#[derive(Debug)]
pub struct Plane {
    etcd: Option<Child>,
    apiserver: Option<Child>,
    controllers: Vec<Child>,
    /// The programs that a test asked for, in the order of their start.
    beside: Vec<&'static str>,
    etcd_ports: [Port; 2],
    port: Port,
    apiserver_flags: Vec<String>,
    // Last, so that the folder goes after the programs.
    pub reaper: Reaper,
}

impl Plane {
    /// Starts etcd and the API server; nothing is waited for.
    pub fn start(folder: &Path, apiserver_flags: &[String]) -> io::Result<Plane> {
        let reaper = Reaper::new(folder)?;
        access::write_keys(folder)?;
        let mut plane = Plane {
            etcd: None,
            apiserver: None,
            controllers: Vec::new(),
            beside: Vec::new(),
            etcd_ports: [Port::reserve(), Port::reserve()],
            port: Port::reserve(),
            apiserver_flags: apiserver_flags.to_vec(),
            reaper,
        };
        plane.start_etcd()?;
        plane.start_apiserver()?;
        Ok(plane)
    }

    pub fn folder(&self) -> &Path {
        &self.reaper.folder
    }

    /// The API server's address.
    pub fn url(&self) -> String {
        self.port.url("https")
    }

    pub fn start_etcd(&mut self) -> io::Result<()> {
        let [clients, peers] = &self.etcd_ports;
        let (clients, peers) = (clients.url("http"), peers.url("http"));
        let flags = [
            "--name=piton".to_owned(),
            "--data-dir=etcd".to_owned(),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=piton={peers}"),
        ];
        self.etcd = Some(self.run(&ETCD, &flags)?);
        Ok(())
    }

    /// Starts the API server on its port with its data, whether for the first time or again.
    pub fn start_apiserver(&mut self) -> io::Result<()> {
        let mut flags = vec![
            format!("--etcd-servers={}", self.etcd_ports[0].url("http")),
            format!("--secure-port={}", self.port.number),
        ];
        flags.extend(APISERVER_FLAGS.map(str::to_owned));
        flags.extend(self.apiserver_flags.iter().cloned());
        self.apiserver = Some(self.run(&APISERVER, &flags)?);
        Ok(())
    }

    /// Starts what works through the API server, which must answer.
    pub fn start_controllers(&mut self, node_grace_seconds: u32) -> io::Result<()> {
        let common = ["--kubeconfig=admin.kubeconfig", "--secure-port=0", "--leader-elect=false", "--profiling=false"];
        let common = common.into_iter().chain(QPS).map(str::to_owned).collect::<Vec<_>>();
        let own = [
            "--service-account-private-key-file=accounts.key".to_owned(),
            "--root-ca-file=certs/apiserver.crt".to_owned(),
            "--node-monitor-period=1s".to_owned(),
            format!("--node-monitor-grace-period={node_grace_seconds}s"),
        ];
        let flags: Vec<_> = common.iter().cloned().chain(own).collect();
        self.controllers = vec![self.run(&CONTROLLER_MANAGER, &flags)?, self.run(&SCHEDULER, &common)?];
        Ok(())
    }

    /// Starts another program that works through the API server.
    pub fn start_beside(&mut self, program: &GoProgram, flags: &[String]) -> io::Result<()> {
        let folder = self.reaper.folder.display();
        let mut command = Command::new("env");
        // What it leaves over goes with the cluster.
        command.args([format!("KUBECONFIG={folder}/admin.kubeconfig"), format!("TMPDIR={folder}")]);
        command.arg(program.path()).args(flags);
        let path = std::env::var("PATH").unwrap_or_default();
        self.controllers.push(run_in_group(&self.reaper, program.name, &mut command, &path)?);
        self.beside.push(program.name);
        Ok(())
    }

    /// Kills the API server without a warning and waits until it is gone.
    pub fn kill_apiserver(&mut self) {
        if let Some(mut child) = self.apiserver.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops or continues the API server, which keeps its connections and answers nothing meanwhile.
    pub fn signal_apiserver(&self, signal: Signal) {
        let child = self.apiserver.as_ref().expect("the API server was killed and not started again");
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("it is our child");
    }

    /// The first program that has ended by itself, with its last lines.
    pub fn fallen(&mut self) -> Option<String> {
        let named = [("etcd", &mut self.etcd), ("kube-apiserver", &mut self.apiserver)];
        for (name, child) in named {
            if let Some(status) = child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                return Some(format!("{name} ended with {status}:\n{}", tail(&self.reaper.folder, name)));
            }
        }
        None
    }

    /// The last lines of every program.
    pub fn logs(&self) -> String {
        let names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet"];
        let all = names.iter().chain(&self.beside);
        all.map(|name| format!("--- {name}\n{}\n", tail(self.folder(), name))).collect()
    }

    fn run(&self, program: &GoProgram, flags: &[String]) -> io::Result<Child> {
        let path = std::env::var("PATH").unwrap_or_default();
        run_in_group(&self.reaper, program.name, Command::new(program.path()).args(flags), &path)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.reaper.reap();
        for child in self.etcd.iter_mut().chain(&mut self.apiserver).chain(&mut self.controllers) {
            let _ = child.wait();
        }
    }
}

/// Starts a program in the reaper's folder and group; what it says goes to `NAME.log`.
pub fn run_in_group(reaper: &Reaper, name: &str, command: &mut Command, path: &str) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log_of(&reaper.folder, name))?;
    command.current_dir(&reaper.folder).process_group(reaper.group());
    // Variables such as a proxy's would send loopback requests elsewhere.
    command.env_clear().env("PATH", path).env("HOME", &reaper.folder);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

fn log_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn tail(folder: &Path, name: &str) -> String {
    let text = fs::read_to_string(log_of(folder, name)).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

const APISERVER_FLAGS: [&str; 16] = [
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    // A loopback address may not be an endpoint of the service `kubernetes`.
    "--endpoint-reconciler-type=none",
    // The server makes its certificate itself; the same file holds its authority.
    "--cert-dir=certs",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-account-signing-key-file=accounts.key",
    "--service-account-key-file=accounts.pub",
    "--token-auth-file=tokens.csv",
    "--authorization-mode=Node,RBAC",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--allow-privileged=true",
    "--kubelet-preferred-address-types=InternalIP",
    "--event-ttl=2h",
    "--profiling=false",
    "--max-requests-inflight=2000",
    "--max-mutating-requests-inflight=1000",
];
