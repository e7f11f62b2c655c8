//! One light task per environment: begins the next step when there is one, carries on what is under way, keeps the
//! watch, and sleeps until there is news. What goes wrong in one of them touches no other.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    checked::Checked,
    eyes::Eyes,
    house::House,
    metrics::Place,
    pace::{Backoff, chance, jittered},
};
use crate::{
    clients::clock::Clock,
    engine::{self, LeaseTaken, Setup, State},
    ledger::{GitLedger, Ledger, LedgerError, Opened, Repository},
    model::{CommitId, EnvironmentName, Event, Stamp},
    pipeline::{Environment, Pipeline},
    planner::Planned,
    rack::{self, Files, Outside, SocketsError, StepError},
    report,
    runner::{Goal, Outcome, Runner, RunnerError, Sockets},
    targets::{Owner, Progress, Site},
};

/// Ends of pins, freezes and windows bring no news: the plan is made again at least so often.
const RECHECK: Duration = Duration::from_secs(300);
/// Pages that are read back for a trace: the longest promotions are not traced.
const TRACED_PAGES_MAX: usize = 1_000;
/// What could not be done while everything else could.
const NOT_BEGUN: &str = "the next step cannot be begun";
/// Sentences that are remembered so that they are said once; the oldest makes room.
const SAID_MAX: usize = 8;
/// From one look at a lease that another runner holds to the next.
const TAKEN_PAUSE: Duration = Duration::from_secs(10);

/// What an environment is carried on by.
#[derive(Clone)]
pub struct Orders {
    pub pipeline: Arc<Pipeline>,
    pub ledger: GitLedger,
    pub repository: Repository,
    /// Up to which commit of the source branch there may be steps. The pipeline was read at this one, and what came after it may
    /// have another.
    pub tip: CommitId,
    /// False while the pipeline file is broken: what is under way goes on, nothing new begins.
    pub may_begin: bool,
    /// The environment is in no pipeline file any more: home, when what is under way has ended.
    pub dismissed: bool,
    /// Grows with every change that may mean a new step: new commits, another pipeline file, news from upstream.
    pub source_news: u64,
    /// Grows when somebody else wrote to the environment's branch.
    pub head_news: u64,
}

/// Why an environment could not be carried on this time.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    #[error("`{0}` is not in its pipeline file")]
    Gone(EnvironmentName),
    #[error("a fault of piton itself; the log has more")]
    Panicked,
}

/// Until when there is nothing to do.
enum Rest {
    /// There is.
    No,
    News {
        wake: Option<Stamp>,
    },
    For(Duration),
    /// The environment is not in the pipeline file any more, and nothing is under way.
    Dismissed,
}

/// The task of one environment.
pub struct Post {
    house: Arc<House>,
    name: EnvironmentName,
    state_dir: std::path::PathBuf,
    orders: watch::Receiver<Orders>,
    place: Place,
    eyes: Arc<Eyes>,
    said: Vec<String>,
    /// Whether something is in the way in this turn.
    troubled: bool,
    backoff: Backoff,
}

impl Post {
    pub fn new(
        house: Arc<House>,
        name: EnvironmentName,
        state_dir: std::path::PathBuf,
        orders: watch::Receiver<Orders>,
        eyes: Arc<Eyes>,
        place: Place,
    ) -> Post {
        let (said, backoff) = (Vec::new(), Backoff::default());
        Post { house, name, state_dir, orders, place, eyes, said, troubled: false, backoff }
    }

    /// Stands until it is sent home: by the stop, or because nobody gives orders any more.
    pub async fn stand(mut self) {
        while !self.house.stop.is_cancelled() {
            let orders = self.orders.borrow_and_update().clone();
            self.troubled = false;
            let turn = AssertUnwindSafe(self.turn(&orders)).catch_unwind().await;
            let rest = match turn.unwrap_or(Err(Trouble::Panicked)) {
                Ok(rest) => rest,
                Err(trouble) => Rest::For(self.complain("cannot be carried on", &trouble)),
            };
            if !self.troubled {
                self.is_well();
            }
            // Small when idle: nothing of what was known is kept while there is nothing to do.
            drop(orders);
            if !self.rest(rest).await {
                break;
            }
        }
        self.house.metrics.left(&self.place);
    }

