//! A real node: a real kubelet with the distribution's containerd and runc, as root.

pub mod image;
mod packages;
mod settings;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, PoisonError},
};

use super::{plane::run_in_group, ports::Port, programs::KUBELET, reaper::Reaper};
use image::{Layer, Packed};
use packages::Packages;
use settings::filled;

/// The node's name in the cluster.
pub const NAME: &str = "real-1";

/// What is of one node only.
#[derive(Debug)]
pub struct Place {
    pub folder: PathBuf,
    pub plugins: PathBuf,
    pub runc: PathBuf,
    /// The first three numbers of the pods' addresses.
    pub subnet: String,
    pub port: Port,
    /// Of the bridge and of the control group.
    pub name: String,
}

/// A kubelet and a container runtime in the cluster's folder. The reaper takes them away.
#[derive(Debug)]
pub struct RealNode {
    place: Place,
    packages: Packages,
    base: Packed,
    /// The versions of the sample that the runtime has.
    samples: Mutex<BTreeSet<String>>,
    _programs: Vec<Child>,
}

/// What pods of the sample service run.
const SAMPLE: [&str; 8] = ["/piton", "sample", "--host", "0.0.0.0", "--port", "8080", "--file", "/service.yaml"];
/// How the sample's versions behave, by the end of their names.
const BEHAVIOURS: [(&str, &str); 7] = [
    ("-crash", "at_start: crashes"),
    ("-mute", "at_start: never_listens"),
    ("-hang", "at_start: hangs"),
    ("-bad", "work_fails: true"),
    ("-leaky", "leaks_kib: 262144"),
    ("-mortal", "dies_after: 3s"),
    ("-stubborn", "ignores_sigterm: true"),
];

/// What the machine lacks for a real node, but for root.
pub fn lacks() -> Option<String> {
    let ip = Command::new("ip").arg("-Version").output().is_err();
    Packages::lack().or_else(|| ip.then(|| "it needs the program `ip`, for the pods' network".to_owned()))
}

impl RealNode {
    /// Starts the runtime and the kubelet. `kubeconfig` is whom the kubelet is.
    pub fn start(reaper: &Reaper, kubeconfig: &Path) -> io::Result<RealNode> {
        let packages = Packages::find();
        let chance = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
        let place = Place {
            folder: reaper.folder.clone(),
            plugins: packages.network_plugins(),
            runc: packages.program("runc"),
            subnet: format!("10.{}.{}", 128 + chance % 100, chance >> 8 & 255),
            port: Port::reserve(),
            // A name of a network interface has at most 15 letters.
            name: format!("piton{chance:08x}"),
        };
        let files = [
            ("containerd.toml", settings::CONTAINERD),
            ("network/10-piton.conflist", settings::NETWORK),
            ("kubelet.yaml", settings::KUBELET),
        ];
        // First, so that nothing is left of a node whose start fails.
        fs::write(place.folder.join("at-end.sh"), filled(settings::AT_END, &place))?;
        fs::create_dir_all(place.folder.join("network"))?;
        for (name, text) in files {
            fs::write(place.folder.join(name), filled(text, &place))?;
        }
        bring_up_bridge(&place)?;
        make_control_group(&place.name)?;
        let base = Layer::default().with_program("/piton", &piton())?.pack();
        let mut node = RealNode { place, packages, base, samples: Mutex::default(), _programs: Vec::new() };
        node.start_programs(reaper, kubeconfig)?;
        Ok(node)
    }

    fn start_programs(&mut self, reaper: &Reaper, kubeconfig: &Path) -> io::Result<()> {
        let folder = self.place.folder.clone();
        let mut containerd = Command::new(self.packages.program("containerd"));
        containerd.arg("--config").arg(folder.join("containerd.toml"));
        let containerd = run_in_group(reaper, "containerd", &mut containerd, &self.packages.path_variable())?;
        self.wait_for_containerd()?;
        self.import_pause()?;
        let mut kubelet = Command::new(KUBELET.path());
        kubelet.args(["--config=kubelet.yaml", "--cert-dir=kubelet/certs"]);
        kubelet.arg("--root-dir").arg(folder.join("kubelet"));
        kubelet.arg(format!("--hostname-override={NAME}")).arg(format!("--node-ip={}.1", self.place.subnet));
        kubelet.arg("--kubeconfig").arg(kubeconfig);
        let kubelet = run_in_group(reaper, "kubelet", &mut kubelet, &self.packages.path_variable())?;
        self._programs = vec![containerd, kubelet];
        Ok(())
    }

