use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt};

use super::{Mutation, Nature, World, world::Inner};
use crate::{
    clients::clock::Clock,
    model::{Portion, Release, Share, Span},
    targets::{Act, Difference, Done, Live, Rehearsal, Target, TargetError},
};

/// Brings releases up and down in memory; may be slow, may fail, may do it and not say so.
pub(super) struct SimTarget(pub Arc<World>);

impl Target for SimTarget {
    fn perform<'a>(&'a self, act: &'a Act, fence: u64) -> BoxFuture<'a, Result<Done, TargetError>> {
        async move {
            self.0.inner().laws.asked(act, fence);
            self.0.breathe().await;
            self.0.inner().check_fence(fence)?;
            if self.0.roll(|faults| faults.act_fails) {
                return Err(world("it failed before it began"));
            }
            let wait = self.0.inner().wait_for(act);
            self.0.sleep(wait).await;
            self.0.inner().land(act, fence, self.0.clock.now())?;
            self.0.note(|| format!("did {}", super::act_name(act)));
            self.0.breathe().await;
            if self.0.roll(|faults| faults.act_answer_lost) {
                return Err(world("it was done, but the answer was lost"));
            }
            Ok(Done { note: "done".to_owned(), renderer: None })
        }
        .boxed()
    }

    fn live(&self) -> BoxFuture<'_, Result<Live, TargetError>> {
        async move {
            self.0.breathe().await;
            let inner = self.0.inner();
            Ok(Live { releases: inner.users.clone(), ..Live::default() })
        }
        .boxed()
    }

    fn drift<'a>(
        &'a self,
        release: &'a Release,
        _digests: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<Vec<Difference>, TargetError>> {
        async move {
            self.0.breathe().await;
            if self.0.roll(|faults| faults.look_hangs) {
                self.0.sleep(Span::hours(9)).await;
            }
            if self.0.roll(|faults| faults.blind) {
                return Err(world("the target does not answer"));
            }
            let seen = self.0.inner().differences(release);
            self.0.breathe().await;
            Ok(seen)
        }
        .boxed()
    }

    fn rehearse<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<Rehearsal, TargetError>> {
        async move {
            self.0.breathe().await;
            if self.0.roll(|faults| faults.blind) {
                return Err(world("the registry does not answer"));
            }
            let lost = self.0.inner().lost.contains(&release.tree);
            let obstacles = if lost { vec!["its images are gone".to_owned()] } else { Vec::new() };
            self.0.breathe().await;
            Ok(Rehearsal { obstacles, ..Rehearsal::default() })
        }
        .boxed()
    }
}

impl Inner {
    fn differences(&self, release: &Release) -> Vec<Difference> {
        let difference = |object: &str, wanted: &str, live: String| Difference {
            object: object.to_owned(),
            field: String::new(),
            wanted: Some(wanted.into()),
            live: Some(live.into()),
            by: Some("eve".to_owned()),
            at: None,
            source: None,
        };
        let elsewhere = self.users.iter().filter(|(tree, _)| **tree != release.tree);
        let elsewhere =
            elsewhere.map(|(tree, share)| difference(tree.as_str(), "no users", format!("{share} of 10000")));
        let edited = self.edited.then(|| difference("setting", "as deployed", "another".to_owned()));
        elsewhere.chain(edited).collect()
    }
}

impl Inner {
    fn check_fence(&mut self, fence: u64) -> Result<(), TargetError> {
        if fence < self.fence && self.mutation != Some(Mutation::TargetWithoutFence) {
            return Err(TargetError::Fenced { ours: fence, seen: self.fence });
        }
        self.fence = self.fence.max(fence);
        Ok(())
    }

    fn wait_for(&mut self, act: &Act) -> Span {
        let hangs = self.faults.act_hangs;
        if self.chance.per_mille(hangs) {
            return Span::hours(5);
        }
        // Moving users is quick; bringing a release up is not.
        let most = match act {
            Act::Apply { .. } => self.faults.act_seconds_max,
            Act::Shift { .. } | Act::Retreat { .. } | Act::Settle { .. } => self.faults.act_seconds_max / 5,
        };
        Span::seconds(self.chance.up_to(most))
    }

    fn land(&mut self, act: &Act, fence: u64, now: crate::model::Stamp) -> Result<(), TargetError> {
        self.check_fence(fence)?;
        self.refuse(act)?;
        self.laws.landed(fence);
        if matches!(act, Act::Shift { .. }) {
            self.laws.shift_landed(self.yields);
        }
        let mutation = self.mutation;
        match (mutation, act) {
            (Some(Mutation::RetreatThatLies), Act::Retreat { .. }) => {}
            (Some(Mutation::ShiftThatStopsHalfWay), Act::Shift { release, to }) if to.is_all() => {
                let half = Portion::Share(Share::of_hundredths(5_000).expect("a share"));
                self.carry_out(&Act::Shift { release: release.clone(), to: half }, now);
            }
            (Some(Mutation::SettleTakesAll), Act::Settle { .. }) => {
                self.carry_out(&Act::Settle { keep: None }, now);
            }
            (_, act) => self.carry_out(act, now),
        }
        let (up, users) = (&self.up, &self.users);
        self.laws.world_changed(&self.state, up, users);
        Ok(())
    }

    /// Whether the world cannot do it, for now or for good.
    fn refuse(&mut self, act: &Act) -> Result<(), TargetError> {
        match act {
            Act::Apply { release } => {
                if self.natures.get(&release.tree) == Some(&Nature::NeverUp) {
                    self.laws.is_at_fault(&release.tree);
                    return Err(TargetError::Release("it does not start".to_owned()));
                }
                use_up(&mut self.faults.applies_fail)
            }
            Act::Shift { release, .. } if !self.up.contains(&release.tree) => {
                Err(world("the release that users should go to is not up"))
            }
            Act::Shift { .. } => Ok(()),
            Act::Retreat { to: Some(to), .. } if self.faults.unreachable.contains(&to.tree) => {
                Err(world("it cannot be reached"))
            }
            Act::Retreat { to: Some(to), .. }
                if !self.up.contains(&to.tree) && self.faults.never_back.contains(&to.tree) =>
            {
                Err(world("it does not come up again"))
            }
            Act::Retreat { .. } => use_up(&mut self.faults.retreats_fail),
            Act::Settle { .. } => use_up(&mut self.faults.settles_fail),
        }
    }
}

fn use_up(failures: &mut u32) -> Result<(), TargetError> {
    match failures.checked_sub(1) {
        Some(left) => {
            *failures = left;
            Err(world("it fails a few times"))
        }
        None => Ok(()),
    }
}

fn world(what: &str) -> TargetError {
    TargetError::World { what: what.to_owned(), source: None }
}
