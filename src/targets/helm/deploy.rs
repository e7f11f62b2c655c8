//! One release of the tree as one revision of one Helm release.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    HelmTarget, Place,
    config::{Chart, Unit},
    failure, objects,
    program::Upgrade,
    record::{Deployed, Known},
    storage::{Content, Revision, Status},
    stuck,
    watch::{Shoulder, known_objects},
    world,
};
use crate::{
    clients::{kube::ObjectId, process::Ran},
    model::{Release, Span},
    targets::{
        TargetError, checkouts,
        kubernetes::{
            health,
            rollout::{self, Ended, Watched, touched},
        },
        template,
    },
};

/// How long an overtaken runner has to see the newer number and to kill its Helm. Nobody can tell whether it is still alive.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(3);

/// Which way a deploy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Forward,
    /// To what was good: nothing that can be mended may stop it.
    Back,
    /// Over what was changed by hand: Helm runs although it believes that everything is there.
    Over,
}

/// One unit on its way to one release.
pub struct Deploy<'a> {
    pub target: &'a HelmTarget,
    pub unit: &'a Unit,
    pub release: &'a Release,
    pub fence: u64,
    pub way: Way,
}

/// What a rehearsal has found.
pub struct Rehearsed {
    pub chart: String,
    pub digest: String,
    /// What would be there; nothing where it could not be rendered.
    pub objects: Vec<Value>,
}

/// Everything about a deploy that is found out before Helm is started.
struct Prepared {
    dir: PathBuf,
    chart: PathBuf,
    digest: String,
    /// The chart's digest and Helm's version.
    with: String,
    values: Vec<String>,
    set: Vec<String>,
}

impl<'a> Deploy<'a> {
    /// Whether the release could be deployed; nothing is changed.
    pub async fn rehearse(self) -> Result<Rehearsed, TargetError> {
        let place = self.target.place(self.unit).await?;
        let known = place.record.check(self.fence).await?;
        let revisions = place.storage.revisions().await?;
        if let Some(pending) = stuck::pending(&revisions).filter(|pending| !began(&known, pending)) {
            return Err(stuck::explain(&place, self.unit, pending).await);
        }
        let prepared = self.prepare().await?;
        let (mut refused, mut rendered) = (Vec::new(), Vec::new());
        // With a revision of ours still open, Helm itself would refuse even to render; the deploy mends that first.
        if stuck::pending(&revisions).is_none() {
            let manifest = self.target.helm.render(&self.upgrade(&prepared)).await?;
            rendered = objects::parse(&manifest).map_err(TargetError::Release)?;
            refused = objects::refusals(&place.cluster, &rendered, &self.unit.namespace)
                .await
                .map_err(|error| world("cannot ask the API server about the release", error))?;
        }
        match refused.is_empty() {
            true => {
                let (chart, digest) = (self.target.config.chart.to_string(), prepared.digest);
                Ok(Rehearsed { chart, digest, objects: rendered })
            }
            false => Err(TargetError::Release(format!("{}: the cluster refuses {}", self.unit, refused.join("; ")))),
        }
    }

    /// Deploys, and waits until all is ready or something is visibly broken.
    pub async fn run(self) -> Result<String, TargetError> {
        let until = Instant::now() + self.target.config.within.as_duration();
        let place = self.target.place(self.unit).await?;
        let known = place.record.check(self.fence).await?;
        let revisions = place.storage.revisions().await?;
        // What does not become ready by itself needs time for being deployed again.
        let half = Instant::now() + self.target.config.within.as_duration() / 2;
        if self.way != Way::Over
            && let Some(note) = self.is_there(&place, &known, &revisions, half).await?
        {
            return Ok(note);
        }
        self.refuse_foreign(&place, &known, &revisions).await?;
        let prepared = self.prepare().await?;
        self.ensure_namespace(&place).await?;
        // Helm's own memory is put right by the newest runner alone.
        let known = place.record.change(self.fence, |_| ()).await?;
        let revisions = alone(&place, &known, self.fence).await?;
        let mended = self.mend(&place, &revisions).await?;
        let revisions = if mended.is_some() { place.storage.revisions().await? } else { revisions };
        let replaced = self.rebase(&place, &prepared, &revisions).await?;
        let last = revisions.last().map_or(0, |revision| revision.number);
        let (tree, with) = (self.release.tree.clone(), prepared.with.clone());
        let doing = Deployed { tree, revision: last + 1, with, by: self.fence };
        place.record.change(self.fence, |known| known.doing = Some(doing.clone())).await?;
        self.say(format!("{}: upgrading with {}", self.unit, prepared.with));
        let upgrade = async {
            self.helm(&place, &prepared, &revisions, until).await?;
            let content = self.content(&place, last).await?;
            let swept = self.sweep(&place, replaced.as_ref(), &content).await?;
            self.wait_ready(&place, &content, until).await?;
            Ok(swept)
        };
        let swept = place.record.while_ours(self.fence, upgrade).await?;
        let deployed = doing.clone();
        place
            .record
            .change(self.fence, |known| *known = Known { deployed: Some(deployed.clone()), doing: None })
            .await?;
        let notes = [mended, Some(format!("revision {} with {}", doing.revision, prepared.with)), swept];
        Ok(format!("{}: {}", self.unit, notes.into_iter().flatten().collect::<Vec<_>>().join("; ")))
    }

