//! What each order does.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;

use super::{
    Supervisor, lock,
    record::{self, Arms, Record},
    unit::Unit,
};
use crate::{
    model::TreeId,
    targets::process::wire::{Brought, Order, PROTOCOL, Refusal, Request},
};

/// An end by signal lets open requests go on for so long.
const SHUTDOWN_DRAIN_MAX: Duration = Duration::from_secs(5);

/// What was done, or why not.
pub type Outcome = Result<String, Refusal>;

impl Supervisor {
    /// Does one order. The same order again finds everything done and says so.
    pub async fn perform(&self, request: Request) -> Outcome {
        if request.protocol != PROTOCOL {
            let ours = format!("the supervisor speaks protocol {PROTOCOL}, not {}", request.protocol);
            return Err(Refusal::World(format!("{ours}; `piton supervise` it anew with the same piton")));
        }
        let (fence, hurry) = match &request.order {
            // Whoever may end this process may end what it runs; no lease is needed for that.
            Order::Shutdown { .. } => (None, true),
            Order::Retreat { .. } => (Some(request.fence), true),
            Order::Apply { .. } | Order::Shift { .. } | Order::Settle { .. } => (Some(request.fence), false),
        };
        self.check_fence(fence)?;
        let _turn = if hurry { self.turn_at_once().await } else { self.turn.lock().await };
        // Someone newer may have come while this one waited.
        self.check_fence(fence)?;
        let overtaken = CancellationToken::new();
        *lock(&self.overtake) = overtaken.clone();
        if !hurry && self.hurrying.load(Ordering::SeqCst) > 0 {
            overtaken.cancel();
        }
        lock(&self.book).secrets.add(request.secrets);
        let doing = async {
            match request.order {
                Order::Apply { release } => self.apply(release).await,
                Order::Shift { tree, hundredths } => self.shift(&tree, hundredths),
                Order::Retreat { from, to } => self.retreat(&from, to).await,
                Order::Settle { keep } => self.settle(keep.as_ref()).await,
                Order::Shutdown { drain } => Ok(self.shutdown(drain).await),
            }
        };
        tokio::select! {
            biased;
            () = overtaken.cancelled() => {
                self.abandon_coming();
                Err(Refusal::World("overtaken by a rollback or a shutdown".to_owned()))
            }
            outcome = doing => outcome,
        }
    }

    /// Brings the release up beside what is live, with no users on it.
    async fn apply(&self, release: Brought) -> Outcome {
        let tree = release.tree.clone();
        self.try_write_down().map_err(|error| {
            Refusal::World(format!("cannot write down what runs in {}: {error}", self.state_dir.display()))
        })?;
        self.make_room_for(&tree)?;
        self.open_doors(&release).await?;
        let was_there = lock(&self.book).releases.contains_key(&tree);
        self.bring_up(release).await?;
        let arms = lock(&self.book).arms.clone();
        let arms = if arms.stable.as_ref() == Some(&tree) || arms.candidate.as_ref() == Some(&tree) {
            Arms { trial: Some(tree.clone()), ..arms }
        } else {
            Arms { candidate: Some(tree.clone()), share: 0, trial: Some(tree.clone()), ..arms }
        };
        self.set_arms(arms);
        let started = if was_there { "was up already" } else { "is up and ready" };
        Ok(format!("release {} {started}", tree.short()))
    }

    /// A candidate without users makes way for the next one; one with all users is what is stable.
    fn make_room_for(&self, tree: &TreeId) -> Result<(), Refusal> {
        let arms = lock(&self.book).arms.clone();
        let Some(candidate) = arms.candidate.clone().filter(|candidate| candidate != tree) else { return Ok(()) };
        if arms.stable.as_ref() == Some(tree) && arms.share > 0 {
            return Ok(());
        }
        match arms.share {
            0 => {
                self.set_arms(Arms { candidate: None, trial: None, ..arms });
                self.take_down(&candidate);
                Ok(())
            }
            10_000 => {
                self.set_arms(Arms { stable: Some(candidate), candidate: None, share: 0, trial: None });
                Ok(())
            }
            share => Err(Refusal::World(format!(
                "release {} still has {}% of the users; retreat or settle it first",
                candidate.short(),
                f64::from(share) / 100.0
            ))),
        }
    }

    fn shift(&self, tree: &TreeId, hundredths: u16) -> Outcome {
        let mut book = lock(&self.book);
        let Some(running) = book.releases.get(tree) else {
            return Err(Refusal::World(format!("release {} is not up here; apply it first", tree.short())));
        };
        if hundredths > 0 {
            running.can_serve().map_err(Refusal::Release)?;
        }
        let is = |arm: &Option<TreeId>| arm.as_ref() == Some(tree);
        match (is(&book.arms.stable), is(&book.arms.candidate)) {
            (true, _) if book.arms.candidate.is_none() => {
                return Ok(format!("release {} has all users", tree.short()));
            }
            (true, _) => book.arms.share = 10_000 - hundredths.min(10_000),
            (false, true) => book.arms.share = hundredths.min(10_000),
            (false, false) => {
                let why = format!("release {} is up but on no arm; apply it again first", tree.short());
                return Err(Refusal::World(why));
            }
        }
        let arms = book.arms.clone();
        drop(book);
        self.set_arms(arms);
        Ok(format!("release {} has {}% of the users", tree.short(), f64::from(hundredths) / 100.0))
    }

