#![doc = include_str!("README.md")]

mod belief;
mod goal;
mod guard;
mod hands;
mod identity;
mod page;
mod view;
mod work;

use std::collections::BTreeSet;

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use tokio_util::sync::CancellationToken;

use belief::{Belief, answers_an_effect, is_told};
pub use goal::{Goal, Outcome};
use goal::{is_over, is_wanted_at_the_end, reached};
pub use guard::differences;
use guard::{Errand, is_quiet};
pub use hands::{Hands, Sockets, sentence};
pub use identity::{has_ended, holder};
pub use page::make as page;
pub use view::{NoView, View, Views};
use work::{Answer, Place, Work};

use crate::{
    clients::clock::Clock,
    engine::{self, Holder, Next, Setup, State},
    judge::{self, Circumstances},
    ledger::{Durability, Ledger, LedgerError, Opened, Page},
    model::{AttemptId, Effect, EnvironmentName, Event, GateName, Span, Stamp, What},
};

/// Carries one environment on.
pub struct Runner<'a> {
    pub environment: EnvironmentName,
    pub ledger: &'a dyn Ledger,
    pub sockets: &'a dyn Sockets,
    pub clock: &'a dyn Clock,
    pub view: &'a dyn View,
    pub me: Holder,
    /// Cancelled by Ctrl-C or SIGTERM: the runner writes down what it has and lets the lease go.
    pub stop: CancellationToken,
    pub pace: PollPace,
}

/// How long readings may wait for company, and how often others' pages are looked for.
#[derive(Debug, Clone, Copy)]
pub struct PollPace {
    pub readings: Span,
    pub others: Span,
}

impl PollPace {
    /// When readings that wait since then are written: at moments that are the same for all environments, so that the
    /// pages of many leave in one push.
    fn flush(self, since: Stamp) -> Stamp {
        let pace = i64::try_from(self.readings.0.max(1)).unwrap_or(i64::MAX);
        Stamp(since.0.div_euclid(pace).saturating_add(1).saturating_mul(pace))
    }
}

impl Default for PollPace {
    fn default() -> PollPace {
        PollPace { readings: Span::seconds(15), others: Span::seconds(5) }
    }
}

/// From whom the lease may be taken although it has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seizure {
    Nobody,
    /// From anybody, once a rollback is ordered: the way back waits for nobody.
    ForTheWayBack,
    /// From this holder, who is known to act no more: a controller's predecessor. Its fence keeps it off what is live.
    From {
        nonce: String,
    },
}

impl Seizure {
    fn allows(&self, state: &State) -> bool {
        match self {
            Seizure::Nobody => false,
            Seizure::ForTheWayBack => state.rollback.is_some(),
            Seizure::From { nonce } => state.lease.as_ref().is_some_and(|lease| lease.nonce == *nonce),
        }
    }
}

/// Why the runner gave up.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("lost {0} races for the ledger in a row")]
    Races(u32),
}

/// Lost races in a row before the runner gives up; each means that somebody else made progress.
const RACES_MAX: u32 = 50;
/// How long a git host that did not answer is left alone.
const HOST_PAUSE: Span = Span::seconds(5);
/// Readings that are written without waiting for more.
const READINGS_MAX: usize = 20;

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    /// Somebody else was faster: the engine is asked again.
    Lost,
    /// The git host cannot be reached. What happened is kept, decisions are made again.
    HostDown,
}

impl<'a> Runner<'a> {
    /// Carries the environment on until the goal is reached.
    pub async fn run(&self, goal: Goal, seizure: Seizure) -> Result<(Outcome, State), RunnerError> {
        let opened = self.ledger.open(&self.environment).await?;
        self.run_from(opened, goal, seizure).await
    }

