//! Pushing: compare-and-swap on the origin, and what waits here until the origin can be reached.

use std::time::{Duration, Instant};

use git2::Oid;

use super::{
    GitLedger, failed,
    look::Origin,
    nonce,
    repository::{RepositoryError, parse_oid},
    write::Sheet,
};
use crate::{
    clients::git::{GitError, Lease, Move},
    ledger::{
        GoodRef, LedgerError,
        page::{self, Message},
    },
    model::{CommitId, EnvironmentName, Span},
};

/// How often waiting pages are put on top of a head that moved again meanwhile.
const RESTACK_TRIES: usize = 20;

/// How often a refusal is tried again while the head stays as it was: two pushes that meet can both be refused.
const REFUSED_TRIES: usize = 2;

/// How one push ended, after looking again where the answer was unclear.
enum Pushed {
    Done,
    Lost,
    /// The host answered and did not take it, although the head is as we saw it.
    Refused(String),
    Unreachable(String),
}

impl GitLedger {
    /// Points the origin's good ref at this commit if it does not already; true when it was moved. The good ref is
    /// derived from the events, so whoever read them may repair it.
    pub async fn repair_good(&self, environment: &EnvironmentName, expected: &CommitId) -> Result<bool, LedgerError> {
        let to = parse_oid(expected.as_str()).map_err(|e| failed(environment, e))?;
        let names = self.names(environment);
        let Some(remote) = self.remote() else {
            let name = names.good.clone();
            let seen = self.0.repository.on_thread(move |r| r.local_ref(&name)).await;
            let seen = seen.map_err(|e| failed(environment, e))?;
            return if seen == Some(to) {
                Ok(false)
            } else {
                self.move_ref(environment, &names.good, seen, Some(to)).await
            };
        };
        let lane = self.lane(environment);
        let _turn = lane.network.lock().await;
        let seen = lane.view(|view| view.good);
        if seen == Some(to) {
            return Ok(false);
        }
        let lease = Lease::Was(seen.map(|oid| oid.to_string()));
        // A lease alone lets it go backwards, too, which a rollback may want.
        let moves = [Move { name: names.good, to: to.to_string(), lease }];
        let pushed = self.0.repository.git().push(remote, &moves, self.0.settings.push_timeout).await;
        match pushed {
            Ok(()) => {
                self.0.repository.tell_glance(&moves).await;
                lane.view(|view| view.good = Some(to));
                Ok(true)
            }
            Err(GitError::Refused(why)) => Err(LedgerError::Refused { environment: environment.clone(), why }),
            Err(error) => Err(failed(environment, self.0.repository.unreachable(error))),
        }
    }

    /// Waits until what was written here is in the origin, at most so long; gives the number of pages that are not.
    pub async fn flush(&self, environment: &EnvironmentName, limit: Span) -> Result<usize, LedgerError> {
        if self.remote().is_none() {
            return Ok(0);
        }
        let ended = tokio::time::timeout(limit.as_duration(), self.flush_all(environment)).await;
        let left = self.waiting(environment).await?;
        match ended {
            Ok(Err(error)) if left == 0 || !error.is_of_the_host() => Err(error),
            Ok(_) | Err(_) => Ok(left),
        }
    }

    async fn flush_all(&self, environment: &EnvironmentName) -> Result<(), LedgerError> {
        let lane = self.lane(environment);
        for task in lane.view(|view| std::mem::take(&mut view.pushing)) {
            // What it could not push is seen below.
            let _ = task.await;
        }
        let _turn = lane.network.lock().await;
        if self.waiting(environment).await? == 0 {
            return Ok(());
        }
        lane.view(|view| view.down = None);
        self.push_waiting(environment).await
    }

    /// How many pages wait here for the origin.
    async fn waiting(&self, environment: &EnvironmentName) -> Result<usize, LedgerError> {
        match self.heads(environment).await? {
            (_, None) => Ok(0),
            (mirror, Some(local)) => Ok(self.between(environment, local, mirror).await?.0.len()),
        }
    }

    pub(super) fn push_in_background(&self, environment: &EnvironmentName) {
        let (ledger, whose) = (self.clone(), environment.clone());
        let lane = self.lane(environment);
        let task = tokio::spawn(async move {
            let lane = ledger.lane(&whose);
            let _turn = lane.network.lock().await;
            let down = lane.view(|view| view.down.clone());
            if down.is_some_and(|(since, _)| since.elapsed() < ledger.0.settings.retry_after.as_duration()) {
                return;
            }
            if let Err(error) = ledger.push_waiting(&whose).await {
                tracing::warn!(environment = %whose, %error, "what was written here waits for the origin");
            }
        });
        lane.view(|view| {
            view.pushing.retain(|task| !task.is_finished());
            view.pushing.push(task);
        });
    }

