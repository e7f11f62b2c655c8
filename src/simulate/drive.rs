use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio_util::sync::CancellationToken;

use super::{Broken, Deed, History, Mutation, Story, World, eyes::SimSockets, ledger::SimLedger, people, story};
use crate::{
    clients::clock::Clock,
    engine::{Holder, State},
    model::{Actor, Span, Stamp, What},
    runner::{Goal, NoView, Outcome, PollPace, Runner, Seizure},
};

/// Polls without time passing before it is called spinning.
const POLLS_MAX: u64 = 20_000;
/// Time after the faults ceased in which everything must end.
const PATIENCE: Span = Span::hours(6);
/// How long a machine may stand still between a first page and the first act.
const STANDSTILL: Span = Span::seconds(50);

/// The one executor: polls whoever can go on, in an order that chance gives, and lets time pass when nobody can.
pub(super) struct Drive {
    world: Arc<World>,
    story: Arc<Story>,
    actors: Vec<Live>,
    due: BTreeMap<(Stamp, u64), Due>,
    tickets: u64,
    holders: u64,
    calm_at: Option<Span>,
    polls: u64,
    pages_seen: usize,
    answered: Vec<bool>,
}

/// What happens at a moment.
#[derive(Debug, Clone, Copy)]
enum Due {
    /// A runner, which comes again as long as there is something to do.
    Runner {
        seize: bool,
        once: bool,
    },
    Deed(Deed),
    Jump(i64),
    Calm,
}

/// Somebody who is at it.
struct Live {
    work: BoxFuture<'static, Pause>,
    flag: Arc<Flag>,
    /// What comes again after a crash; a person's word is not crashed.
    again: Option<Due>,
}