    /// The same from what was just read or written: the host need not be asked for it again.
    pub async fn run_from(
        &self,
        opened: Opened,
        goal: Goal,
        seizure: Seizure,
    ) -> Result<(Outcome, State), RunnerError> {
        let mut belief = self.believe(opened);
        let mut work = Work::new();
        let mut seizure = seizure;
        loop {
            if self.stop.is_cancelled() {
                self.close(&mut belief).await?;
                return Ok((Outcome::Stopped, belief.state));
            }
            let now = self.clock.now();
            let mut next = engine::next(&belief.state, now, self.setup(belief.begun));
            if is_over(goal, &belief.state) {
                // What was done is still told; what comes after it is somebody else's goal.
                next.decisions.clear();
                next.effects.retain(|effect| is_wanted_at_the_end(goal, effect));
            }
            self.view.show(&belief.state, &next, now);
            if let Some(outcome) = reached(goal, &belief.state, &next, &work, now) {
                self.close(&mut belief).await?;
                return Ok((outcome, belief.state));
            }
            // Exactly this lease is let go: one that somebody alive has taken meanwhile stays theirs.
            if let Some(nonce) = dead_holder(&belief.state, now)
                && self.write(&mut belief, vec![What::Released { nonce }]).await? != Written::HostDown
            {
                continue;
            }
            work.drop_unwanted(&next);
            work.drop_stale_looks(&belief.state);
            let acts = next.effects.iter().any(Effect::acts);
            if acts || !next.decisions.is_empty() || work.act.is_some() {
                // A lost race does not use it up: the one who raced may be the one to take it from.
                if belief.opened.state.holds_lease(&self.me, now) {
                    seizure = Seizure::Nobody;
                }
                match belief.state.claim(&self.me, now, seizure.allows(&belief.state)) {
                    Err(taken) => {
                        return Ok((Outcome::Taken(taken), belief.state));
                    }
                    Ok(claim) => {
                        let mut what: Vec<What> = claim.into_iter().collect();
                        what.extend(next.decisions.iter().cloned());
                        let first = acts && !belief.pending.is_empty() && work.act.is_none();
                        if !what.is_empty() || first {
                            match self.write(&mut belief, what).await? {
                                // What was asked before is stale, and without the claim nothing may be done.
                                Written::Yes | Written::Lost => continue,
                                Written::HostDown => {}
                            }
                        }
                    }
                }
            }
            // What is not in the ledger is not acted upon: without the host only the looking goes on.
            if belief.host_down_until.is_some() {
                next.effects.retain(|effect| !effect.acts() || work.act.is_some());
            }
            self.begin(&belief, &next, &mut work);
            self.wait(&mut belief, &next, &mut work).await?;
        }
    }

    fn believe(&self, opened: Opened) -> Belief {
        let state = opened.state.clone();
        let (read_at, begun) = (self.clock.now(), self.clock.now());
        let (pending, pending_since, races, host_down_until) = (Vec::new(), None, 0, None);
        Belief { opened, pending, pending_since, state, races, read_at, host_down_until, begun }
    }

    /// Starts what the engine wishes for and what is not under way yet.
    fn begin(&self, belief: &Belief, next: &Next, work: &mut Work<'a>) {
        for effect in &next.effects {
            match effect {
                Effect::Look { attempt, gate } => {
                    if work.looking.insert((*attempt, gate.clone())) {
                        let look = self.hands().look(&belief.state, *attempt, gate);
                        let (gate, attempt) = (gate.clone(), *attempt);
                        work.looks.push(async move { (gate, attempt, look.await) }.boxed());
                    }
                }
                Effect::Tell { notice } => {
                    if work.telling.insert(notice.id) {
                        let (id, tell) = (notice.id, self.hands().tell(notice.clone()));
                        work.tells.push(async move { (id, tell.await) }.boxed());
                    }
                }
                Effect::LookForDrift { release } => {
                    let errand = Errand::Drift(release.tree.clone());
                    let digests = belief.state.digests_of(&release.tree);
                    work.stand_guard(errand, || self.hands().look_for_drift(release.clone(), digests));
                }
                Effect::Rehearse { release } => {
                    let errand = Errand::Rehearsal(release.tree.clone());
                    work.stand_guard(errand, || self.hands().rehearse(release.clone()));
                }
                Effect::Apply { .. } | Effect::Shift { .. } | Effect::Retreat { .. } | Effect::Settle { .. } => {
                    if work.act.is_none() {
                        let act = self.hands().act(effect.clone(), belief.state.fence, patience(&belief.state));
                        work.act = Some((effect.clone(), act));
                    }
                }
            }
        }
    }

    fn setup(&self, begun: Stamp) -> Setup {
        Setup { tells: self.sockets.tells(), guard: self.sockets.guard(), begun }
    }

