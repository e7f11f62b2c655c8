//! Go programs at pinned versions: built once into a cache outside the checkout.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// A program that `go build` makes from a pinned module.
#[derive(Debug, Clone, Copy)]
pub struct GoProgram {
    pub name: &'static str,
    /// The folder of its `go.mod` and `go.sum`, from the root of the repository.
    pub folder: &'static str,
    pub package: &'static str,
    /// The module in `go.mod` whose version the program says it has.
    pub version_of: &'static str,
    /// Linker assignments; `{version}`, `{major}` and `{minor}` are filled in.
    pub stamps: &'static [&'static str],
    /// Where the module of `version_of` has the CRDs that the program needs.
    pub crds: Option<&'static str>,
}

pub const ETCD: GoProgram = GoProgram {
    name: "etcd",
    folder: "tests/cluster/modules/etcd",
    package: "go.etcd.io/etcd/server/v3",
    version_of: "go.etcd.io/etcd/server/v3",
    stamps: &[],
    crds: None,
};
pub const APISERVER: GoProgram = kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
pub const CONTROLLER_MANAGER: GoProgram =
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");
pub const SCHEDULER: GoProgram = kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");
pub const KUBECTL: GoProgram = kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");
pub const KUBELET: GoProgram = kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet");
pub const HELM_3: GoProgram = GoProgram {
    name: "helm3",
    folder: "tests/cluster/modules/helm3",
    package: "helm.sh/helm/v3/cmd/helm",
    version_of: "helm.sh/helm/v3",
    stamps: &["helm.sh/helm/v3/internal/version.version={version}"],
    crds: None,
};
pub const HELM_4: GoProgram = GoProgram {
    name: "helm4",
    folder: "tests/cluster/modules/helm4",
    package: "helm.sh/helm/v4/cmd/helm",
    version_of: "helm.sh/helm/v4",
    stamps: &["helm.sh/helm/v4/internal/version.version={version}"],
    crds: None,
};
/// Flux: what fetches branches, what applies them, and what upgrades charts from them.
pub const FLUX: [GoProgram; 3] = [
    flux("source-controller", "github.com/fluxcd/source-controller"),
    flux("kustomize-controller", "github.com/fluxcd/kustomize-controller"),
    flux("helm-controller", "github.com/fluxcd/helm-controller"),
];
/// A registry that keeps everything in memory.
pub const REGISTRY: GoProgram = GoProgram {
    name: "registry",
    folder: "tests/cluster/modules/registry",
    package: "github.com/google/go-containerregistry/cmd/registry",
    version_of: "github.com/google/go-containerregistry",
    stamps: &[],
    crds: None,
};

/// What every cluster runs, and what looks at it.
pub const CONTROL_PLANE: [GoProgram; 5] = [ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER, KUBECTL];

const fn kubernetes(name: &'static str, package: &'static str) -> GoProgram {
    GoProgram {
        name,
        folder: "tests/cluster/modules/kubernetes",
        package,
        version_of: "k8s.io/kubernetes",
        stamps: &[
            "k8s.io/component-base/version.gitVersion={version}",
            "k8s.io/component-base/version.gitMajor={major}",
            "k8s.io/component-base/version.gitMinor={minor}",
            "k8s.io/component-base/version.gitTreeState=clean",
        ],
        crds: None,
    }
}

const fn flux(name: &'static str, package: &'static str) -> GoProgram {
    GoProgram {
        name,
        folder: "tests/cluster/modules/flux",
        package,
        version_of: package,
        stamps: &[],
        crds: Some("config/crd/bases"),
    }
}

const CRDS: &str = "crds.yaml";

impl GoProgram {
    /// Where the program is: in `KUBEBUILDER_ASSETS`, in the cache, or in the cache after it is built.
    pub fn path(&self) -> PathBuf {
        self.find().unwrap_or_else(|| self.build())
    }