/// How long until the runner is started again; nothing when it is not.
type Pause = Option<(Span, Due)>;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Drive {
    pub fn new(world: Arc<World>, story: Story) -> Drive {
        let answered = vec![false; story.answers.len()];
        let mut drive = Drive {
            world,
            story: Arc::new(story),
            actors: Vec::new(),
            due: BTreeMap::new(),
            tickets: 0,
            holders: 0,
            calm_at: None,
            polls: 0,
            pages_seen: 0,
            answered,
        };
        let story = drive.story.clone();
        drive.after(story.calm_after, Due::Calm);
        for slot in 0..story.runners {
            drive.after(Span::seconds(7 * slot as u64), Due::Runner { seize: false, once: false });
        }
        story.people.iter().for_each(|(when, deed)| drive.after(*when, Due::Deed(*deed)));
        story.jumps.iter().for_each(|(when, far)| drive.after(*when, Due::Jump(*far)));
        drive
    }

    /// Plays the story to its end.
    pub fn run(mut self) -> Result<History, Broken> {
        loop {
            if let Some(law) = self.broken() {
                return Err(self.breach(law));
            }
            let ready: Vec<usize> = self.ready();
            if ready.is_empty() {
                if self.pages_seen > 0 && self.actors.is_empty() && self.is_finished() {
                    return Ok(self.history());
                }
                self.let_time_pass();
            } else {
                let pick = self.world.inner().chance.up_to(ready.len() as u64 - 1) as usize;
                self.poll(ready[pick]);
                self.answer_pages();
            }
        }
    }

    fn ready(&self) -> Vec<usize> {
        let is_ready = |(i, live): (usize, &Live)| live.flag.0.load(Ordering::SeqCst).then_some(i);
        self.actors.iter().enumerate().filter_map(is_ready).collect()
    }

    fn poll(&mut self, i: usize) {
        self.polls += 1;
        let live = &mut self.actors[i];
        live.flag.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(live.flag.clone());
        let polled = live.work.as_mut().poll(&mut Context::from_waker(&waker));
        let crashed = self.crashes(i);
        if let Poll::Ready(pause) = polled {
            self.actors.remove(i);
            if let Some((span, due)) = pause {
                self.after(span, due);
            }
        } else if let Some(again) = crashed {
            drop(self.actors.remove(i));
            let rest = if self.story.faults.crash > 0 { 1 + self.world.inner().chance.up_to(240) } else { 1 };
            self.world.note(|| "crash".to_owned());
            self.after(Span::seconds(rest), again);
        }
    }

    /// Whether this one is killed at this point.
    fn crashes(&self, i: usize) -> Option<Due> {
        let mut inner = self.world.inner();
        let often = inner.faults.crash;
        let crashed = std::mem::take(&mut inner.crashed) || inner.chance.per_mille(often);
        self.actors[i].again.filter(|_| crashed)
    }

    fn let_time_pass(&mut self) {
        self.polls = 0;
        let now = self.world.clock.now();
        let due = self.due.keys().next().map(|(at, _)| *at);
        let Some(next) = self.world.clock.next_wait().into_iter().chain(due).min() else {
            let stays = "nobody does anything any more, and it is not over".to_owned();
            return self.world.inner().laws.holds(false, || stays);
        };
        if next > now {
            self.world.inner().elapsed.0 += next.since(now).0;
            self.world.clock.set(next);
        }
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= next.max(now)) {
            let due = entry.remove();
            self.begin(due);
        }
    }

    fn begin(&mut self, due: Due) {
        match due {
            Due::Runner { seize, once } => self.begin_runner(seize, once),
            Due::Deed(deed) => self.begin_deed(deed),
            Due::Jump(far) => {
                let now = self.world.clock.now();
                self.world.note(|| format!("the clock is set by {far}ms"));
                if far > 0 && self.world.inner().mutation != Some(Mutation::ClockThatRunsAhead) {
                    self.world.inner().jumped.0 += far.unsigned_abs();
                }
                self.world.clock.set(Stamp(now.0 + far));
            }
            Due::Calm => self.calm(),
        }
    }

    /// From here on nothing misbehaves, and somebody is there who approves and mends.
    fn calm(&mut self) {
        let mut inner = self.world.inner();
        inner.faults = super::Faults { act_seconds_max: 5, ..super::Faults::default() };
        self.calm_at.get_or_insert(inner.elapsed);
        let stuck = inner.state.stuck.is_some() && inner.state.way_back().is_some();
        let drifted = inner.state.drift.is_some() && inner.state.stuck.is_none();
        inner.lost.clear();
        let unapproved = self.story.plan.approval && inner.state.attempt.is_some();
        drop(inner);
        if stuck {
            self.begin_deed(Deed::Rollback);
        }
        if drifted {
            self.begin_deed(Deed::DropDrift);
        }
        if unapproved {
            self.begin_deed(Deed::Approve);
        }
        if !self.is_finished() {
            self.after(Span::minutes(2), Due::Calm);
        }
    }

    fn begin_runner(&mut self, seize: bool, once: bool) {
        if self.is_finished() {
            return;
        }
        self.holders += 1;
        let me = Holder { actor: actor(&format!("runner-{}", self.holders)), nonce: format!("n{}", self.holders) };
        let again = Due::Runner { seize, once };
        let goal = match self.world.inner().chance.up_to(3) {
            0 => Goal::Ended { wait_for_people: false },
            1 => Goal::Ended { wait_for_people: true },
            2 => Goal::Due,
            _ => Goal::Watched,
        };
        let goal = if seize { Goal::Ended { wait_for_people: true } } else { goal };
        let (world, story) = (self.world.clone(), self.story.clone());
        self.spawn(Some(again), live_as_runner(world, story, me, goal, again).boxed());
    }

    fn begin_deed(&mut self, deed: Deed) {
        let world = self.world.clone();
        let person = actor("bob");
        self.world.note(|| format!("a person: {deed:?}"));
        match deed {
            Deed::Promote => return self.begin_runner(false, true),
            Deed::Mend
            | Deed::Unreachable(_)
            | Deed::FailDeploys(_)
            | Deed::Blind
            | Deed::See
            | Deed::Sicken(_)
            | Deed::EditByHand
            | Deed::UndoByHand
            | Deed::LoseImages(_)
            | Deed::FindImages => {
                return self.world.inner().change(deed);
            }
            Deed::Rollback | Deed::RollbackTo(..) | Deed::DropDrift | Deed::AcceptDrift => {}
            Deed::Approve | Deed::Abort | Deed::Extend | Deed::Freeze | Deed::Unfreeze | Deed::Pin | Deed::Unpin => {}
        }
        let acts = matches!(deed, Deed::Rollback | Deed::RollbackTo(..) | Deed::DropDrift);
        let work = async move {
            let by = person.clone();
            people::say(world, move |state, now| people::facts(deed, state, now, &by), person).await;
            acts.then_some((Span(0), Due::Runner { seize: true, once: true }))
        };
        self.spawn(None, work.boxed());
    }

    fn spawn(&mut self, again: Option<Due>, work: BoxFuture<'static, Pause>) {
        self.actors.push(Live { work, flag: Arc::new(Flag(AtomicBool::new(true))), again });
    }

    fn after(&mut self, span: Span, due: Due) {
        self.tickets += 1;
        self.due.insert((self.world.clock.now() + span, self.tickets), due);
    }

    /// People answer what they read in the ledger.
    fn answer_pages(&mut self) {
        let inner = self.world.inner();
        let new = inner.pages[self.pages_seen..].iter().flat_map(|page| &page.events);
        let new: Vec<String> = new.map(|event| super::event_name(&event.what)).collect();
        self.pages_seen = inner.pages.len();
        drop(inner);
        let story = self.story.clone();
        for event in new {
            for (i, (words, deed)) in story.answers.iter().enumerate() {
                if !self.answered[i] && event == *words {
                    self.answered[i] = true;
                    self.begin_deed(*deed);
                }
            }
        }
    }

    fn is_finished(&self) -> bool {
        let inner = self.world.inner();
        let state = &inner.state;
        let stuck_for_good = state.stuck.is_some() && state.way_back().is_none();
        let nothing_to_do = story::candidate(state, self.story.natures.len(), self.world.clock.now()).is_none();
        let pinned = state.pin(&story::hub(), self.world.clock.now()).is_some();
        let tidy = state.leftover.is_none() || state.stuck.is_some();
        let idle = !state.is_busy() && state.watches.is_empty() && state.outbox.is_empty() && tidy;
        let ends_early = self.story.ends_early && self.answered.iter().all(|answered| *answered);
        (self.calm_at.is_some() || ends_early)
            && idle
            && (stuck_for_good || (state.stuck.is_none() && nothing_to_do && !pinned))
    }

    fn broken(&self) -> Option<String> {
        let inner = self.world.inner();
        let late = self.calm_at.filter(|calm| inner.elapsed.0 > calm.0 + PATIENCE.0);
        let spins = self.polls > POLLS_MAX;
        let law = inner.laws.broken.clone();
        let never = late.map(|_| format!("it does not end: {:?}", brief(&inner.state)));
        law.or(never).or(spins.then(|| "a runner asks again and again while no time passes".to_owned()))
    }

    fn breach(&self, law: String) -> Broken {
        Broken { story: self.story.name.clone(), law, trace: self.world.inner().trace.clone() }
    }

    fn history(self) -> History {
        let inner = self.world.inner();
        let events = inner.pages.iter().flat_map(|page| &page.events);
        let ended = |what: &What| match what {
            What::Promoted { attempt } => Some(format!("{attempt} promoted")),
            What::RolledBack { attempt, .. } => Some(format!("{attempt} rolled back")),
            What::Refused { attempt, .. } => Some(format!("{attempt} refused")),
            What::Stuck { attempt, .. } => Some(format!("{attempt} stuck")),
            _ => None,
        };
        let mut endings: Vec<String> = events.filter_map(|event| ended(&event.what)).collect();
        let place = |tree: Option<&crate::model::TreeId>| tree.map_or("nothing".to_owned(), ToString::to_string);
        endings.push(format!("live {}", place(inner.state.live.as_ref().map(|live| &live.tree))));
        endings.push(format!("good {}", place(inner.state.good.as_ref().map(|good| &good.release.tree))));
        History { endings, awaits: inner.yields, pages: inner.pages.len(), trace: inner.trace.clone() }
    }
}

