use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use super::{Chance, Deed, Mutation, laws::Laws};
use crate::{
    clients::clock::{Clock, HandClock},
    engine::State,
    ledger::Entry,
    model::{GateName, Span, Stamp, TreeId},
    targets::Act,
};

/// Everything outside the runner, and what is true of it.
pub struct World {
    pub(super) clock: HandClock,
    inner: Mutex<Inner>,
}

/// How a release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    Good,
    /// It does not start.
    NeverUp,
    /// Whoever looks closely sees it.
    BadAtOnce,
    /// Only so many users, in hundredths of a percent, bring it out.
    BadAtShare(u16),
    /// It takes so long with all users on it.
    BadAfter(Span),
}

/// How often in a thousand times the world misbehaves, and how.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    pub crash: u64,
    pub ledger_down: u64,
    /// The page is in, but the answer says otherwise.
    pub ledger_answer_lost: u64,
    pub act_fails: u64,
    pub act_answer_lost: u64,
    pub act_hangs: u64,
    pub act_seconds_max: u64,
    pub blind: u64,
    pub look_hangs: u64,
    pub channel_fails: u64,
    pub channel_hangs: u64,
    /// Releases that do not come up again once they are down.
    pub never_back: BTreeSet<TreeId>,
    /// Releases that nobody can be brought back to.
    pub unreachable: BTreeSet<TreeId>,
    /// Tries to go back that fail before one succeeds.
    pub retreats_fail: u32,
    pub settles_fail: u32,
    pub applies_fail: u32,
    pub blind_gates: BTreeSet<GateName>,
}

pub(super) struct Inner {
    pub chance: Chance,
    pub faults: Faults,
    pub mutation: Option<Mutation>,
    pub natures: BTreeMap<TreeId, Nature>,
    // the ledger
    pub pages: Vec<Entry>,
    pub state: State,
    // the target
    pub up: BTreeSet<TreeId>,
    /// Shares of the users in hundredths of a percent.
    pub users: BTreeMap<TreeId, u16>,
    pub all_users_since: Option<Stamp>,
    pub fence: u64,
    /// Somebody changed by hand what is live.
    pub edited: bool,
    /// Releases whose images nobody has any more.
    pub lost: BTreeSet<TreeId>,
    pub guard: bool,
    pub requests: BTreeMap<TreeId, (u64, u64)>,
    pub counted_at: Stamp,
    // the executor
    pub yields: u64,
    pub crash_at: Option<u64>,
    pub crashed: bool,
    /// Time that passed, however the clock was set.
    pub elapsed: Span,
    /// How far the clock was set forward by hand.
    pub jumped: Span,
    pub trace: Vec<String>,
    pub laws: Laws,
    pub told: BTreeSet<u64>,
}

impl World {
    pub(super) fn new(now: Stamp, chance: Chance, faults: Faults, natures: BTreeMap<TreeId, Nature>) -> World {
        let inner = Inner {
            chance,
            faults,
            mutation: None,
            natures,
            pages: Vec::new(),
            state: State::default(),
            up: BTreeSet::new(),
            users: BTreeMap::new(),
            all_users_since: None,
            fence: 0,
            edited: false,
            lost: BTreeSet::new(),
            guard: false,
            requests: BTreeMap::new(),
            counted_at: now,
            yields: 0,
            crash_at: None,
            crashed: false,
            elapsed: Span(0),
            jumped: Span(0),
            trace: Vec::new(),
            laws: Laws::default(),
            told: BTreeSet::new(),
        };
        World { clock: HandClock::at(now), inner: Mutex::new(inner) }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment in which anything else may happen, a crash included.
    pub(super) fn breathe(&self) -> Breath<'_> {
        Breath { world: self, taken: false }
    }

    pub(super) async fn sleep(&self, span: Span) {
        if span > Span(0) {
            let until = self.clock.now() + span;
            self.clock.wait(until).await;
        }
    }

    pub(super) fn roll(&self, often: impl Fn(&Faults) -> u64) -> bool {
        let mut inner = self.inner();
        let often = often(&inner.faults);
        inner.chance.per_mille(often)
    }

    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let now = self.clock.now();
        self.inner().trace.push(format!("{now} {}", line()));
    }
}

pub(super) struct Breath<'a> {
    world: &'a World,
    taken: bool,
}