    /// Pushes what waits here, on top of what others wrote meanwhile. The caller holds the lane.
    pub(super) async fn push_waiting(&self, environment: &EnvironmentName) -> Result<(), LedgerError> {
        for _ in 0..RESTACK_TRIES {
            let (mirror, Some(local)) = self.heads(environment).await? else { return Ok(()) };
            let (ours, theirs) = self.between(environment, local, mirror).await?;
            if ours.is_empty() {
                self.move_ref(environment, &self.names(environment).local, Some(local), None).await?;
                continue;
            }
            if !theirs.is_empty() {
                self.restack_on(environment, local, &ours, mirror).await?;
                continue;
            }
            let good = self.newest_good(environment, &ours).await?;
            match self.push_head(environment, mirror, local, good).await {
                Ok(()) | Err(LedgerError::Lost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(LedgerError::Lost { environment: environment.clone() })
    }

    /// Writes our pages, given newest first, again on top of another head: same events, same trees.
    pub(super) async fn restack_on(
        &self,
        environment: &EnvironmentName,
        local: Oid,
        ours: &[Oid],
        onto: Option<Oid>,
    ) -> Result<(), LedgerError> {
        let mut base = match onto {
            Some(onto) => Some(self.load(environment, onto).await?),
            None => None,
        };
        let mut renamed: Vec<(Oid, CommitId)> = Vec::new();
        for oid in ours.iter().rev() {
            let mut sheet = self.sheet_of(environment, *oid).await?;
            if let Some(GoodRef::At(commit)) = &sheet.good
                && let Some((_, new)) = renamed.iter().find(|(old, _)| old.to_string() == commit.as_str())
            {
                sheet.good = Some(GoodRef::At(new.clone()));
            }
            let loaded = self.write_page(environment, base.as_ref(), sheet).await?;
            renamed.push((*oid, loaded.commit.clone()));
            base = Some(loaded);
        }
        let to = base.filter(|_| !ours.is_empty()).map(|b| b.head);
        // False: one more page was written there meanwhile; the caller looks again.
        self.move_ref(environment, &self.names(environment).local, Some(local), to).await.map(drop)
    }

    /// A page of ours, read back from its commit.
    async fn sheet_of(&self, environment: &EnvironmentName, oid: Oid) -> Result<Sheet, LedgerError> {
        let read = move |r: &super::Repository| {
            r.with(|g| {
                let commit = g.find_commit(oid)?;
                let subject = String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned();
                match page::read(commit.message_bytes()) {
                    Message::Ours(read) => {
                        Ok(Sheet { subject, events: read.events, tree: commit.tree_id(), good: read.good })
                    }
                    Message::Foreign(why) => Err(git2::Error::from_str(&why)),
                    Message::Newer(schema) => Err(git2::Error::from_str(&format!("it has the schema {schema}"))),
                }
            })
        };
        let sheet = self.0.repository.on_thread(read).await;
        sheet.map_err(|e| failed(environment, RepositoryError::git(format!("read the unpushed page {oid}"), e)))
    }

    /// Where the newest of these pages, given newest first, wants the good ref.
    async fn newest_good(&self, environment: &EnvironmentName, ours: &[Oid]) -> Result<Option<Oid>, LedgerError> {
        for oid in ours {
            let sheet = self.sheet_of(environment, *oid).await?;
            if let Some(good) = self.good_of(environment, sheet.good.as_ref(), *oid)? {
                return Ok(Some(good));
            }
        }
        Ok(None)
    }

    /// Moves the origin's branch from `base` to `head`, and the mirror with it.
    pub(super) async fn push_head(
        &self,
        environment: &EnvironmentName,
        base: Option<Oid>,
        head: Oid,
        good: Option<Oid>,
    ) -> Result<(), LedgerError> {
        let lane = self.lane(environment);
        let down = lane.view(|view| view.down.clone());
        if let Some((_, why)) = down.filter(|(since, _)| since.elapsed() < self.0.settings.retry_after.as_duration()) {
            return Err(LedgerError::Unreachable { environment: environment.clone(), why });
        }
        let environment_name = || environment.clone();
        if let Some(base) = base
            && !self.between(environment, head, Some(base)).await?.1.is_empty()
        {
            // A lease alone would let git drop what others wrote.
            return Err(LedgerError::Lost { environment: environment_name() });
        }
        match self.push_or_ask(environment, base, head, good).await? {
            Pushed::Done => {
                let (mirror, _) = self.heads(environment).await?;
                if mirror == base {
                    self.move_ref(environment, &self.names(environment).mirror, base, Some(head)).await?;
                }
                lane.view(|view| {
                    view.trusted = Some(head);
                    view.good = good.or(view.good);
                });
                Ok(())
            }
            Pushed::Lost => {
                lane.view(|view| view.looked_at = Some(Instant::now()));
                Err(LedgerError::Lost { environment: environment_name() })
            }
            Pushed::Refused(why) => Err(LedgerError::Refused { environment: environment_name(), why }),
            Pushed::Unreachable(why) => {
                lane.view(|view| view.down = Some((Instant::now(), why.clone())));
                Err(LedgerError::Unreachable { environment: environment_name(), why })
            }
        }
    }

    async fn push_or_ask(
        &self,
        environment: &EnvironmentName,
        base: Option<Oid>,
        head: Oid,
        mut good: Option<Oid>,
    ) -> Result<Pushed, LedgerError> {
        let mut refused = 0;
        loop {
            let error = match self.push_once(environment, base, head, good).await {
                Ok(()) => return Ok(Pushed::Done),
                Err(error) => error,
            };
            // Whatever it said, or did not say: what counts is what the origin has.
            self.0.repository.forget_glance().await;
            let environments = std::slice::from_ref(environment);
            let Ok(seen) = self.look(environments).await else { return Ok(Pushed::Unreachable(error.to_string())) };
            let origin = seen.get(environment).copied().unwrap_or_default();
            if origin.head != base {
                return self.was_it_ours(environment, origin, head).await;
            }
            if good.take().is_some() {
                // Some hosts take branches only, or one ref at a time; the good ref can be told from the branch.
                tracing::warn!(%environment, %error, "the push is tried again without the good ref");
                continue;
            }
            match error {
                GitError::Refused(why) if refused == REFUSED_TRIES => return Ok(Pushed::Refused(why)),
                GitError::Refused(_) => {
                    refused += 1;
                    pause().await;
                }
                error @ (GitError::Failed(_) | GitError::Process(_) | GitError::Remote(_)) => {
                    return Ok(Pushed::Unreachable(error.to_string()));
                }
            }
        }
    }

    /// The head moved: perhaps it was us, and only the answer was lost; others may have written on top since.
    async fn was_it_ours(
        &self,
        environment: &EnvironmentName,
        origin: Origin,
        head: Oid,
    ) -> Result<Pushed, LedgerError> {
        self.follow(environment, origin).await?;
        match origin.head {
            Some(now) if self.between(environment, head, Some(now)).await?.0.is_empty() => Ok(Pushed::Done),
            Some(_) | None => Ok(Pushed::Lost),
        }
    }

    async fn push_once(
        &self,
        environment: &EnvironmentName,
        base: Option<Oid>,
        head: Oid,
        good: Option<Oid>,
    ) -> Result<(), GitError> {
        let names = self.names(environment);
        let lease = Lease::Was(base.map(|oid| oid.to_string()));
        let branch = Move { name: names.branch, to: head.to_string(), lease };
        // The branch's lease guards both.
        let good = good.map(|good| Move { name: names.good, to: good.to_string(), lease: Lease::Any });
        let moves: Vec<Move> = std::iter::once(branch.clone()).chain(good).collect();
        let (repository, timeout) = (&self.0.repository, self.0.settings.push_timeout);
        let began = Instant::now();
        let pushed = match moves.len() {
            1 => repository.push_together(branch, timeout).await,
            // Both or neither: that is a push of its own.
            _ => repository.git().push(self.remote().unwrap_or_default(), &moves, timeout).await,
        };
        if pushed.is_ok() {
            self.0.repository.tell_glance(&moves).await;
            let took = began.elapsed();
            // The shortest counts, as the others waited for someone; it is forgotten slowly, in case the host is slower now.
            self.lane(environment).view(|view| view.slot = Some(view.slot.map_or(took, |slot| took.min(slot * 9 / 8))));
        }
        pushed
    }
}

/// A short moment of chance, so that two who met do not meet again.
async fn pause() {
    const PAUSE_MS_MAX: u64 = 150;
    let chance = u64::from_str_radix(&nonce(), 16).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(chance % PAUSE_MS_MAX)).await;
}