    /// Where the program is, if it needs no building.
    pub fn find(&self) -> Option<PathBuf> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|assets| Path::new(&assets).join(self.name));
        assets.into_iter().chain([self.cached()]).find(|path| path.is_file())
    }

    /// The version in `go.mod`, as in `v1.36.3`.
    pub fn version(&self) -> String {
        let text = self.go_mod();
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut naming = lines.filter(|words| words.contains(&self.version_of) && !words.contains(&"=>"));
        let version = naming.find_map(|words| words.into_iter().find(|word| word.starts_with('v')));
        version.unwrap_or_else(|| panic!("{}/go.mod requires no {}", self.folder, self.version_of)).to_owned()
    }

    fn build(&self) -> PathBuf {
        let (place, folder) = (self.cached(), self.cached());
        let folder = folder.parent().expect("it is in a folder");
        fs::create_dir_all(folder).expect("room for the cache");
        let lock = File::create(folder.join(format!(".{}.lock", self.name))).expect("a lock file");
        lock.lock().expect("the lock of the cache");
        // Another process may have built it while this one waited.
        if !place.is_file() {
            let fresh = folder.join(format!(".{}.{}", self.name, std::process::id()));
            self.build_into(&fresh);
            fs::rename(&fresh, &place).expect("one file system");
        }
        place
    }

    fn build_into(&self, place: &Path) {
        let (began, version) = (Instant::now(), self.version());
        say(&format!("building {} {version}; the first build of a module takes minutes", self.name));
        let mut go = Command::new("go");
        go.args(["build", "-trimpath", "-mod=readonly", "-ldflags", &self.ldflags(&version), "-o"]);
        go.arg(place).arg(self.package).current_dir(self.source());
        go.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0").env_remove("GOFLAGS");
        let output = go.output().unwrap_or_else(|e| panic!("cannot run `go`, which builds {}: {e}", self.name));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cannot build {} in {}: {said}", self.name, self.folder);
        if let Some(crds) = self.crds {
            self.keep_crds(crds);
        }
        say(&format!("built {} {version} in {} s", self.name, began.elapsed().as_secs()));
    }

    /// The CRDs that the program needs, as one text.
    pub fn crds(&self) -> String {
        let file = self.cached().with_file_name(CRDS);
        if !file.is_file() {
            self.build();
        }
        fs::read_to_string(file).expect("it was written before the program")
    }

    /// Keeps them beside the program, so that a cache of programs needs no modules.
    fn keep_crds(&self, folder: &str) {
        let mut go = Command::new("go");
        go.args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", self.version_of]).current_dir(self.source());
        let output = go.env("GOTOOLCHAIN", "local").env_remove("GOFLAGS").output().expect("`go` has just run");
        let module = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let mut files: Vec<_> = fs::read_dir(module.join(folder)).expect("the module has it").flatten().collect();
        files.sort_by_key(fs::DirEntry::file_name);
        let texts = files.iter().map(|file| fs::read_to_string(file.path()).expect("it is text"));
        let all = texts.collect::<Vec<_>>().join("\n---\n");
        fs::write(self.cached().with_file_name(CRDS), all).expect("room for the cache");
    }

    fn ldflags(&self, version: &str) -> String {
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let fill = |stamp: &str| {
            format!(" -X {}", stamp.replace("{version}", version).replace("{major}", major).replace("{minor}", minor))
        };
        let stamps: String = self.stamps.iter().map(|stamp| fill(stamp)).collect();
        format!("-s -w{stamps}")
    }

    /// A folder of its own for each state of the pins.
    fn cached(&self) -> PathBuf {
        let sum = fs::read_to_string(self.source().join("go.sum")).expect("go.sum is checked in");
        let pins = format!("{}{sum}{}{:?}", self.go_mod(), self.package, self.stamps);
        let hash = git2::Oid::hash_object(git2::ObjectType::Blob, pins.as_bytes()).expect("bytes have a hash");
        cache().join(format!("{}-{}", self.name, &hash.to_string()[..12])).join(self.name)
    }

    fn go_mod(&self) -> String {
        fs::read_to_string(self.source().join("go.mod")).expect("go.mod is checked in")
    }

    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder)
    }
}

/// What tests keep from one run to the next: `$PITON_TEST_CACHE`, else `~/.cache/piton-test`.
pub fn cache() -> PathBuf {
    let named = std::env::var_os("PITON_TEST_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into()));
    named.unwrap_or_else(|| home().join(".cache/piton-test")).join("cluster")
}

/// A line on the real stderr, also where the test's own output is kept back.
pub fn say(line: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "cluster: {line}");
}