async fn live_as_runner(world: Arc<World>, story: Arc<Story>, me: Holder, goal: Goal, again: Due) -> Pause {
    let Due::Runner { seize, once } = again else { return None };
    let begun = match seize {
        true => None,
        false => people::start(world.clone(), story, me.clone(), once).await,
    };
    // It acts from its own first page, and the machine may stand still before that, while others act.
    if begun.is_some() && world.inner().chance.up_to(3) == 0 {
        world.sleep(STANDSTILL).await;
    }
    let (ledger, sockets) = (SimLedger(world.clone()), SimSockets::new(world.clone()));
    let runner = Runner {
        environment: "production".parse().expect("a name"),
        ledger: &ledger,
        sockets: &sockets,
        clock: &world.clock,
        view: &NoView,
        me,
        stop: CancellationToken::new(),
        pace: PollPace { readings: Span::seconds(15), others: Span::seconds(20) },
    };
    let seizure = if seize { Seizure::ForTheWayBack } else { Seizure::Nobody };
    let ended = match begun {
        Some(opened) => runner.run_from(opened, goal, seizure).await,
        None => runner.run(goal, seizure).await,
    };
    world.note(|| format!("{} came back: {}", runner.me.actor, outcome(&ended)));
    let pause = match ended {
        Ok((Outcome::Ended, _)) => 30,
        Ok((Outcome::Waiting { .. } | Outcome::Held { .. } | Outcome::Stopped, _)) => 20,
        Ok((Outcome::Taken(_), _)) => 40,
        Err(_) => 5,
    };
    (!once).then_some((Span::seconds(pause), again))
}

fn outcome(ended: &Result<(Outcome, State), crate::runner::RunnerError>) -> String {
    match ended {
        Ok((Outcome::Ended, _)) => "it ended".to_owned(),
        Ok((Outcome::Waiting { .. }, _)) => "the rest waits".to_owned(),
        Ok((Outcome::Held { .. }, _)) => "people are waited for".to_owned(),
        Ok((Outcome::Taken(taken), _)) => taken.to_string(),
        Ok((Outcome::Stopped, _)) => "it was stopped".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn brief(state: &State) -> (Option<usize>, bool, bool, usize) {
    let step = state.attempt.as_ref().map(|a| a.step);
    (step, state.rollback.is_some(), state.stuck.is_some(), state.watches.len())
}

fn actor(text: &str) -> Actor {
    Actor::new(text).expect("an actor")
}
