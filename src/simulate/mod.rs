#![doc = include_str!("README.md")]

mod chance;
mod drive;
mod eyes;
mod laws;
mod ledger;
mod people;
mod story;
mod target;
mod world;

use std::sync::Arc;

pub use chance::Chance;
pub use story::{Deed, PlanShape, Story};
pub use world::{Faults, Nature, World};

use crate::{
    ledger::Page,
    model::{Blame, Stamp, What},
    targets::Act,
};

/// What came of a simulated history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// How each promotion and rollback ended, then what is live and what is good.
    pub endings: Vec<String>,
    /// The points at which the runner could have been killed.
    pub awaits: u64,
    pub pages: usize,
    pub trace: Vec<String>,
}

/// A law that did not hold.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{story}: {law}")]
pub struct Broken {
    pub story: String,
    pub law: String,
    pub trace: Vec<String>,
}

/// A world or a ledger that is wrong on purpose, to see that the laws notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    LedgerWithoutRaces,
    TargetWithoutFence,
    ShiftThatStopsHalfWay,
    RetreatThatLies,
    SettleTakesAll,
    PagesWithoutReadings,
    RollbacksWithoutQuarantine,
    PagesWithTheOldTree,
    ClockThatRunsAhead,
    PagesThatBlameNobody,
}

impl Mutation {
    pub const ALL: [Mutation; 10] = [
        Mutation::LedgerWithoutRaces,
        Mutation::TargetWithoutFence,
        Mutation::ShiftThatStopsHalfWay,
        Mutation::RetreatThatLies,
        Mutation::SettleTakesAll,
        Mutation::PagesWithoutReadings,
        Mutation::RollbacksWithoutQuarantine,
        Mutation::PagesWithTheOldTree,
        Mutation::ClockThatRunsAhead,
        Mutation::PagesThatBlameNobody,
    ];

    fn spoil(self, page: &mut Page) {
        match self {
            Mutation::PagesWithoutReadings => page.events.retain(|event| !matches!(event.what, What::Read { .. })),
            Mutation::PagesWithTheOldTree => page.tree = story::tree(1),
            Mutation::RollbacksWithoutQuarantine => {
                for event in &mut page.events {
                    if let What::RollbackBegan { quarantine, .. } = &mut event.what {
                        quarantine.clear();
                    }
                }
            }
            // Whose fault it was is lost on the way: the release is taken for the culprit.
            Mutation::PagesThatBlameNobody => {
                for event in &mut page.events {
                    if let What::ApplyFailed { blame, .. } | What::ShiftFailed { blame, .. } = &mut event.what {
                        *blame = Blame::Unknown;
                    }
                }
            }
            Mutation::LedgerWithoutRaces
            | Mutation::TargetWithoutFence
            | Mutation::ShiftThatStopsHalfWay
            | Mutation::RetreatThatLies
            | Mutation::SettleTakesAll
            | Mutation::ClockThatRunsAhead => {}
        }
    }
}

const BEGIN: Stamp = Stamp(1_800_000_000_000);

/// Plays the history that a seed stands for.
pub fn seeded(seed: u64, mutation: Option<Mutation>) -> Result<History, Broken> {
    let mut chance = Chance::new(seed);
    let story = Story::of_chance(seed, &mut chance);
    play(story, chance, None, mutation)
}

/// Plays a story; `crash_at` kills whoever runs at that point, and another one carries on.
pub fn told(story: Story, crash_at: Option<u64>) -> Result<History, Broken> {
    play(story, Chance::new(1), crash_at, None)
}

fn play(story: Story, chance: Chance, crash_at: Option<u64>, mutation: Option<Mutation>) -> Result<History, Broken> {
    let natures = story.natures.iter().enumerate().map(|(i, nature)| (story::tree(i + 1), *nature)).collect();
    let world = Arc::new(World::new(BEGIN, chance, story.faults.clone(), natures));
    world.inner().crash_at = crash_at;
    world.inner().mutation = mutation;
    world.inner().guard = story.guard;
    world.inner().laws.guarded = story.guard;
    drive::Drive::new(world, story).run()
}

fn act_name(act: &Act) -> String {
    match act {
        Act::Apply { release } => format!("apply {}", release.tree.as_str()),
        Act::Shift { release, to } => format!("move {to} to {}", release.tree.as_str()),
        Act::Retreat { from, to } => {
            let to = to.as_ref().map_or("nothing", |to| to.tree.as_str());
            format!("go back from {} to {to}", from.tree.as_str())
        }
        Act::Settle { keep } => format!("keep only {}", keep.as_ref().map_or("nothing", |keep| keep.tree.as_str())),
    }
}

/// The name of an event as the ledger has it, and what it is about: `started 2`, `step_passed #2 3`.
fn event_name(what: &What) -> String {
    if let What::Started { plan } = what {
        return format!("started {}", plan.release.versions.values().next().map_or("?", |version| version.as_str()));
    }
    let value = serde_json::to_value(what).unwrap_or_default();
    let name = value.get("event").and_then(|name| name.as_str()).unwrap_or("?").to_owned();
    let attempt = value.get("attempt").map(|attempt| format!(" #{attempt}"));
    let step = value.get("step").map(|step| format!(" {step}"));
    [Some(name), attempt, step].into_iter().flatten().collect()
}
