//! Reading: what the origin has, what the mirror has, and what stands between them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use git2::Oid;

use super::{
    GitLedger, Lane, Names,
    chain::{self, Loaded, Reading},
    failed,
    repository::{DEEPEN_COMMITS, RepositoryError, commit_id, parse_oid},
    sign,
};
use crate::{
    clients::git::Depth,
    ledger::{Entry, Freshness, LedgerError, Opened},
    model::{CommitId, EnvironmentName},
};

/// A look that is younger counts as one just made.
const LOOK_FRESH: Duration = Duration::from_millis(500);

/// How often another process in the same clone may come in between before we give up.
const MIRROR_TRIES: usize = 20;

/// How often a shallow clone is deepened before it is called too shallow.
const DEEPEN_TRIES: usize = 16;

/// Where the origin's refs of an environment point.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Origin {
    pub head: Option<Oid>,
    pub good: Option<Oid>,
}

impl GitLedger {
    /// Opens several environments with one question to the host.
    pub async fn open_many(&self, environments: &[EnvironmentName]) -> Vec<Result<Opened, LedgerError>> {
        if self.remote().is_none() {
            return futures_util::future::join_all(environments.iter().map(|e| self.open_here(e))).await;
        }
        let mut lanes: BTreeMap<&EnvironmentName, _> = BTreeMap::new();
        for environment in environments {
            lanes.entry(environment).or_insert_with(|| self.lane(environment));
        }
        let mut turns = Vec::new();
        // In the order of their names, so that two callers never wait for each other.
        for lane in lanes.values() {
            turns.push(lane.network.clone().lock_owned().await);
        }
        let seen = self.look(environments).await;
        let mut opened = Vec::new();
        for environment in environments {
            opened.push(match &seen {
                Ok(seen) => self.open_seen(environment, seen.get(environment).copied().unwrap_or_default()).await,
                Err(why) => self.open_mirror_because(environment, why).await,
            });
        }
        opened
    }

    /// Brings what the origin has of all these environments in one go, so that opening them needs no more of the host.
    pub async fn prepare(&self, environments: &[EnvironmentName]) -> Result<(), String> {
        match self.remote() {
            None => Ok(()),
            Some(_) => self.look(environments).await.map(drop),
        }
    }

    /// What the mirror has, without asking the origin.
    pub async fn open_mirror(&self, environment: &EnvironmentName) -> Result<Opened, LedgerError> {
        match self.remote() {
            None => self.open_here(environment).await,
            Some(_) => self.open_mirror_because(environment, "the origin was not asked").await,
        }
    }

    /// Takes a branch that was rewritten as it is. What was written here and never reached the origin is kept on top.
    pub async fn accept_rewritten(&self, environment: &EnvironmentName) -> Result<Opened, LedgerError> {
        if self.remote().is_none() {
            return self.open_here(environment).await;
        }
        let lane = self.lane(environment);
        let turn = lane.network.clone().lock_owned().await;
        let head = self.look_again(environment).await?.head;
        let names = self.names(environment);
        let (mirror, local) = self.heads(environment).await?;
        // Kept as what it was, so that the pages of ours are told from the old history by their common part.
        let kept = match (mirror, local) {
            (Some(mirror), Some(local)) => self.between(environment, local, Some(mirror)).await?.0,
            (None, _) | (_, None) => Vec::new(),
        };
        self.check_signature(environment, head, None).await?;
        self.move_ref(environment, &names.mirror, mirror, head).await?;
        lane.view(|view| view.loaded = None);
        if let Some(local) = local {
            self.restack_on(environment, local, &kept, head).await?;
        }
        drop(turn);
        self.open_one(environment).await
    }

    pub(super) async fn open_one(&self, environment: &EnvironmentName) -> Result<Opened, LedgerError> {
        if self.remote().is_none() {
            return self.open_here(environment).await;
        }
        let lane = self.lane(environment);
        let _turn = lane.network.lock().await;
        // Right after a lost race the mirror is what the origin has.
        if lane.view(|view| view.looked_at.take()).is_some_and(|at| at.elapsed() < LOOK_FRESH)
            && let (Some(mirror), None) = self.heads(environment).await?
        {
            return self.opened(environment, Some(mirror), Freshness::Origin).await;
        }
        match self.look(std::slice::from_ref(environment)).await {
            Ok(seen) => self.open_seen(environment, seen.get(environment).copied().unwrap_or_default()).await,
            Err(why) => self.open_mirror_because(environment, &why).await,
        }
    }