    /// Said once, counted always. It comes back with how long to wait before the next try.
    fn complain(&mut self, what: &str, trouble: &Trouble) -> Duration {
        self.house.metrics.failed(&self.place);
        let said = crate::runner::sentence(trouble);
        if self.is_new(&said) {
            let (pipeline, environment) = (&self.place.pipeline, &self.place.environment);
            tracing::warn!(pipeline, environment, "{what}, and is tried again: {said}");
        }
        self.backoff.next()
    }

    /// Whether this is said for the first time since all was well.
    fn is_new(&mut self, said: &str) -> bool {
        self.troubled = true;
        if self.said.iter().any(|before| before == said) {
            return false;
        }
        self.said.truncate(SAID_MAX - 1);
        self.said.insert(0, said.to_owned());
        true
    }

    fn is_well(&mut self) {
        self.backoff.reset();
        self.said.clear();
    }

    /// False: go home.
    async fn rest(&mut self, rest: Rest) -> bool {
        let pause = match rest {
            Rest::No => return true,
            Rest::Dismissed => return false,
            Rest::For(pause) => pause,
            Rest::News { wake } => {
                let recheck = jittered(RECHECK, chance());
                self.until(wake).map_or(recheck, |left| left.min(recheck))
            }
        };
        tokio::select! {
            biased;
            () = self.house.stop.cancelled() => false,
            // Without anybody to give orders there is one more turn, which finds out whether something is under way.
            _ = self.orders.changed(), if self.orders.has_changed().is_ok() => true,
            () = tokio::time::sleep(pause) => true,
        }
    }

    async fn turn(&mut self, orders: &Orders) -> Result<Rest, Trouble> {
        self.house.must_lead();
        let environment = orders.pipeline.environment(&self.name).ok_or_else(|| Trouble::Gone(self.name.clone()))?;
        let place = self.place.clone();
        let house = self.house.clone();
        let ledger = Checked { ledger: &orders.ledger, house: &house, place: &place };
        let opened = ledger.open(&self.name).await?;
        self.eyes.stands(&opened.state);
        if let Some(taken) = self.taken(&opened.state) {
            return Ok(self.leave_it_to(&taken));
        }
        if opened.state.is_busy() {
            let goal = Goal::Ended { wait_for_people: true };
            return self.carry_on(orders, environment, &ledger, goal, RECHECK).await;
        }
        if orders.dismissed || self.orders.has_changed().is_err() {
            return Ok(Rest::Dismissed);
        }
        let mut again = self.recheck(&opened.state);
        let mut failed = false;
        if orders.may_begin && self.is_open(&opened.state) {
            match self.begin(orders, environment, &ledger, &opened).await {
                Ok(true) => return Ok(Rest::No),
                Ok(false) => {}
                // That nobody knows the next step is no reason to leave what stands there alone.
                Err(trouble) => (failed, again) = (true, self.complain(NOT_BEGUN, &trouble)),
            }
        }
        let goal = if opened.state.watches.is_empty() { Goal::Due } else { Goal::Watched };
        drop(opened);
        Ok(match self.carry_on(orders, environment, &ledger, goal, again).await? {
            Rest::News { wake } if failed => Rest::For(self.until(wake).map_or(again, |left| left.min(again))),
            rest @ (Rest::No | Rest::News { .. } | Rest::For(_) | Rest::Dismissed) => rest,
        })
    }

    /// Whether a next step may begin here by what the environment has come to.
    fn is_open(&self, state: &State) -> bool {
        let paused = state.paused(self.house.clock.now()).is_some();
        !state.is_busy() && !paused && rack::unsound(state, &self.name).is_none()
    }

    /// When to look again for a next step without any news: when automation has rested, at the latest.
    fn recheck(&self, state: &State) -> Duration {
        let rested = self.until(state.paused(self.house.clock.now()).map(|pause| pause.until));
        let recheck = jittered(RECHECK, chance());
        rested.map_or(recheck, |left| left.min(recheck))
    }

