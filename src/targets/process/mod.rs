//! Releases as local processes behind an embedded proxy: for a laptop, a test, or a platform on one host.

mod config;
mod contact;
mod drift;
mod rehearse;
mod supervisor;
mod wire;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::Path,
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::Value;

pub use self::{
    config::{Config, Ready, Service, Services},
    contact::ContactError,
    supervisor::supervise,
    wire::{InstanceReport, Report},
};
use self::{
    supervisor::record,
    wire::{Brought, Order, PROTOCOL, Request},
};
use super::{
    Act, Difference, Done, Entry, Live, Rehearsal, Sights, Site, Target, TargetError, checkouts, compare::compare,
};
use crate::{
    clients::secrets,
    model::{Portion, Release},
    pipeline::{Kind, Splits, TargetKind, checked},
};

/// The kind `process`.
pub const ENTRY: Entry = Entry {
    kind: TargetKind {
        kind: Kind {
            name: "process",
            about: "runs the services of a release as processes of this machine, behind a proxy that splits the users",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        splits: |_| Splits { by_share: true, ..Splits::default() },
    },
    build: |config, site| Ok(Box::new(Process::new(config, site)?)),
};

const HELP: &str = "\
The files of each release are checked out once into a folder of its own and built once; going back to a release needs
neither. A supervisor, one for each environment, starts the services, restarts what ends, writes their logs, and goes on
when piton itself ends. `piton supervise --state FOLDER` starts it again after a reboot.

Users come in on one port that stays the same. The proxy there splits them by weight, exactly: at 10 % every tenth request,
or with `sticky: COOKIE` every tenth visitor, who then stays. It passes WebSockets and event streams, and adds
`x-piton-arm` (`stable` or `candidate`) and `x-piton-release` to every answer. A request that carries
`x-piton-arm: candidate` goes to the release on trial, as does everything on `${candidate_url}`.

In `run` and `env`: `${port}`, `${instance}`, `${release}` (its folder), `${environment}`, `${data}` (a folder of the service
that survives releases), `${version.COMPONENT}`, and `${service.NAME.url}`, where the instances of another service of the same
release answer. A service must listen on 127.0.0.1 at `${port}`.

With `inputs`, a service whose files and callees are the same in two releases is not started twice: both use the same
instances, and a bump of another component does not restart it.

A rollback during a promotion is only a weight change: the old release runs until everything has passed.";

const EXAMPLE: &str = "\
process:
  port: 8080
  build: [make, build]
  services:
    web:
      run: [./bin/web, --port, '${port}', --api, '${service.api.url}']
      instances: 2
      ready: { path: /ready, within: 20s }
      route: /
      secrets: [SESSION_KEY]
    api:
      run: [./bin/api, --port, '${port}', --data, '${data}']
      inputs: [api, bin/api]
";

/// Work besides waiting for instances: an order's way there and back on a loaded machine.
const ORDER_MARGIN: Duration = Duration::from_secs(60);

/// Releases as processes of this machine.
pub struct Process {
    config: Config,
    site: Site,
}

impl Process {
    /// Takes a checked configuration.
    pub fn new(config: &Value, mut site: Site) -> Result<Process, TargetError> {
        let config = serde_json::from_value(config.clone()).map_err(|error| TargetError::World {
            what: "cannot read the configuration of the target `process`".to_owned(),
            source: Some(Box::new(error)),
        })?;
        // The supervisor has another working directory.
        site.state_dir = std::path::absolute(&site.state_dir).map_err(|error| TargetError::World {
            what: format!("cannot find the folder {}", site.state_dir.display()),
            source: Some(Box::new(error)),
        })?;
        Ok(Process { config, site })
    }

    async fn perform_act(&self, act: &Act, fence: u64) -> Result<Done, TargetError> {
        let order = match act {
            Act::Apply { release } => Order::Apply { release: self.bring(release).await? },
            Act::Shift { release, to } => Order::Shift { tree: release.tree.clone(), hundredths: hundredths(to)? },
            Act::Retreat { from, to } => {
                let to = match to {
                    Some(to) => Some(self.bring(to).await?),
                    None => None,
                };
                Order::Retreat { from: from.tree.clone(), to }
            }
            Act::Settle { keep } => Order::Settle { keep: keep.as_ref().map(|release| release.tree.clone()) },
        };
        let takes_down = matches!(order, Order::Retreat { to: None, .. } | Order::Settle { keep: None });
        if takes_down && self.nothing_runs().await? {
            return Ok(Done { note: "nothing runs here".to_owned(), renderer: None });
        }
        contact::ensure(&self.site.state_dir, &self.site.program).await?;
        let request = Request { protocol: PROTOCOL, fence, secrets: self.secrets(), order };
        let note = contact::order(&self.site.state_dir, &request, self.longest()).await??;
        if let Order::Settle { .. } = request.order {
            self.prune().await;
        }
        Ok(Done { note, renderer: None })
    }

    async fn bring(&self, release: &Release) -> Result<Brought, TargetError> {
        let Config { build, build_secrets, build_within, .. } = self.config.clone();
        let build = checkouts::Build { argv: build, secrets: build_secrets, within: build_within };
        let versions = release.versions.iter().map(|(name, version)| (name.to_string(), version.to_string()));
        Ok(Brought {
            tree: release.tree.clone(),
            dir: checkouts::bring(&self.site, &build, &release.tree).await?,
            environment: self.site.environment.clone(),
            versions: versions.collect(),
            config: self.config.clone(),
        })
    }

    /// What services take over from our environment.
    fn secrets(&self) -> BTreeMap<String, String> {
        let names = self.config.services.values().flat_map(|service| &service.secrets);
        names.filter_map(|name| Some((name.clone(), secrets::value(name).ok()?))).collect()
    }

    /// The longest that an order can take: instances are tried three times, old ones drain and stop.
    fn longest(&self) -> Duration {
        let services = self.config.services.values();
        let ready = services.clone().map(|service| service.ready.within.as_duration()).max().unwrap_or_default();
        let stop = services.map(|service| service.stop.as_duration()).max().unwrap_or_default();
        ready * 3 + stop * 2 + self.config.drain.as_duration() + ORDER_MARGIN
    }

    /// Old checkouts go; a failure costs disk space and is told at the next full disk.
    async fn prune(&self) {
        let Ok(report) = contact::report(&self.site.state_dir).await else { return };
        let folders = report.instances.iter().filter_map(|instance| instance.dir.file_name());
        let needed: Vec<OsString> = folders.map(OsStr::to_owned).collect();
        let (state_dir, keep) = (self.site.state_dir.clone(), self.config.keep);
        let pruned = tokio::task::spawn_blocking(move || checkouts::prune(&state_dir, &needed, keep)).await;
        if let Ok(Err(error)) = pruned {
            tracing::warn!(%error, "cannot remove old checkouts in {}", self.site.state_dir.display());
        }
    }

    /// Looks; where a supervisor was killed, another one takes over first.
    async fn look(&self) -> Result<Live, TargetError> {
        let report = self.report().await?;
        Ok(Live { releases: report.releases, facts: report.facts, versions: BTreeMap::new() })
    }

    async fn report(&self) -> Result<Report, TargetError> {
        let report = match contact::report(&self.site.state_dir).await {
            Ok(report) => report,
            Err(ContactError::None(_)) if !self.should_run()? => return Ok(Report::default()),
            Err(ContactError::None(_)) => {
                contact::ensure(&self.site.state_dir, &self.site.program).await?;
                contact::report(&self.site.state_dir).await?
            }
            Err(error) => return Err(error.into()),
        };
        Ok(report)
    }

    async fn see_drift(&self, release: &Release) -> Result<Vec<Difference>, TargetError> {
        let Report { releases, instances, .. } = self.report().await?;
        let mut differences = compare(&Live { releases, ..Live::default() }, release);
        differences.extend(drift::instances(&self.config, release, &instances));
        differences.extend(drift::files(release, &instances).await?);
        Ok(differences)
    }

    /// Where nothing runs, and nothing should, no supervisor is needed to take it down: the one that could not be
    /// started may be the reason for going back.
    async fn nothing_runs(&self) -> Result<bool, TargetError> {
        let nobody = matches!(contact::report(&self.site.state_dir).await, Err(ContactError::None(_)));
        Ok(nobody && !self.should_run()?)
    }

    /// Whether something ran here that was not ended on purpose.
    fn should_run(&self) -> Result<bool, TargetError> {
        let record = record::read(&self.site.state_dir).map_err(|error| TargetError::World {
            what: "cannot tell what should run here".to_owned(),
            source: Some(Box::new(error)),
        })?;
        Ok(record.is_some_and(|record| !record.ended && !record.releases.is_empty()))
    }
}

impl Target for Process {
    fn perform<'a>(&'a self, act: &'a Act, fence: u64) -> BoxFuture<'a, Result<Done, TargetError>> {
        Box::pin(self.perform_act(act, fence))
    }

    fn live(&self) -> BoxFuture<'_, Result<Live, TargetError>> {
        Box::pin(self.look())
    }

    fn sights(&self) -> Sights {
        Sights { drift: true, way_back: true }
    }

    fn drift<'a>(
        &'a self,
        release: &'a Release,
        _digests: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<Vec<Difference>, TargetError>> {
        Box::pin(self.see_drift(release))
    }

    fn rehearse<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<Rehearsal, TargetError>> {
        Box::pin(rehearse::rehearse(&self.config, &self.site, release))
    }
}

