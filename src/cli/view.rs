use std::{
    collections::BTreeMap,
    mem::{self, Discriminant},
    sync::{Mutex, PoisonError},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    sync::watch::Receiver,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{log_pace::LogPace, voice::Voice};
use crate::{
    engine::{Next, State, rests_until},
    ledger::Appended,
    model::{EnvironmentName, Event, GateName, Saw, Stamp, What},
    report,
    runner::View,
    targets::{Line, Progress},
};

/// Shows people what happens, as it happens: a line per fact, and below them what is waited for.
pub struct Watcher {
    voice: Voice,
    environment: EnvironmentName,
    bar: Option<ProgressBar>,
    /// Shows what the target says while it works.
    follower: JoinHandle<()>,
    /// What each gate said last: the same again is no news.
    said: Mutex<BTreeMap<GateName, String>>,
    /// Which act failed last, and why: the next try of it with the same end is no news.
    failed: Mutex<Option<(Discriminant<What>, String)>>,
}

impl Watcher {
    pub fn new(voice: &Voice, environment: EnvironmentName, progress: &Progress) -> Watcher {
        let bar = voice.live.then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner:.cyan} {prefix}{wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar
        });
        let follower = match &bar {
            Some(bar) => tokio::spawn(draw(progress.follow(), bar.clone())),
            None => tokio::spawn(log(progress.follow(), voice.clone())),
        };
        Watcher { voice: voice.clone(), environment, bar, follower, said: Mutex::default(), failed: Mutex::default() }
    }

    pub fn end(&self) {
        self.follower.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, at: Stamp, text: &str) {
        let clock = at.to_string();
        let clock = clock.get(11..19).unwrap_or("");
        let line = format!("{} {:<10} {text}", self.voice.dim(clock), self.environment.as_str());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.voice.say(line),
        }
    }

    fn is_news(&self, what: &What) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            What::Shifted { .. } | What::Started { .. } => {
                said.clear();
                true
            }
            What::Read { reading, .. } => {
                // How long a good answer took differs every time.
                let now = match &reading.saw {
                    Saw::Good(_) => "good".to_owned(),
                    Saw::Bad(note) => format!("bad {note}"),
                    Saw::Blind(note) => format!("blind {note}"),
                    Saw::Counts(_) => "counts".to_owned(),
                };
                said.insert(reading.gate.clone(), now.clone()) != Some(now)
            }
            What::SettleFailed { why, .. }
            | What::RetreatFailed { why, .. }
            | What::ApplyFailed { why, .. }
            | What::ShiftFailed { why, .. } => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                let now = (mem::discriminant(what), why.clone());
                failed.replace(now.clone()) != Some(now)
            }
            _ => true,
        }
    }
}

impl View for Watcher {
    fn show(&self, _state: &State, next: &Next, now: Stamp) {
        let Some(bar) = &self.bar else { return };
        let wait = next.waits.iter().min_by_key(|wait| wait.until.unwrap_or(Stamp(i64::MAX)));
        let text = wait.map_or("working".to_owned(), |wait| {
            let left = wait.until.map_or(String::new(), |until| format!(" · {} left", until.since(now)));
            format!("waiting for {}{left}", wait.on)
        });
        bar.set_message(text);
    }

    fn wrote(&self, state: &State, events: &[Event], _appended: &Appended) {
        for event in events {
            if let Some(text) = words(&self.voice, state, &event.what).filter(|_| self.is_news(&event.what)) {
                self.line(event.at, &text);
            }
        }
    }
}

/// Shows the target's line beside the wait.
async fn draw(mut lines: Receiver<Line>, bar: ProgressBar) {
    while lines.changed().await.is_ok() {
        let text = lines.borrow_and_update().text.clone();
        bar.set_prefix(if text.is_empty() { text } else { format!("{text} · ") });
    }
}