    fn until(&self, wake: Option<Stamp>) -> Option<Duration> {
        wake.map(|wake| wake.since(self.house.clock.now()).as_duration())
    }

    /// Somebody else acts here: a CI job, a person, another controller.
    fn taken(&self, state: &State) -> Option<LeaseTaken> {
        let now = self.house.clock.now();
        let lease = state.lease.as_ref().filter(|lease| lease.is_live(now) && lease.nonce != self.house.me.nonce)?;
        let free = crate::runner::has_ended(lease) || self.house.may_seize(lease);
        (!free).then(|| LeaseTaken(lease.clone()))
    }

    fn leave_it_to(&mut self, taken: &LeaseTaken) -> Rest {
        if self.is_new(taken.0.holder.as_str()) {
            self.house.metrics.leased(&self.place, "others");
            let (pipeline, environment) = (&self.place.pipeline, &self.place.environment);
            tracing::info!(pipeline, environment, "{taken}: it is left to them until then");
        }
        let left = taken.0.until.since(self.house.clock.now()).as_duration();
        Rest::For(left.min(TAKEN_PAUSE).max(Duration::from_millis(200)))
    }

    /// Begins the next step if there is one.
    async fn begin(
        &self,
        orders: &Orders,
        environment: &Environment,
        ledger: &dyn Ledger,
        opened: &Opened,
    ) -> Result<bool, Trouble> {
        let planned = self.planned(orders, environment, ledger, &opened.state).await?;
        let planned = rack::with_renderer(planned, &Outside::new(environment, self.site(orders))?).await;
        let plan = match planned {
            Planned::UpToDate { .. } => return Ok(false),
            Planned::Next(plan) => Arc::new(*plan),
        };
        let headline = plan.headline();
        let by = self.house.me.actor.clone();
        // Where somebody was faster, what they began is what is carried on.
        let begun = rack::begin(ledger, &self.name, opened, plan, by, self.house.clock.now()).await?;
        if matches!(begun, rack::Begun::Yes(_)) {
            self.eyes.began(opened.state.attempts + 1, &headline);
        }
        Ok(true)
    }

    async fn planned(
        &self,
        orders: &Orders,
        environment: &Environment,
        ledger: &dyn Ledger,
        state: &State,
    ) -> Result<Planned, Trouble> {
        // It is closed with the program, never before.
        let _turn = self.house.planning.acquire().await;
        let mut upstream = Vec::new();
        for name in &environment.after {
            upstream.push((name.clone(), ledger.open(name).await?.state));
        }
        let now = self.house.clock.now();
        let (repository, pipeline) = (&orders.repository, &orders.pipeline);
        let upto = rack::Upto::Newest(orders.tip.clone());
        Ok(rack::next_step(repository, pipeline, environment, state, &upstream, &upto, now).await?)
    }

    /// Comes back when a next step may begin while people's users are only watched over: there are other orders, or what
    /// held the step back has ended. Until then the watch is not disturbed.
    async fn until_step(
        &mut self,
        orders: &Orders,
        environment: &Environment,
        ledger: &dyn Ledger,
        mut again: Duration,
    ) {
        let mut latest = self.orders.clone();
        let mut head_news = orders.head_news;
        loop {
            let news = latest.wait_for(|new| new.source_news != orders.source_news || new.head_news != head_news);
            let heard = tokio::time::timeout(again, news).await;
            match heard.map(|news| news.map(|new| (new.source_news, new.head_news))) {
                // Nobody gives orders any more: the environment is gone, and what is watched there with it.
                Ok(Err(_)) => return,
                Ok(Ok((source, _))) if source != orders.source_news => return,
                Ok(Ok((_, head))) => head_news = head,
                Err(_) => {}
            }
            again = match self.step_or_pause(orders, environment, ledger).await {
                Ok(None) => return,
                Ok(Some(pause)) => {
                    self.is_well();
                    pause
                }
                Err(trouble) => self.complain(NOT_BEGUN, &trouble),
            };
        }
    }

