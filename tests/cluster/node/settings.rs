//! The configuration of containerd, its network and the kubelet, and how all of it is taken away.

use super::Place;

/// Old versions of containerd want this form; the root file system may be full to any degree, and limits cannot be raised.
pub const CONTAINERD: &str = r#"version = 2
root = "@FOLDER@/containerd/root"
state = "@FOLDER@/containerd/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "@FOLDER@/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "@FOLDER@/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "piton.test/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "@PLUGINS@"
  conf_dir = "@FOLDER@/network"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "@RUNC@"
  Root = "@FOLDER@/runc"
  SystemdCgroup = false
"#;

pub const NETWORK: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "piton-test",
  "plugins": [{
    "type": "bridge", "bridge": "@BRIDGE@", "isGateway": true, "ipMasq": false,
    "ipam": {
      "type": "host-local", "dataDir": "@FOLDER@/addresses", "routes": [{"dst": "0.0.0.0/0"}],
      "ranges": [[{"subnet": "@SUBNET@.0/24", "gateway": "@SUBNET@.1"}]]
    }
  }]
}
"#;

pub const KUBELET: &str = r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: @SUBNET@.1
port: @PORT@
healthzPort: 0
containerRuntimeEndpoint: unix://@FOLDER@/containerd.sock
authentication: { anonymous: { enabled: true }, webhook: { enabled: false } }
authorization: { mode: AlwaysAllow }
# Machines with the first version of control groups are as good for tests.
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /@GROUP@
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
failSwapOn: false
oomScoreAdj: 0
# A test machine's disk may be full to any degree.
evictionHard: { memory.available: 1Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0% }
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 10s
nodeLeaseDurationSeconds: 40
syncFrequency: 10s
podLogsDir: @FOLDER@/pod-logs
volumePluginDir: @FOLDER@/volume-plugins
kubeAPIQPS: 200
kubeAPIBurst: 400
maxPods: 100
clusterDNS: []
resolvConf: ""
"#;

/// What the reaper does after it has killed our own programs: the shims and containers are nobody's children.
pub const AT_END: &str = r#"
folder='@FOLDER@' group='@GROUP@' bridge='@BRIDGE@'
ours() {
  for tasks in $(find /sys/fs/cgroup -path "*/$group*" -name cgroup.procs 2>/dev/null); do cat "$tasks"; done
  # The shims of our runtime name its socket.
  grep -laF "$folder/containerd.sock" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3 | grep -vx "$$"
}
mounts() { cut -d' ' -f2 /proc/mounts | grep "^$folder/" | sort -r; }
sockets=$(cat "$folder"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*/address 2>/dev/null | sed 's|unix://|\n|g')
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  for process in $(ours); do kill -s KILL "$process" 2>/dev/null; done
  for mount in $(mounts); do umount "$mount" 2>/dev/null || umount -l "$mount" 2>/dev/null; done
  for leaf in $(find /sys/fs/cgroup -depth -type d -path "*/$group*" 2>/dev/null); do rmdir "$leaf" 2>/dev/null; done
  if test -z "$(ours)$(mounts)" && test -z "$(find /sys/fs/cgroup -type d -path "*/$group*" 2>/dev/null)"; then break; fi
  sleep 0.2
done
ip link delete "$bridge" 2>/dev/null
for socket in $sockets; do rm -f "$socket"; done
# Other runtimes may have theirs here.
rmdir /run/containerd/s /run/containerd 2>/dev/null
"#;

/// Fills in what is of this node.
pub fn filled(text: &str, place: &Place) -> String {
    let Place { folder, plugins, runc, subnet, port, name } = place;
    let pairs = [
        ("@FOLDER@", folder.display().to_string()),
        ("@PLUGINS@", plugins.display().to_string()),
        ("@RUNC@", runc.display().to_string()),
        ("@SUBNET@", subnet.clone()),
        ("@PORT@", port.number.to_string()),
        ("@GROUP@", name.clone()),
        ("@BRIDGE@", name.clone()),
    ];
    pairs.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
}