    async fn open_here(&self, environment: &EnvironmentName) -> Result<Opened, LedgerError> {
        let branch = self.names(environment).branch;
        let head =
            self.0.repository.on_thread(move |r| r.local_ref(&branch)).await.map_err(|e| failed(environment, e))?;
        self.check_signature(environment, head, None).await?;
        self.opened(environment, head, Freshness::Origin).await
    }

    /// The origin answered: the mirror follows, and what waits here is pushed.
    async fn open_seen(&self, environment: &EnvironmentName, origin: Origin) -> Result<Opened, LedgerError> {
        self.follow(environment, origin).await?;
        let pushed = self.push_waiting(environment).await;
        let (mirror, local) = self.heads(environment).await?;
        match (local, pushed) {
            (None, Ok(())) => self.opened(environment, mirror, Freshness::Origin).await,
            (None, Err(error)) => Err(error),
            (Some(_), Ok(())) => self.open_mirror_because(environment, "more was written meanwhile").await,
            (Some(_), Err(LedgerError::Unreachable { why, .. } | LedgerError::Refused { why, .. })) => {
                self.open_mirror_because(environment, &why).await
            }
            (Some(_), Err(error)) => Err(error),
        }
    }

    pub(super) async fn open_mirror_because(
        &self,
        environment: &EnvironmentName,
        why: &str,
    ) -> Result<Opened, LedgerError> {
        let (mut mirror, local) = self.heads(environment).await?;
        if mirror.is_none() && local.is_none() {
            mirror = self.adopt_tracking(environment).await?;
        }
        let unpushed = match local {
            Some(local) => self.between(environment, local, mirror).await?.0.len(),
            None => 0,
        };
        match local.or(mirror) {
            // An environment that was never seen is not an empty one.
            None => Err(LedgerError::Unreachable { environment: environment.clone(), why: why.to_owned() }),
            head => self.opened(environment, head, Freshness::Mirror { why: why.to_owned(), unpushed }).await,
        }
    }

    /// The user's own `git fetch` may have seen a branch that we have not.
    async fn adopt_tracking(&self, environment: &EnvironmentName) -> Result<Option<Oid>, LedgerError> {
        let Names { tracking, mirror, .. } = self.names(environment);
        let Some(tracking) = tracking.filter(|name| git2::Reference::is_valid_name(name)) else { return Ok(None) };
        let found = self.0.repository.on_thread(move |r| r.local_ref(&tracking)).await;
        let found = found.map_err(|e| failed(environment, e))?;
        if found.is_some() {
            self.check_signature(environment, found, None).await?;
            self.move_ref(environment, &mirror, None, found).await?;
        }
        Ok(found)
    }

    async fn opened(
        &self,
        environment: &EnvironmentName,
        head: Option<Oid>,
        freshness: Freshness,
    ) -> Result<Opened, LedgerError> {
        let Some(head) = head else {
            return Ok(Opened { head: None, tree: None, state: Default::default(), freshness });
        };
        let Loaded { commit, tree, state, .. } = self.load(environment, head).await?;
        Ok(Opened { head: Some(commit), tree: Some(tree), state: (*state).clone(), freshness })
    }

    /// Asks the origin for these environments and brings what is missing. The error says why it could not.
    pub(super) async fn look(
        &self,
        environments: &[EnvironmentName],
    ) -> Result<BTreeMap<EnvironmentName, Origin>, String> {
        let resting = environments.iter().find_map(|environment| {
            let down = self.lane(environment).view(|view| view.down.clone());
            down.filter(|(since, _)| since.elapsed() < self.0.settings.retry_after.as_duration())
        });
        if let Some((_, why)) = resting {
            return Err(why);
        }
        let seen = self.ask(environments).await.map_err(|error| match error {
            RepositoryError::Unreachable { why, .. } => why,
            other => std::error::Error::source(&other).map_or(other.to_string(), |source| format!("{other}: {source}")),
        });
        for environment in environments {
            let down = seen.as_ref().err().map(|why| (Instant::now(), why.clone()));
            self.lane(environment).view(|view| view.down = down);
        }
        seen
    }