/// Prints the target's lines where they cannot be replaced, and not each of them.
async fn log(mut lines: Receiver<Line>, voice: Voice) {
    let mut pace = LogPace::default();
    loop {
        let due = pace.due();
        let said = tokio::select! {
            changed = lines.changed() => match changed {
                Ok(()) => pace.hear(&lines.borrow_and_update(), Instant::now()),
                Err(_) => return,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => pace.ripe(Instant::now()),
        };
        if let Some(said) = said {
            voice.say(voice.dim(format!("  … {said}")));
        }
    }
}

fn noted(voice: &Voice, text: String, note: &str) -> String {
    if note.is_empty() { text } else { format!("{text} {}", voice.dim(note)) }
}

/// One fact in a line for people; nothing for what only machines need.
fn words(voice: &Voice, state: &State, what: &What) -> Option<String> {
    let text = match what {
        What::Leased { .. }
        | What::Released { .. }
        | What::Told { .. }
        | What::StepPassed { .. }
        | What::LookedForDrift { blind: None, .. } => return None,
        What::Read { reading, .. } => match &reading.saw {
            Saw::Good(note) => format!("  {} {} {}", voice.good("✓"), reading.gate, voice.dim(note)),
            Saw::Bad(note) => format!("  {} {} {}", voice.bad("✗"), reading.gate, note),
            Saw::Blind(note) => format!("  {} {} cannot see: {note}", voice.warn("?"), reading.gate),
            Saw::Counts(_) => return None,
        },
        What::Applied { note, .. } => format!("{} deployed {}", voice.good("✓"), voice.dim(note)),
        What::ApplyFailed { why, .. } => format!("{} deploy failed: {why}", voice.bad("✗")),
        What::Shifted { to, note, .. } => {
            let text = format!("{} {} of the users are on it", voice.note("→"), voice.bold(to.to_string()));
            noted(voice, text, note)
        }
        What::ShiftFailed { to, why, .. } => format!("{} moving {to} of the users failed: {why}", voice.bad("✗")),
        What::Promoted { .. } => {
            let good = state.good.as_ref().map_or("", |g| g.commit.short());
            format!("{} promoted; {good} is the last known good", voice.good("✓"))
        }
        What::Settled { note, .. } => {
            noted(voice, format!("{} what is not needed any more is down", voice.dim("·")), note)
        }
        What::Refused { cause, paused_until, .. } => {
            format!("{} refused: {}{}", voice.bad("✗"), cause.sentence(), rests_until(*paused_until))
        }
        What::RollbackBegan { cause, .. } => format!("{} {}; going back", voice.bad("✗"), cause.headline()),
        What::Retreated { note, .. } => {
            noted(voice, format!("{} all users are on the release before", voice.good("↩")), note)
        }
        What::RolledBack { attempt, paused_until } => {
            format!("{} {attempt} is rolled back{}", voice.good("✓"), rests_until(*paused_until))
        }
        What::Stuck { at, advice, .. } => format!("{} stuck {at}: {advice}", voice.bad("✗")),
        What::WatchEnded { .. } => format!("{} the watch is over", voice.good("✓")),
        What::TellFailed { why, .. } => format!("{} nobody could be told: {why}", voice.warn("!")),
        What::SettleFailed { why, .. } => format!("{} taking down failed: {why}", voice.warn("!")),
        What::RetreatFailed { why, .. } => format!("{} going back failed: {why}", voice.bad("✗")),
        What::LookedForDrift { blind: Some(_), .. } | What::Drifted { .. } => {
            format!("{} {}", voice.warn("!"), report::standing(what)?)
        }
        What::Rehearsed { rehearsal, .. } => {
            let sign = match (rehearsal.obstacles.is_empty(), &rehearsal.blind) {
                (true, None) => voice.dim("·"),
                (true, Some(_)) => voice.warn("?"),
                (false, _) => voice.bad("✗"),
            };
            format!("{sign} {}", report::standing(what)?)
        }
        What::DriftEnded { .. } | What::WayBackWaived { .. } => {
            format!("{} {}", voice.note("·"), report::standing(what)?)
        }
        What::Pinned { .. }
        | What::Unpinned { .. }
        | What::Quarantined { .. }
        | What::Unquarantined { .. }
        | What::Frozen { .. }
        | What::Unfrozen { .. }
        | What::Approved { .. }
        | What::Extended { .. }
        | What::Aborted { .. }
        | What::RollbackOrdered { .. }
        | What::RollbackWidened { .. }
        | What::Started { .. } => crate::ledger::describe(what),
    };
    Some(text)
}