    /// All users to `to`, once it is ready for them; then `from` goes.
    async fn retreat(&self, from: &TreeId, to: Option<Brought>) -> Outcome {
        let Some(to) = to else {
            let arms = lock(&self.book).arms.clone();
            let keep = |arm: Option<TreeId>| arm.filter(|tree| tree != from);
            let candidate = keep(arms.candidate);
            let share = if candidate.is_some() { arms.share } else { 0 };
            self.set_arms(Arms { stable: keep(arms.stable), candidate, share, trial: None });
            self.take_down(from);
            return Ok(format!("release {} is out; there is none to go back to", from.short()));
        };
        let tree = to.tree.clone();
        self.open_doors(&to).await?;
        let was_there = lock(&self.book).releases.contains_key(&tree);
        self.bring_up(to).await?;
        // Whoever went on watching the destination sees it where it was on trial.
        let trial = Some(tree.clone());
        self.set_arms(Arms { stable: Some(tree.clone()), candidate: None, share: 0, trial });
        if *from != tree {
            self.take_down(from);
        }
        let how = if was_there { "which was still up" } else { "which was started again" };
        Ok(format!("all users are on release {}, {how}; release {} is out", tree.short(), from.short()))
    }

    /// All users to `keep`; everything else ends.
    async fn settle(&self, keep: Option<&TreeId>) -> Outcome {
        let (mut arms, others) = {
            let book = lock(&self.book);
            if let Some(keep) = keep
                && !book.releases.contains_key(keep)
            {
                return Err(Refusal::World(format!("release {} is not up here and cannot be kept", keep.short())));
            }
            let others = book.releases.keys().filter(|tree| Some(*tree) != keep).cloned().collect::<Vec<_>>();
            (book.arms.clone(), others)
        };
        arms = Arms { stable: keep.cloned(), candidate: None, share: 0, trial: arms.trial.filter(|t| Some(t) == keep) };
        self.set_arms(arms);
        let endings: Vec<_> = others.iter().filter_map(|tree| self.take_down(tree)).collect();
        // A task that was lost has nothing remarkable to tell.
        let remarks = join_all(endings).await.into_iter().flat_map(Result::unwrap_or_default).collect::<Vec<String>>();
        let what = match (keep, others.len()) {
            (Some(keep), 0) => format!("release {} runs alone", keep.short()),
            (Some(keep), n) => format!("release {} runs alone; {n} taken down", keep.short()),
            (None, n) => format!("nothing runs; {n} taken down"),
        };
        Ok([vec![what], remarks].concat().join("; "))
    }

    /// Ends everything; the record keeps what ran.
    pub async fn shutdown(&self, drain: bool) -> String {
        let releases = {
            let mut book = lock(&self.book);
            book.ended = true;
            std::mem::take(&mut book.releases)
        };
        let record = {
            let book = lock(&self.book);
            let brought = releases.values().map(|running| running.brought.clone()).collect();
            Record { releases: brought, units: BTreeMap::new(), ..book.record() }
        };
        let units: BTreeMap<String, Arc<Unit>> =
            releases.values().flat_map(|running| running.units.values()).map(|u| (u.key.clone(), u.clone())).collect();
        let longest = releases.values().map(|running| running.brought.config.drain.as_duration()).max();
        let drain = if drain { longest.unwrap_or_default().min(SHUTDOWN_DRAIN_MAX) } else { Duration::ZERO };
        let remarks = join_all(units.values().map(|unit| unit.end(drain, &self.cut))).await.concat();
        self.cut.cancel();
        self.leaving.close();
        self.leaving.wait().await;
        if let Err(error) = record::write(&self.state_dir, &record) {
            eprintln!("piton supervise: cannot write down the end: {error}");
        }
        self.quit.cancel();
        [vec!["everything is down".to_owned()], remarks].concat().join("; ")
    }

    /// The turn for what must not wait: whatever has the turn gives it up, and so does all that waits for it.
    pub async fn turn_at_once(&self) -> MutexGuard<'_, ()> {
        self.hurrying.fetch_add(1, Ordering::SeqCst);
        lock(&self.overtake).cancel();
        let turn = self.turn.lock().await;
        self.hurrying.fetch_sub(1, Ordering::SeqCst);
        turn
    }

    fn check_fence(&self, ours: Option<u64>) -> Result<(), Refusal> {
        let Some(ours) = ours else { return Ok(()) };
        let mut book = lock(&self.book);
        if ours < book.fence {
            return Err(Refusal::Fenced { ours, seen: book.fence });
        }
        let is_new = ours > book.fence;
        book.fence = ours;
        drop(book);
        if is_new {
            self.write_down();
        }
        Ok(())
    }
}