    /// Makes the image `sample:VERSION` known: `piton sample` on port 8080, which behaves as the end of its version says.
    pub fn sample_image(&self, version: &str) -> io::Result<()> {
        // Kept until the image is there: who asks for the same one waits for it.
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.contains(version) {
            return Ok(());
        }
        let behaves = BEHAVIOURS.iter().find(|(end, _)| version.ends_with(end)).map_or("", |(_, behaves)| behaves);
        let service = format!("name: sample\nversion: {version}\nversions: {{ {version}: {{ {behaves} }} }}\n");
        let own = Layer::default().with_file("/service.yaml", service).pack();
        self.import(&format!("docker.io/library/sample:{version}"), &[&self.base, &own], &SAMPLE)?;
        samples.insert(version.to_owned());
        Ok(())
    }

    /// The pod that holds a pod's network while its containers come and go.
    fn import_pause(&self) -> io::Result<()> {
        let sleep = Layer::default().with_program("/sleep", Path::new("/bin/sleep"))?.pack();
        self.import("piton.test/pause:1", &[&sleep], &["/sleep", "infinity"])
    }

    fn import(&self, name: &str, layers: &[&Packed], entrypoint: &[&str]) -> io::Result<()> {
        let archive = self.place.folder.join(format!("{}.tar", name.replace(['/', ':'], "_")));
        image::write(&archive, name, layers, entrypoint)?;
        self.ctr(&["images", "import", &archive.display().to_string()])?;
        fs::remove_file(archive)
    }

    fn ctr(&self, words: &[&str]) -> io::Result<()> {
        let mut ctr = Command::new(self.packages.program("ctr"));
        ctr.arg("--address").arg(self.place.folder.join("containerd.sock")).args(["--namespace", "k8s.io"]).args(words);
        let output = ctr.output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("ctr {words:?}: {}", String::from_utf8_lossy(&output.stderr)))),
        }
    }

    fn wait_for_containerd(&self) -> io::Result<()> {
        let began = std::time::Instant::now();
        while let Err(error) = self.ctr(&["version"]) {
            if began.elapsed() > super::LONGEST {
                return Err(error);
            }
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The program under test; an example lies in a folder below it.
fn piton() -> PathBuf {
    if let Some(path) = option_env!("CARGO_BIN_EXE_piton") {
        return PathBuf::from(path);
    }
    let ours = std::env::current_exe().expect("linux");
    let built = ours.ancestors().map(|folder| folder.join("piton")).find(|path| path.is_file());
    built.expect("`cargo build` makes target/debug/piton")
}

/// The node's own address is that of the bridge, so that it is reached whatever else the machine is connected to.
fn bring_up_bridge(place: &Place) -> io::Result<()> {
    let address = format!("{}.1/24", place.subnet);
    for words in [
        &["link", "add", "name", &place.name, "type", "bridge"][..],
        &["address", "add", &address, "dev", &place.name],
        &["link", "set", &place.name, "up"],
    ] {
        let output = Command::new("ip").args(words).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("ip {words:?}: {}", String::from_utf8_lossy(&output.stderr))));
        }
    }
    Ok(())
}

/// In every hierarchy of the first version, or in the one of the second.
fn make_control_group(name: &str) -> io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").is_file() {
        return fs::create_dir_all(root.join(name));
    }
    for hierarchy in fs::read_dir(root)?.flatten().filter(|entry| entry.path().is_dir()) {
        let group = hierarchy.path().join(name);
        fs::create_dir_all(&group)?;
        // A new group may use no processor until it is told which.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let (Ok(all), Ok(mut own)) =
                (fs::read(hierarchy.path().join(file)), fs::File::options().write(true).open(group.join(file)))
            {
                own.write_all(&all)?;
            }
        }
    }
    Ok(())
}