    async fn ask(
        &self,
        environments: &[EnvironmentName],
    ) -> Result<BTreeMap<EnvironmentName, Origin>, RepositoryError> {
        let repository = &self.0.repository;
        let names: Vec<Names> = environments.iter().map(|environment| self.names(environment)).collect();
        let asked: Vec<String> = names.iter().flat_map(|n| [n.branch.clone(), n.good.clone()]).collect();
        // A branch that is force-pushed between the question and the fetch leaves a hole: then the question is asked again.
        let mut tries = 0;
        loop {
            let refs = repository.origin_refs(&asked, self.0.settings.read_timeout).await?;
            let tips = refs.iter().map(|(name, id)| Ok((name.clone(), parse_oid(id)?)));
            let tips: Vec<(String, Oid)> = tips.collect::<Result<_, RepositoryError>>()?;
            // The good ones, too: in a clone without history they may lie below its end, and rollbacks go there.
            self.bring_heads(environments, &tips).await?;
            let here = tips.clone();
            let whole = repository
                .on_thread(move |r| r.with(|g| here.iter().all(|(_, tip)| g.find_commit(*tip).is_ok())))
                .await;
            tries += 1;
            if whole || tries == 3 {
                let tip = |name: &str| tips.iter().find(|(n, _)| n == name).map(|(_, tip)| *tip);
                let origins = names.iter().map(|n| Origin { head: tip(&n.branch), good: tip(&n.good) });
                return Ok(environments.iter().cloned().zip(origins).collect());
            }
        }
    }

    async fn bring_heads(
        &self,
        environments: &[EnvironmentName],
        heads: &[(String, Oid)],
    ) -> Result<(), RepositoryError> {
        let Some(remote) = self.remote() else { return Ok(()) };
        let mirrors: Vec<String> = environments.iter().map(|environment| self.names(environment).mirror).collect();
        let known =
            self.0.repository.on_thread(move |r| mirrors.iter().any(|m| matches!(r.local_ref(m), Ok(Some(_))))).await;
        // What was seen before must stay connected with what comes: no depth then.
        let when_shallow = if known { Depth::Full } else { Depth::Newest(DEEPEN_COMMITS) };
        self.0.repository.bring(remote, heads, when_shallow, self.0.settings.fetch_timeout).await
    }

    /// Lets the mirror follow the origin, unless the origin lost what it had.
    pub(super) async fn follow(&self, environment: &EnvironmentName, origin: Origin) -> Result<(), LedgerError> {
        let names = self.names(environment);
        let lane = self.lane(environment);
        let mut origin = origin;
        let mut asked_again = false;
        for _ in 0..MIRROR_TRIES {
            lane.view(|view| view.good = origin.good);
            let (mirror, _) = self.heads(environment).await?;
            if mirror == origin.head {
                return self.check_signature(environment, mirror, mirror).await;
            }
            if let Err(lost) = self.holds(environment, mirror, origin.head).await? {
                if asked_again {
                    return Err(lost);
                }
                // Another process in this clone may have pushed between our question and now.
                asked_again = true;
                origin = self.look_again(environment).await?;
                continue;
            }
            self.check_signature(environment, origin.head, mirror).await?;
            if self.move_ref(environment, &names.mirror, mirror, origin.head).await? {
                return Ok(());
            }
        }
        Err(LedgerError::Lost { environment: environment.clone() })
    }

    async fn look_again(&self, environment: &EnvironmentName) -> Result<Origin, LedgerError> {
        self.0.repository.forget_glance().await;
        let seen = self.look(std::slice::from_ref(environment)).await;
        let seen = seen.map_err(|why| LedgerError::Unreachable { environment: environment.clone(), why })?;
        Ok(seen.get(environment).copied().unwrap_or_default())
    }

    /// Whether a head of the origin still holds what was seen of it; the inner error says how not.
    async fn holds(
        &self,
        environment: &EnvironmentName,
        seen: Option<Oid>,
        found: Option<Oid>,
    ) -> Result<Result<(), LedgerError>, LedgerError> {
        let branch = self.names(environment).short;
        match (seen, found) {
            (None, _) => Ok(Ok(())),
            (Some(seen), None) => Ok(Err(LedgerError::Vanished { branch, seen: id(environment, seen)? })),
            (Some(seen), Some(found)) => {
                let kept = self.between(environment, seen, Some(found)).await?.0.is_empty();
                let (seen, found) = (id(environment, seen)?, id(environment, found)?);
                Ok(if kept { Ok(()) } else { Err(LedgerError::Rewritten { branch, seen, found }) })
            }
        }
    }

    /// The mirror's head, and the head of what was written here on top.
    pub(super) async fn heads(&self, environment: &EnvironmentName) -> Result<(Option<Oid>, Option<Oid>), LedgerError> {
        let Names { mirror, local, .. } = self.names(environment);
        let read = move |r: &super::Repository| Ok((r.local_ref(&mirror)?, r.local_ref(&local)?));
        self.0.repository.on_thread(read).await.map_err(|e| failed(environment, e))
    }

