//! Real pods on a real node: a kubelet, containerd and runc, as root. The pods run the sample service and serve real HTTP.

#[path = "../cluster/mod.rs"]
mod cluster;

#[path = "../rollout/world.rs"]
#[allow(dead_code, reason = "another group uses the rest")]
mod world;

mod pods;
mod rollouts;

use cluster::{Cluster, Options};

#[used]
#[unsafe(link_section = ".init_array")]
static NEEDS: extern "C" fn() = cluster::needs::a_real_node;

/// The cluster of this group, whose node knows the images of these versions.
async fn cluster_with(versions: Vec<String>) -> &'static Cluster {
    let cluster = Cluster::shared_with(Options { nodes: 0, real_node: true, ..Options::default() }).await;
    let import = move || {
        for version in versions {
            cluster.real_node().sample_image(&version).expect("the runtime takes the image");
        }
    };
    tokio::task::spawn_blocking(import).await.expect("no panic");
    cluster
}