    /// The release is what was deployed last, and nothing was begun since: it only has to be ready.
    async fn is_there(
        &self,
        place: &Place,
        known: &Known,
        revisions: &[Revision],
        until: Instant,
    ) -> Result<Option<String>, TargetError> {
        let (Some(last), Some(deployed), None) = (revisions.last(), &known.deployed, &known.doing) else {
            return Ok(None);
        };
        let same = deployed.tree == self.release.tree && deployed.revision == last.number;
        if !same || last.status != Status::Deployed {
            return Ok(None);
        }
        let watched = self.watched(place, &place.storage.content(last).await?).await;
        let note = format!("{}: revision {} is there already", self.unit, last.number);
        match rollout::watch(&place.cluster, watched, &left(until), &self.target.site.progress).await {
            Ended::Ready { .. } => Ok(Some(note)),
            // Somebody's hand may be in it; Helm puts it right if the chart can.
            Ended::Broken(_) | Ended::TimeOut { .. } | Ended::Unknown { .. } => Ok(None),
        }
    }

    /// On the way forward, a revision that somebody else left open is not ours to end.
    async fn refuse_foreign(&self, place: &Place, known: &Known, revisions: &[Revision]) -> Result<(), TargetError> {
        match (self.way, stuck::pending(revisions)) {
            (Way::Forward, Some(pending)) if !began(known, pending) => {
                Err(stuck::explain(place, self.unit, pending).await)
            }
            (Way::Forward | Way::Back | Way::Over, _) => Ok(()),
        }
    }

    /// Ends a revision that a killed Helm left open.
    async fn mend(&self, place: &Place, revisions: &[Revision]) -> Result<Option<String>, TargetError> {
        match stuck::pending(revisions) {
            Some(pending) => stuck::end(place, pending).await.map(Some),
            None => Ok(None),
        }
    }

    /// Where Helm would compare with an older revision than the last, it is made to compare with the last; a release that
    /// cannot even be rendered leaves its memory as it is. Gives what was deployed before.
    async fn rebase(
        &self,
        place: &Place,
        prepared: &Prepared,
        revisions: &[Revision],
    ) -> Result<Option<Content>, TargetError> {
        let Some(good) = stuck::outdated(revisions) else { return Ok(None) };
        self.target.helm.render(&self.upgrade(prepared)).await?;
        stuck::rebase(place, revisions, good).await.map(Some)
    }

    async fn prepare(&self) -> Result<Prepared, TargetError> {
        let config = &self.target.config;
        let site = &self.target.site;
        let dir = checkouts::bring(site, &checkouts::Build::default(), &self.release.tree).await?;
        let store = site.state_dir.join("charts");
        let expand = |text: &str| self.expand(text);
        let expanded = |texts: &[String]| texts.iter().map(|text| self.expand(text)).collect::<Result<Vec<_>, _>>();
        let values = expanded(&self.unit.values)?;
        self.nothing_leads_out(&dir, &values)?;
        let found =
            super::charts::find(&self.target.helm, &config.chart, config.dependencies, &dir, &store, expand).await?;
        if let Some(missing) = values.iter().find(|file| !dir.join(file).is_file()) {
            return Err(TargetError::Release(format!("{}: the release has no values file `{missing}`", self.unit)));
        }
        let version = self.target.version().await?;
        Ok(Prepared {
            with: format!("chart {} by Helm {version}", found.digest),
            chart: found.path,
            digest: found.digest,
            values,
            set: expanded(&self.unit.set)?,
            dir,
        })
    }

