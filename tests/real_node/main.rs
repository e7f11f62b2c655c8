//! Real pods on a real node: a kubelet, containerd and runc, as root. The pods run the sample service and serve real HTTP.

#[path = "../cluster/mod.rs"]
mod cluster;

mod pods;

#[used]
#[unsafe(link_section = ".init_array")]
static NEEDS: extern "C" fn() = cluster::needs::a_real_node;