    fn hands(&self) -> Hands<'a> {
        Hands { environment: self.environment.clone(), sockets: self.sockets, clock: self.clock }
    }

    /// Waits until something happens: an effect answers, something is due, others may have written, or we are stopped.
    async fn wait(&self, belief: &mut Belief, next: &Next, work: &mut Work<'a>) -> Result<(), RunnerError> {
        let now = self.clock.now();
        let read = belief.read_at + self.pace.others;
        let flush = belief.pending_since.map(|since| self.pace.flush(since));
        // While the host is down there is no use in trying earlier.
        let mut until = belief.host_down_until.unwrap_or_else(|| flush.map_or(read, |flush| flush.min(read)));
        until = next.wake.map_or(until, |wake| until.min(wake.max(now)));
        let answer = {
            let stop = self.stop.cancelled().boxed();
            let timer = self.clock.wait(until);
            match select(work.answer().boxed(), select(stop, timer)).await {
                Either::Left((answer, _)) => Some(answer),
                Either::Right(_) => None,
            }
        };
        match answer {
            Some(Answer::Act(what)) => self.write(belief, vec![what]).await.map(drop),
            Some(Answer::Look(gate, attempt, what)) => self.took_a_look(belief, attempt, &gate, what).await,
            Some(Answer::Guard(errand, found)) => self.stood_guard(belief, errand, found).await,
            Some(Answer::Told(_, what)) => {
                belief.take_pending(self.event(what));
                Ok(())
            }
            None => self.on_time(belief).await,
        }
    }

    /// A reading waits for company, unless its gate turns bad or recovers: others must see that at once. A pass goes with
    /// the decision that rests on it.
    async fn took_a_look(
        &self,
        belief: &mut Belief,
        attempt: AttemptId,
        gate: &GateName,
        what: What,
    ) -> Result<(), RunnerError> {
        let now = self.clock.now();
        let before = verdict_name(&belief.state, attempt, gate, now);
        belief.take_pending(self.event(what));
        let after = verdict_name(&belief.state, attempt, gate, now);
        let alarming = |name: Option<&str>| matches!(name, Some("fail" | "blind"));
        let turned = before != after && (alarming(before) || alarming(after));
        match (turned || belief.pending.len() >= READINGS_MAX) && !self.decides(belief) {
            true => self.flush(belief).await,
            false => Ok(()),
        }
    }

    /// Whether what was found leads to a decision: then both go in one page, and nobody waits for two.
    fn decides(&self, belief: &Belief) -> bool {
        !engine::next(&belief.state, self.clock.now(), self.setup(belief.begun)).decisions.is_empty()
    }

    async fn on_time(&self, belief: &mut Belief) -> Result<(), RunnerError> {
        let now = self.clock.now();
        belief.host_down_until = belief.host_down_until.filter(|until| now < *until);
        if belief.host_down_until.is_some() {
            return Ok(());
        }
        if belief.pending_since.is_some_and(|since| now >= self.pace.flush(since)) {
            self.flush(belief).await?;
        }
        if now >= belief.read_at + self.pace.others || now < belief.read_at {
            self.reload(belief).await?;
        }
        Ok(())
    }

    /// Writes pending readings, if we may: without the lease they are somebody else's to take.
    async fn flush(&self, belief: &mut Belief) -> Result<(), RunnerError> {
        if belief.pending.is_empty() {
            return Ok(());
        }
        match belief.state.claim(&self.me, self.clock.now(), false) {
            Ok(claim) => self.write(belief, claim.into_iter().collect()).await.map(drop),
            Err(_) => {
                belief.pending.clear();
                belief.pending_since = None;
                self.reload(belief).await
            }
        }
    }

    /// Appends pending readings and these facts as one page. A lost race means: read again, and let the engine say again.
    async fn write(&self, belief: &mut Belief, what: Vec<What>) -> Result<Written, RunnerError> {
        let mut events = belief.pending.clone();
        events.extend(what.into_iter().map(|what| self.event(what)));
        let page = page::make(&belief.opened, events.clone());
        self.append(belief, page, events).await
    }

    async fn append(&self, belief: &mut Belief, page: Page, events: Vec<Event>) -> Result<Written, RunnerError> {
        let now = self.clock.now();
        if page.durability == Durability::Origin && belief.host_down_until.is_some_and(|until| now < until) {
            belief.keep(events);
            return Ok(Written::HostDown);
        }
        match self.ledger.append(&self.environment, belief.opened.head.as_ref(), page.clone()).await {
            Ok(appended) => {
                belief.wrote(&page, &events, &appended);
                self.view.wrote(&belief.state, &events, &appended);
                Ok(Written::Yes)
            }
            Err(LedgerError::Lost { .. }) => {
                belief.races += 1;
                if belief.races >= RACES_MAX {
                    return Err(RunnerError::Races(belief.races));
                }
                self.after_lost_race(belief, events).await?;
                Ok(Written::Lost)
            }
            // A promotion that nobody watches is worse than one that waits: the looking goes on, and so does the way back.
            Err(error) if error.is_of_the_host() && belief.opened.head.is_some() => {
                belief.host_down_until = Some(self.clock.now() + HOST_PAUSE);
                belief.keep(events);
                Ok(Written::HostDown)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What an effect has answered is true whoever wrote in between, as long as the lease is still ours.
    async fn after_lost_race(&self, belief: &mut Belief, events: Vec<Event>) -> Result<(), RunnerError> {
        let before = Place::of(&belief.opened.state);
        belief.pending.clear();
        belief.pending_since = None;
        self.reload(belief).await?;
        let ours = belief.state.holds_lease(&self.me, self.clock.now()) && Place::of(&belief.opened.state) == before;
        for event in events.into_iter().filter(|e| is_told(&e.what) || (ours && answers_an_effect(&e.what))) {
            belief.take_pending(event);
        }
        Ok(())
    }

    /// What is pending stays only while the environment stands where it was seen.
    async fn reload(&self, belief: &mut Belief) -> Result<(), RunnerError> {
        let before = Place::of(&belief.opened.state);
        belief.opened = self.ledger.open(&self.environment).await?;
        belief.read_at = self.clock.now();
        belief.state = belief.opened.state.clone();
        belief.pending_since = None;
        let moved = Place::of(&belief.opened.state) != before;
        for event in std::mem::take(&mut belief.pending) {
            if !moved || is_told(&event.what) {
                belief.take_pending(event);
            }
        }
        Ok(())
    }

    /// Writes what is pending and lets the lease go, so that the next runner need not wait. A git host that is down costs
    /// only that: readings are taken again, and the lease ends by itself.
    async fn close(&self, belief: &mut Belief) -> Result<(), RunnerError> {
        belief.pending.retain(|event| !is_quiet(event));
        for _ in 0..RACES_MAX {
            let now = self.clock.now();
            let ours = belief.state.holds_lease(&self.me, now);
            let theirs = !ours && belief.state.lease.as_ref().is_some_and(|lease| lease.is_live(now));
            if theirs || (!ours && belief.pending.is_empty()) {
                break;
            }
            let mut events = belief.pending.clone();
            events.extend(ours.then(|| self.event(What::Released { nonce: self.me.nonce.clone() })));
            // It must not wait for a host: what is only here so far is pushed before the program ends, or by the next.
            let page = Page { durability: Durability::Mirror, ..page::make(&belief.opened, events.clone()) };
            self.append(belief, page, events).await?;
        }
        Ok(())
    }

    fn event(&self, what: What) -> Event {
        Event { at: self.clock.now(), by: self.me.actor.clone(), what }
    }
}

/// Who has the lease and was killed on this machine: nobody need wait for the end of it.
fn dead_holder(state: &State, now: Stamp) -> Option<String> {
    let lease = state.lease.as_ref().filter(|lease| lease.is_live(now) && has_ended(lease))?;
    Some(lease.nonce.clone())
}

/// How long an act on the way back, or after the end, may take; everything else has the promotion's deadline.
fn patience(state: &State) -> Option<Span> {
    let settling = state.attempt.as_ref().filter(|a| a.promoted.is_some());
    let settling = settling.map(|a| a.plan.limits.rollback);
    let tidying = || state.limits.filter(|_| state.leftover.is_some()).map(|limits| limits.within);
    state.rollback.as_ref().map(|r| r.limits.within).or(settling).or_else(tidying)
}

fn verdict_name(state: &State, attempt: AttemptId, gate: &GateName, now: Stamp) -> Option<&'static str> {
    let (plan, gates) = match (&state.attempt, state.watches.iter().find(|w| w.attempt == attempt)) {
        (Some(a), _) if a.id == attempt => (&a.plan, &a.gates),
        (_, Some(w)) => (&w.plan, &w.gates),
        (_, None) => return None,
    };
    let nobody = BTreeSet::new();
    let circumstances = Circumstances { approvals: &nobody, author: None, freeze: None };
    let log = gates.get(gate).cloned().unwrap_or_default();
    Some(judge::verdict(plan.gates.get(gate)?, &log, circumstances, now).name())
}