    /// Helm follows links wherever they lead, and this machine's own files are not the release.
    fn nothing_leads_out(&self, dir: &Path, values: &[String]) -> Result<(), TargetError> {
        let config = &self.target.config;
        let chart = match &config.chart {
            Chart::Folder(folder) => Some(folder),
            Chart::Packaged(packaged) => packaged.digests.as_ref(),
        };
        for used in values.iter().chain(chart) {
            let found = checkouts::leads_out(dir, Path::new(used));
            if let Some(link) = found.map_err(|error| world(&format!("cannot look for links in `{used}`"), error))? {
                let (unit, link) = (self.unit, link.display());
                let why =
                    format!("{unit}: `{link}` leads out of the release; a release is made of its own files alone");
                return Err(TargetError::Release(why));
            }
        }
        Ok(())
    }

    fn upgrade<'b>(&'b self, prepared: &'b Prepared) -> Upgrade<'b> {
        let (release, environment) = (&self.release, &self.target.site.environment);
        Upgrade {
            unit: self.unit,
            chart: &prepared.chart,
            dir: &prepared.dir,
            values: prepared.values.clone(),
            set: prepared.set.clone(),
            flags: &self.target.config.flags,
            hooks: self.target.config.hooks,
            tree: &release.tree,
            description: format!("piton: {environment} at release {}", release.tree.short()),
        }
    }

    fn expand(&self, text: &str) -> Result<String, TargetError> {
        let value = |name: &str| match name {
            "environment" => Some(self.target.site.environment.to_string()),
            "member" => self.unit.member.clone(),
            "tree" => Some(self.release.tree.to_string()),
            "source" => Some(self.release.source.to_string()),
            other => {
                let component = other.strip_prefix("version.")?;
                let found = self.release.versions.iter().find(|(name, _)| name.as_str() == component);
                found.map(|(_, version)| version.to_string())
            }
        };
        template::expand(text, value).map_err(|why| TargetError::Release(format!("{}: {why}", self.unit)))
    }

    async fn ensure_namespace(&self, place: &Place) -> Result<(), TargetError> {
        if place.record.has_namespace().await? {
            return Ok(());
        }
        if self.target.config.flags.iter().any(|flag| flag == "--create-namespace") {
            return place.record.make_namespace().await;
        }
        let namespace = &self.unit.namespace;
        let what = format!("there is no namespace `{namespace}`; make it, or give Helm the flag `--create-namespace`");
        Err(TargetError::World { what, source: None })
    }

    /// Runs Helm, and kills it when something that it has changed is visibly broken.
    async fn helm(
        &self,
        place: &Place,
        prepared: &Prepared,
        revisions: &[Revision],
        until: Instant,
    ) -> Result<(), TargetError> {
        let last = revisions.last().map_or(0, |revision| revision.number);
        let known = known_objects(&place.cluster, &place.storage, &self.unit.namespace, revisions).await?;
        let before = touched::marks(&place.cluster, &known).await;
        let (storage, progress) = (&place.storage, &self.target.site.progress);
        let cluster = &place.cluster;
        let (namespace, rollout) = (self.unit.namespace.as_str(), left(until));
        let shoulder = Shoulder { cluster, storage, namespace, last, before: &before, rollout, progress };
        let upgrade = self.upgrade(prepared);
        let error = tokio::select! {
            biased;
            ran = self.target.helm.upgrade(&upgrade) => match ran? {
                ran if ran.succeeded() => return Ok(()),
                ran => self.failed(&ran),
            },
            trouble = shoulder.broken() => trouble.into_error(),
        };
        // Helm is gone by now, and its revision must not stay open; the one that is open may be a newer runner's.
        place.record.check(self.fence).await?;
        if let Some(open) = stuck::pending(&place.storage.revisions().await?) {
            stuck::end(place, open).await?;
        }
        Err(error)
    }

    fn failed(&self, ran: &Ran) -> TargetError {
        failure::of(&format!("{}: `helm upgrade` failed", self.unit), ran)
    }

