use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};

use super::{World, target::SimTarget};
use crate::{
    channels::Channel,
    clients::clock::Clock,
    gates::{Gate, Scene},
    model::{Arm, ArmCounts, Counts, EnvironmentName, GateSpec, Guard, Notice, Release, Saw, Span},
    runner::Sockets,
    targets::Target,
};

/// The sockets of the simulated world.
pub(super) struct SimSockets {
    world: Arc<World>,
    target: SimTarget,
    channels: Vec<Box<dyn Channel>>,
}

impl SimSockets {
    pub fn new(world: Arc<World>) -> SimSockets {
        let channels: Vec<Box<dyn Channel>> = vec![Box::new(SimChannel(world.clone()))];
        SimSockets { target: SimTarget(world.clone()), channels, world }
    }
}

impl Sockets for SimSockets {
    fn target(&self) -> &dyn Target {
        &self.target
    }

    fn gate(&self, spec: &GateSpec) -> Result<Box<dyn Gate>, String> {
        let name = spec.with.as_str().unwrap_or_default().to_owned();
        Ok(Box::new(SimGate { world: self.world.clone(), kind: spec.kind.clone(), name }))
    }

    fn channels(&self) -> &[Box<dyn Channel>] {
        &self.channels
    }

    fn guard(&self) -> Guard {
        match self.world.inner().guard {
            true => Guard { drift: Some(Span::minutes(1)), way_back: Some(Span::hours(24)), blind_holds: true },
            false => Guard::default(),
        }
    }
}

/// `direct` looks at the release itself, `traffic` at what its users have, `counts` counts their requests.
struct SimGate {
    world: Arc<World>,
    kind: String,
    name: String,
}

impl Gate for SimGate {
    fn look<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Saw> {
        async move {
            let began = self.world.inner().yields;
            self.world.breathe().await;
            if self.world.roll(|faults| faults.look_hangs) {
                self.world.sleep(scene.timeout).await;
                return Saw::Blind("no answer in time".to_owned());
            }
            let slow = self.world.inner().chance.up_to(2);
            self.world.sleep(Span::seconds(slow)).await;
            let saw = self.see(scene, began);
            self.world.breathe().await;
            saw
        }
        .boxed()
    }
}

impl SimGate {
    /// The note holds when the look began, for the law that a look belongs to its step.
    fn see(&self, scene: &Scene, began: u64) -> Saw {
        let now = self.world.clock.now();
        let mut inner = self.world.inner();
        let often = inner.faults.blind;
        let blind_phase = inner.faults.blind_gates.iter().any(|gate| gate.as_str() == self.name);
        if blind_phase || inner.chance.per_mille(often) {
            return Saw::Blind(began.to_string());
        }
        inner.count_requests(now);
        let tree = &scene.candidate.tree;
        let bad = match self.kind.as_str() {
            "counts" => return counts(&inner.requests, scene),
            "direct" => inner.up.contains(tree) && inner.natures.get(tree) == Some(&super::Nature::BadAtOnce),
            _ => inner.users.contains_key(tree) && inner.is_bad(tree, now),
        };
        if bad { Saw::Bad(began.to_string()) } else { Saw::Good(began.to_string()) }
    }
}

fn counts(requests: &std::collections::BTreeMap<crate::model::TreeId, (u64, u64)>, scene: &Scene) -> Saw {
    let of = |release: &Release| {
        let (ok, failed) = requests.get(&release.tree).copied().unwrap_or_default();
        ArmCounts { ok, failed, ..ArmCounts::default() }
    };
    let stable = scene.stable.as_ref().map(of).unwrap_or_default();
    Saw::Counts(Counts { arms: [(Arm::Stable, stable), (Arm::Candidate, of(&scene.candidate))].into() })
}

struct SimChannel(Arc<World>);

impl Channel for SimChannel {
    fn tell<'a>(&'a self, _: &'a EnvironmentName, notice: &'a Notice) -> BoxFuture<'a, Result<(), String>> {
        async move {
            self.0.breathe().await;
            if self.0.roll(|faults| faults.channel_hangs) {
                self.0.sleep(Span::hours(9)).await;
            }
            if self.0.roll(|faults| faults.channel_fails) {
                return Err("the chat is down".to_owned());
            }
            self.0.inner().told.insert(notice.id);
            self.0.breathe().await;
            Ok(())
        }
        .boxed()
    }
}