    /// Commits that only the first has, and that only the second has, newest first.
    pub(super) async fn between(
        &self,
        environment: &EnvironmentName,
        ours: Oid,
        theirs: Option<Oid>,
    ) -> Result<(Vec<Oid>, Vec<Oid>), LedgerError> {
        let found = self.0.repository.on_thread(move |r| r.with(|g| chain::fork(g, ours, theirs))).await;
        found
            .map_err(|e| failed(environment, RepositoryError::git(format!("compare {ours} with the origin's head"), e)))
    }

    pub(super) async fn move_ref(
        &self,
        environment: &EnvironmentName,
        name: &str,
        seen: Option<Oid>,
        to: Option<Oid>,
    ) -> Result<bool, LedgerError> {
        let name = name.to_owned();
        let moved = self.0.repository.on_thread(move |r| r.move_local_ref(&name, seen, to)).await;
        moved.map_err(|e| failed(environment, e))
    }

    /// The state at a head of this environment, built on what is known already.
    pub(super) async fn load(&self, environment: &EnvironmentName, head: Oid) -> Result<Loaded, LedgerError> {
        let lane = self.lane(environment);
        let known = lane.view(|view| view.loaded.clone());
        let branch = self.names(environment).short;
        let read = move |r: &git2::Repository| chain::load(r, &branch, head, known.as_ref());
        let loaded = self.read_deep(environment, read).await?;
        lane.view(|view| view.loaded = Some(loaded.clone()));
        Ok(loaded)
    }

    pub(super) async fn read_pages(
        &self,
        environment: &EnvironmentName,
        before: Option<&CommitId>,
        most: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        let from = match before {
            Some(before) => {
                let oid = parse_oid(before.as_str()).map_err(|e| failed(environment, e))?;
                let parent = move |r: &super::Repository| r.with(|g| g.find_commit(oid).map(|c| c.parent_ids().next()));
                let parent = self.0.repository.on_thread(parent).await;
                parent.map_err(|e| failed(environment, RepositoryError::git(format!("read commit {oid}"), e)))?
            }
            None => self.newest(environment).await?,
        };
        let branch = self.names(environment).short;
        self.read_deep(environment, move |r| chain::entries(r, &branch, from, most)).await
    }

    /// The newest commit that is known here; an environment that was never looked at is opened first.
    async fn newest(&self, environment: &EnvironmentName) -> Result<Option<Oid>, LedgerError> {
        let (mirror, local) = self.heads(environment).await?;
        if self.remote().is_some() && (mirror.is_some() || local.is_some()) {
            return Ok(local.or(mirror));
        }
        let head = self.open_one(environment).await?.head;
        head.map(|head| parse_oid(head.as_str()).map_err(|e| failed(environment, e))).transpose()
    }

    /// Reads a branch; a shallow clone is deepened as far as needed.
    async fn read_deep<T: Send + 'static>(
        &self,
        environment: &EnvironmentName,
        read: impl Fn(&git2::Repository) -> Result<Reading<T>, LedgerError> + Send + Sync + 'static,
    ) -> Result<T, LedgerError> {
        let read = std::sync::Arc::new(read);
        for _ in 0..DEEPEN_TRIES {
            let work = read.clone();
            match self.0.repository.on_thread(move |r| r.with(|g| work(g))).await? {
                Reading::Done(done) => return Ok(done),
                Reading::CutOff(at) => {
                    self.0.repository.bring_older(at).await.map_err(|e| failed(environment, e))?;
                }
            }
        }
        let why = "this clone is shallow, and its end was not found".to_owned();
        Err(LedgerError::Unreachable { environment: environment.clone(), why })
    }

    /// In the mode that trusts only signed heads: refuses any other.
    pub(super) async fn check_signature(
        &self,
        environment: &EnvironmentName,
        head: Option<Oid>,
        trusted: Option<Oid>,
    ) -> Result<(), LedgerError> {
        let (Some(signers), Some(head)) = (&self.0.settings.signers, head) else { return Ok(()) };
        let lane: std::sync::Arc<Lane> = self.lane(environment);
        if lane.view(|view| view.trusted) == Some(head) {
            return Ok(());
        }
        let branch = self.names(environment).short;
        let checked = sign::check(&self.0.repository, signers, head, trusted).await;
        let checked = checked.map_err(|e| LedgerError::Git {
            doing: format!("check the signature of {head} on `{branch}`"),
            source: Box::new(e),
        })?;
        match checked {
            Ok(_) => {
                lane.view(|view| view.trusted = Some(head));
                Ok(())
            }
            Err(why) => Err(LedgerError::Unsigned { branch, commit: id(environment, head)?, why }),
        }
    }
}

pub(super) fn id(environment: &EnvironmentName, oid: Oid) -> Result<CommitId, LedgerError> {
    commit_id(oid).map_err(|e| failed(environment, e))
}