    /// What Helm has just deployed.
    async fn content(&self, place: &Place, last: u64) -> Result<Content, TargetError> {
        let revisions = place.storage.revisions().await?;
        let new = revisions.last().filter(|revision| revision.number > last);
        match new {
            Some(new) => Ok(place.storage.content(new).await?),
            None => {
                let what = format!(
                    "{}: `helm upgrade` said that all is well, but left no new revision; does its environment choose \
                     another storage than Secrets?",
                    self.unit
                );
                Err(TargetError::World { what, source: None })
            }
        }
    }

    async fn ids(&self, place: &Place, content: &Content) -> Vec<ObjectId> {
        // A kind that came with the chart is known from here on.
        place.cluster.forget_kinds().await;
        let parsed = objects::parse(&content.manifest).unwrap_or_default();
        objects::names(&place.cluster, &parsed, &self.unit.namespace).await
    }

    async fn watched(&self, place: &Place, content: &Content) -> Watched {
        let ids = self.ids(place, content).await;
        let mut jobs = objects::parse(&content.manifest).unwrap_or_default();
        jobs.retain(health::is_collected_when_done);
        let jobs = objects::names(&place.cluster, &jobs, &self.unit.namespace).await;
        let watched = Watched::from(&ids).with_passing(jobs);
        match self.way {
            Way::Forward => watched,
            Way::Back | Way::Over => watched.on_the_way_back(),
        }
    }

    async fn wait_ready(&self, place: &Place, content: &Content, until: Instant) -> Result<(), TargetError> {
        let watched = self.watched(place, content).await;
        let ended = rollout::watch(&place.cluster, watched, &left(until), &self.target.site.progress).await;
        ended.into_result().map(drop).map_err(|error| match error {
            TargetError::Release(why) => TargetError::Release(format!("{}: {why}", self.unit)),
            TargetError::World { what, source } => {
                TargetError::World { what: format!("{}: {what}", self.unit), source }
            }
            TargetError::Unreached { what, source } => {
                TargetError::Unreached { what: format!("{}: {what}", self.unit), source }
            }
            fenced @ TargetError::Fenced { .. } => fenced,
        })
    }

    /// Removes what an interrupted revision was about to remove.
    async fn sweep(
        &self,
        place: &Place,
        replaced: Option<&Content>,
        content: &Content,
    ) -> Result<Option<String>, TargetError> {
        let Some(replaced) = replaced else { return Ok(None) };
        let stay: BTreeSet<ObjectId> = self.ids(place, content).await.into_iter().collect();
        let left: Vec<ObjectId> = self.ids(place, replaced).await.into_iter().filter(|id| !stay.contains(id)).collect();
        let gone = objects::sweep(&place.cluster, self.unit, &left).await;
        let gone = gone.map_err(|error| world("cannot remove what an interrupted upgrade left over", error))?;
        Ok((!gone.is_empty()).then(|| format!("removed {} that an interrupted upgrade left over", gone.join(", "))))
    }

    fn say(&self, line: String) {
        self.target.site.progress.say(line);
    }
}

/// The revisions, once no runner with an older lease can be at work on them any more; the newer number must stand there.
pub async fn alone(place: &Place, known: &Known, fence: u64) -> Result<Vec<Revision>, TargetError> {
    let revisions = place.storage.revisions().await?;
    let ended = |doing: &Deployed| {
        let found = revisions.iter().find(|revision| revision.number == doing.revision);
        found.is_some_and(|found| !matches!(found.status, Status::Pending(_)))
    };
    match &known.doing {
        Some(doing) if doing.by < fence && !ended(doing) => {
            tokio::time::sleep(OVERTAKEN_WITHIN).await;
            Ok(place.storage.revisions().await?)
        }
        Some(_) | None => Ok(revisions),
    }
}

/// Whether the open revision is of a run of ours for which nobody saw the end.
fn began(known: &Known, pending: &Revision) -> bool {
    known
        .doing
        .as_ref()
        .is_some_and(|doing| doing.revision == pending.number && Some(&doing.tree) == pending.tree.as_ref())
}

fn left(until: Instant) -> rollout::Config {
    let left_ms = until.saturating_duration_since(Instant::now()).as_millis();
    rollout::Config::within(Span(u64::try_from(left_ms).unwrap_or(u64::MAX)))
}
