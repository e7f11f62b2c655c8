//! The container runtime: Debian's packages, unpacked into the cache; no service is installed or started.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::cluster::programs::{cache, say};

const PACKAGES: [&str; 3] = ["containerd", "runc", "containernetworking-plugins"];

/// Where the packages' files are.
#[derive(Debug, Clone)]
pub struct Packages {
    root: PathBuf,
}

impl Packages {
    /// Why they can neither be found nor downloaded.
    pub fn lack() -> Option<String> {
        let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
        let missing = ["apt-get", "dpkg"].into_iter().find(|program| !there(program))?;
        let why = format!("it needs {missing} to get {}", PACKAGES.join(", "));
        (!Packages::folder().is_dir()).then_some(why)
    }

    fn folder() -> PathBuf {
        cache().join(format!("packages-{}", release()))
    }

    /// Finds them in the cache, or downloads them through apt, which checks their signatures.
    pub fn find() -> Packages {
        let root = Packages::folder();
        fs::create_dir_all(cache()).expect("room for the cache");
        let lock = File::create(root.with_extension("lock")).expect("a lock file");
        lock.lock().expect("the lock of the cache");
        if !root.is_dir() {
            download(&root);
        }
        Packages { root }
    }

    /// The path of a program such as `containerd` or `runc`.
    pub fn program(&self, name: &str) -> PathBuf {
        let places = ["usr/bin", "usr/sbin", "usr/local/bin"].map(|folder| self.root.join(folder).join(name));
        places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("no {name} in {}", self.root.display()))
    }

    /// The folder of the network plug-ins.
    pub fn network_plugins(&self) -> PathBuf {
        let places = ["usr/lib/cni", "opt/cni/bin"].map(|folder| self.root.join(folder));
        let found = places.into_iter().find(|path| path.join("bridge").is_file());
        found.unwrap_or_else(|| panic!("no network plug-ins in {}", self.root.display()))
    }

    /// The folders of programs, as a value of `PATH`.
    pub fn path_variable(&self) -> String {
        let ours = ["usr/bin", "usr/sbin"].map(|folder| self.root.join(folder).display().to_string());
        format!("{}:{}", ours.join(":"), std::env::var("PATH").unwrap_or_default())
    }
}

fn release() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    let name = |name: &str| value(name).unwrap_or_default().trim_matches('"').to_owned();
    format!("{}-{}", name("ID"), name("VERSION_ID"))
}

fn download(root: &Path) {
    say(&format!("downloading {} from the distribution", PACKAGES.join(", ")));
    let fresh = root.with_extension(format!("{}", std::process::id()));
    let archives = fresh.join("archives");
    fs::create_dir_all(&archives).expect("room for the cache");
    let get = |archives: &Path| {
        let mut apt = Command::new("apt-get");
        apt.args(["-o", "APT::Sandbox::User=root", "download"]).args(PACKAGES).current_dir(archives);
        run(&mut apt)
    };
    // The lists of packages may be missing or old.
    if get(&archives).is_err() {
        run(Command::new("apt-get").arg("update")).unwrap_or_else(|why| panic!("{why}"));
        get(&archives).unwrap_or_else(|why| panic!("{why}"));
    }
    for archive in fs::read_dir(&archives).expect("it was made").flatten() {
        let unpacked = run(Command::new("dpkg").arg("-x").arg(archive.path()).arg(&fresh));
        unpacked.unwrap_or_else(|why| panic!("{why}"));
    }
    fs::remove_dir_all(&archives).expect("it is ours");
    fs::rename(&fresh, root).expect("one file system");
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
