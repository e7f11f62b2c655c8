use std::path::Path;

use futures_util::future::{BoxFuture, FutureExt};

use crate::{
    channels::{self, Channel},
    gates::{self, Gate},
    ledger::{CheckoutError, Put, Repository, RepositoryError, Tip},
    model::{CommitId, GateName, GateSpec, Guard, TreeId},
    pipeline::{self, Environment, GateKind, Kind, TargetKind},
    runner::Sockets,
    targets::{self, Checkout, Head, Site, Target, TargetError},
};

/// Why the sockets of an environment could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    #[error("unknown {what} `{kind}`")]
    Unknown { what: &'static str, kind: String },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("channel `{kind}`: {source}")]
    Channel { kind: String, source: serde_json::Error },
}

/// The real sockets of one environment.
pub struct Outside {
    target: Box<dyn Target>,
    channels: Vec<Box<dyn Channel>>,
    guard: Guard,
    guard_gates: Vec<(GateName, GateSpec)>,
}

impl Outside {
    pub fn new(environment: &Environment, site: Site) -> Result<Outside, SocketsError> {
        let spec = &environment.target;
        let entry = targets::ALL.iter().find(|entry| entry.kind.kind.name == spec.kind);
        let entry = entry.ok_or_else(|| SocketsError::Unknown { what: "target", kind: spec.kind.clone() })?;
        let target = (entry.build)(&spec.with, site)?;
        let channels = environment.notify.iter().map(channel).collect::<Result<_, _>>()?;
        let sights = target.sights();
        let guard = Guard {
            drift: environment.guard.drift.filter(|_| sights.drift),
            way_back: environment.guard.way_back.filter(|_| sights.way_back),
            blind_holds: environment.guard.blind_holds,
        };
        let spec = |name: &GateName| Some((name.clone(), environment.gates.get(name)?.clone()));
        let guard_gates = environment.guard_gates.iter().filter_map(spec).collect();
        Ok(Outside { target, channels, guard, guard_gates })
    }
}

fn channel(spec: &pipeline::ChannelSpec) -> Result<Box<dyn Channel>, SocketsError> {
    let entry = channels::ALL.iter().find(|entry| entry.kind.name == spec.kind);
    let entry = entry.ok_or_else(|| SocketsError::Unknown { what: "channel", kind: spec.kind.clone() })?;
    (entry.build)(&spec.with).map_err(|source| SocketsError::Channel { kind: spec.kind.clone(), source })
}

impl Sockets for Outside {
    fn target(&self) -> &dyn Target {
        self.target.as_ref()
    }

    fn gate(&self, spec: &GateSpec) -> Result<Box<dyn Gate>, String> {
        let entry = gates::ALL.iter().find(|entry| entry.kind.kind.name == spec.kind);
        let entry = entry.ok_or_else(|| format!("this piton does not know gates of kind `{}`", spec.kind))?;
        (entry.build)(&spec.with).map_err(|e| format!("the gate's configuration cannot be used: {e}"))
    }

    fn channels(&self) -> &[Box<dyn Channel>] {
        &self.channels
    }

    fn guard(&self) -> Guard {
        self.guard
    }

    fn guard_gates(&self) -> &[(GateName, GateSpec)] {
        &self.guard_gates
    }
}

/// Every kind that a pipeline file may name.
pub struct AllKinds {
    gates: Vec<GateKind>,
    targets: Vec<TargetKind>,
    channels: Vec<Kind>,
}

impl AllKinds {
    pub fn known() -> AllKinds {
        AllKinds {
            gates: gates::ALL.iter().map(|entry| entry.kind).collect(),
            targets: targets::ALL.iter().map(|entry| entry.kind).collect(),
            channels: channels::ALL.iter().map(|entry| entry.kind).collect(),
        }
    }

    pub fn kinds(&self) -> pipeline::Kinds<'_> {
        pipeline::Kinds { gates: &self.gates, targets: &self.targets, channels: &self.channels }
    }
}

/// The files of releases, from the local clone.
pub struct Files(pub Repository);

impl Checkout for Files {
    fn checkout(&self, tree: &TreeId, dir: &Path) -> Result<(), TargetError> {
        self.0.write_files(tree, dir).map_err(|error| match error {
            CheckoutError::Submodule { .. } | CheckoutError::Name { .. } | CheckoutError::Deep { .. } => {
                TargetError::Release(error.to_string())
            }
            CheckoutError::Read { .. } | CheckoutError::Write { .. } => {
                TargetError::World { what: format!("cannot check out tree {tree}"), source: Some(Box::new(error)) }
            }
        })
    }

    fn head<'a>(&'a self, branch: &'a str) -> BoxFuture<'a, Result<Option<Head>, TargetError>> {
        let head = |tip: Tip| {
            let Tip { commit, tree, message, author, at } = tip;
            Head { commit, tree, message, author, at: Some(at) }
        };
        let cannot = move |error| world(format!("cannot read the branch `{branch}`"), error);
        async move { Ok(self.0.tip(branch).await.map_err(cannot)?.map(head)) }.boxed()
    }

    fn publish<'a>(
        &'a self,
        branch: &'a str,
        tree: &'a TreeId,
        message: &'a str,
        seen: Option<&'a CommitId>,
    ) -> BoxFuture<'a, Result<Option<CommitId>, TargetError>> {
        let cannot = move |error| world(format!("cannot push the release to the branch `{branch}`"), error);
        async move {
            match self.0.put(branch, tree, message, seen).await.map_err(cannot)? {
                Put::Done(commit) => Ok(Some(commit)),
                Put::Lost => Ok(None),
                Put::Refused(why) => {
                    let what = format!("the git host refuses the push to the branch `{branch}`: {why}");
                    Err(TargetError::World { what, source: None })
                }
            }
        }
        .boxed()
    }

    fn knows(&self, tree: &TreeId) -> bool {
        self.0.has_tree(tree)
    }

    fn tree_of(&self, commit: &CommitId) -> Option<TreeId> {
        self.0.tree_of(commit).ok()
    }
}

fn world(what: String, error: RepositoryError) -> TargetError {
    TargetError::World { what, source: Some(Box::new(error)) }
}