    /// Nothing when there is a next step to begin, else when to look again.
    async fn step_or_pause(
        &self,
        orders: &Orders,
        environment: &Environment,
        ledger: &dyn Ledger,
    ) -> Result<Option<Duration>, Trouble> {
        let state = ledger.open(&self.name).await?.state;
        let recheck = self.recheck(&state);
        if !orders.may_begin || orders.dismissed || !self.is_open(&state) {
            return Ok(Some(recheck));
        }
        Ok(match self.planned(orders, environment, ledger, &state).await? {
            Planned::Next(_) => None,
            Planned::UpToDate { .. } => Some(recheck),
        })
    }

    async fn carry_on(
        &mut self,
        orders: &Orders,
        environment: &Environment,
        ledger: &dyn Ledger,
        goal: Goal,
        again: Duration,
    ) -> Result<Rest, Trouble> {
        let sockets = Outside::new(environment, self.site(orders))?;
        let (house, eyes) = (self.house.clone(), self.eyes.clone());
        let stop = house.stop.child_token();
        let runner = Runner {
            environment: self.name.clone(),
            ledger,
            sockets: &sockets,
            clock: &house.clock,
            view: eyes.as_ref(),
            me: house.me.clone(),
            stop: stop.clone(),
            pace: house.pace,
        };
        let run = runner.run(goal, house.seizure());
        let (outcome, state) = match goal {
            // While people's users are only watched over, a new step may begin.
            Goal::Watched => stopped_by(self.until_step(orders, environment, ledger, again), run, &stop).await?,
            Goal::Ended { .. } | Goal::Due => run.await?,
        };
        self.eyes.stands(&state);
        self.trace(orders, ledger).await;
        Ok(match outcome {
            Outcome::Taken(taken) => self.leave_it_to(&taken),
            Outcome::Waiting { wake, .. } => Rest::News { wake },
            Outcome::Held { .. } => Rest::For(TAKEN_PAUSE),
            Outcome::Stopped => Rest::No,
            Outcome::Ended if goal == Goal::Due => Rest::News { wake: self.wake(&state, &sockets) },
            Outcome::Ended => Rest::No,
        })
    }

    /// Sends the traces of what has ended. What cannot be read again is not sent.
    async fn trace(&self, orders: &Orders, ledger: &dyn Ledger) {
        let ended = self.eyes.ended();
        let Some(traces) = self.house.traces.as_ref().filter(|_| !ended.is_empty()) else { return };
        let Ok(pages) = ledger.pages(&self.name, None, TRACED_PAGES_MAX).await else { return };
        let events: Vec<Event> = pages.into_iter().rev().flat_map(|page| page.events).collect();
        let address = orders.repository.address();
        for attempt in ended {
            // Events before the first known start belong to attempts whose number is not known yet.
            let spans = report::spans(&orders.pipeline.name, &self.name, &events, attempt, &address);
            let key =
                spans.first().map(|root| format!("{}/{}/{attempt}/{}", self.place.pipeline, self.name, root.from));
            traces.send(&key.unwrap_or_default(), &spans);
        }
    }

    /// When the engine wants to be asked again although nothing is under way.
    fn wake(&self, state: &State, sockets: &Outside) -> Option<Stamp> {
        let setup = Setup { tells: sockets.tells(), guard: sockets.guard(), ..Setup::default() };
        engine::next(state, self.house.clock.now(), setup).wake
    }

    fn site(&self, orders: &Orders) -> Site {
        Site {
            environment: self.name.clone(),
            owner: Owner { pipeline: orders.pipeline.name.to_string(), branch: orders.repository.branch(&self.name) },
            state_dir: self.state_dir.clone(),
            trees: Arc::new(Files(orders.repository.clone())),
            program: self.house.program.clone(),
            progress: Progress::default(),
        }
    }
}

/// Runs until it is done; the news has it write down what it has and come back.
async fn stopped_by<T>(news: impl Future<Output = ()>, run: impl Future<Output = T>, stop: &CancellationToken) -> T {
    tokio::pin!(run);
    tokio::select! {
        biased;
        done = &mut run => return done,
        () = news => stop.cancel(),
    }
    run.await
}