/// What the supervisor of a state folder says of itself; `None` where none runs. It starts nothing.
pub async fn report(state_dir: &Path) -> Result<Option<Report>, ContactError> {
    match contact::report(state_dir).await {
        Ok(report) => Ok(Some(report)),
        Err(ContactError::None(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends the supervisor of a state folder and everything it runs, and waits for that; with `drain`, open requests have
/// some seconds. Without a supervisor there is nothing to do.
pub async fn shutdown(state_dir: &Path, drain: bool) -> Result<(), TargetError> {
    let order = Order::Shutdown { drain };
    let request = Request { protocol: PROTOCOL, fence: 0, secrets: BTreeMap::new(), order };
    match contact::order(state_dir, &request, Duration::from_secs(120)).await {
        Ok(Ok(_)) => Ok(contact::gone(state_dir).await?),
        Err(ContactError::None(_)) => Ok(()),
        Ok(Err(refusal)) => Err(refusal.into()),
        Err(error) => Err(error.into()),
    }
}

fn hundredths(to: &Portion) -> Result<u16, TargetError> {
    match to {
        Portion::Share(share) => Ok(share.hundredths()),
        Portion::Members(names) => Err(TargetError::World {
            what: format!("the target `process` moves users by share, not by members: {}", names.join(", ")),
            source: None,
        }),
    }
}