impl Future for Breath<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.taken {
            return Poll::Ready(());
        }
        self.taken = true;
        let mut inner = self.world.inner();
        inner.yields += 1;
        if inner.crash_at == Some(inner.yields) {
            inner.crash_at = None;
            inner.crashed = true;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Inner {
    /// What somebody does to the world itself.
    pub fn change(&mut self, deed: Deed) {
        match deed {
            Deed::Mend => {
                self.faults.unreachable.clear();
                self.faults.never_back.clear();
                self.faults.retreats_fail = 0;
            }
            Deed::Unreachable(n) => {
                self.faults.unreachable.insert(super::story::tree(n));
            }
            Deed::FailDeploys(tries) => self.faults.applies_fail = tries,
            Deed::Blind => {
                self.faults.blind_gates.insert(GateName::new("front").expect("a gate's name"));
            }
            Deed::See => self.faults.blind_gates.clear(),
            Deed::Sicken(n) => {
                self.natures.insert(super::story::tree(n), Nature::BadAtOnce);
            }
            Deed::EditByHand => self.edited = !self.users.is_empty(),
            Deed::UndoByHand => self.edited = false,
            Deed::LoseImages(n) => {
                self.lost.insert(super::story::tree(n));
            }
            Deed::FindImages => self.lost.clear(),
            Deed::DropDrift
            | Deed::AcceptDrift
            | Deed::Approve
            | Deed::Abort
            | Deed::Extend
            | Deed::Freeze
            | Deed::Unfreeze
            | Deed::Pin
            | Deed::Unpin
            | Deed::Rollback
            | Deed::RollbackTo(..)
            | Deed::Promote => {}
        }
    }

    /// Does what an act asks for, all at once.
    pub fn carry_out(&mut self, act: &Act, now: Stamp) {
        self.count_requests(now);
        match act {
            Act::Apply { release } => {
                self.up.insert(release.tree.clone());
            }
            Act::Shift { release, to } => {
                let share = match to {
                    crate::model::Portion::Share(share) => share.hundredths(),
                    crate::model::Portion::Members(_) => 10_000,
                };
                self.move_users(&release.tree, share);
                self.edited &= share < 10_000;
            }
            Act::Retreat { from, to: Some(to) } => {
                self.edited = false;
                self.up.insert(to.tree.clone());
                self.users = [(to.tree.clone(), 10_000)].into();
                if from.tree != to.tree {
                    self.users.remove(&from.tree);
                }
            }
            Act::Retreat { from, to: None } => {
                self.edited = false;
                self.up.remove(&from.tree);
                self.users.remove(&from.tree);
            }
            Act::Settle { keep } => {
                let kept = keep.as_ref().map(|keep| &keep.tree);
                self.up.retain(|tree| Some(tree) == kept);
            }
        }
        let everyone = self.users.values().any(|share| *share == 10_000);
        self.all_users_since = everyone.then(|| self.all_users_since.unwrap_or(now));
    }

    fn move_users(&mut self, to: &TreeId, share: u16) {
        let rest = self.users.iter().filter(|(tree, _)| *tree != to).max_by_key(|(_, share)| **share);
        let rest = rest.map(|(tree, _)| tree.clone());
        self.all_users_since = None;
        match rest {
            Some(rest) if share < 10_000 => self.users = [(to.clone(), share), (rest, 10_000 - share)].into(),
            Some(_) | None => self.users = [(to.clone(), 10_000)].into(),
        }
    }

    /// Whether users of the release have a bad time.
    pub fn is_bad(&self, tree: &TreeId, now: Stamp) -> bool {
        let share = self.users.get(tree).copied().unwrap_or(0);
        match self.natures.get(tree).copied().unwrap_or(Nature::Good) {
            Nature::Good => false,
            Nature::NeverUp | Nature::BadAtOnce => true,
            Nature::BadAtShare(from) => share >= from,
            Nature::BadAfter(span) => {
                share == 10_000 && self.all_users_since.is_some_and(|since| now.since(since) >= span)
            }
        }
    }

    /// Ten requests a second, spread as the users are.
    pub fn count_requests(&mut self, now: Stamp) {
        let requests = now.since(self.counted_at).0 / 100;
        self.counted_at = now;
        let users: Vec<(TreeId, u16)> = self.users.iter().map(|(tree, share)| (tree.clone(), *share)).collect();
        for (tree, share) in users {
            let bad = self.is_bad(&tree, now);
            let of_tree = requests * u64::from(share) / 10_000;
            let (ok, failed) = self.requests.entry(tree).or_default();
            *(if bad { failed } else { ok }) += of_tree;
        }
    }
}
