//! What stands: live against the release, and whether the release could be applied again. Nothing is written.

use std::collections::BTreeMap;

use super::{
    KubernetesTarget,
    apply::Way,
    config::{Seat, Source},
    drift::{self, Wanted},
    proof, refusals,
    render::Rendered,
    stage::{self, Stage},
};
use crate::{
    model::{Difference, Rehearsal, Release},
    targets::{TargetError, compare::compare},
};

/// Whoever only looks is never too late.
const ANY_FENCE: u64 = u64::MAX;

impl KubernetesTarget {
    pub(super) async fn see_drift(
        &self,
        release: &Release,
        digests: &BTreeMap<String, String>,
    ) -> Result<Vec<Difference>, TargetError> {
        let mut differences = compare(&self.look().await?, release);
        for (at, seat) in self.config.seats.iter().enumerate() {
            let stage = self.stage(at, ANY_FENCE).await?;
            let rendered = stage.render(&release.tree, Way::Forward).await?;
            self.site.progress.clear();
            let found = drift::look(&stage.cluster, &wanted(&stage, seat, &rendered, release), digests).await;
            let found = found.map_err(|error| unseen(seat, "compare what is live with the release", &error))?;
            differences.extend(
                found
                    .into_iter()
                    .map(|difference| Difference { object: stage::of_member(seat) + &difference.object, ..difference }),
            );
        }
        Ok(differences)
    }

    pub(super) async fn try_out(&self, release: &Release) -> Result<Rehearsal, TargetError> {
        let mut all = Rehearsal::default();
        for (at, seat) in self.config.seats.iter().enumerate() {
            let stage = self.stage(at, ANY_FENCE).await?;
            let rendered = stage.render(&release.tree, Way::Back).await?;
            self.site.progress.clear();
            let tried = proof::rehearse(&stage.cluster, &wanted(&stage, seat, &rendered, release)).await;
            let of = |text: String| stage::of_member(seat) + &text;
            all.obstacles.extend(tried.obstacles.into_iter().map(of));
            all.digests.extend(tried.digests);
            all.blind = all.blind.or(tried.blind.map(of));
        }
        Ok(all)
    }
}

/// The objects as they are applied.
fn wanted<'a>(stage: &Stage<'_>, seat: &Seat, rendered: &'a Rendered, release: &Release) -> Vec<Wanted<'a>> {
    let literal = matches!(seat.source, Source::Plain(_));
    let one =
        |manifest| Wanted { manifest, marked: stage.mark(manifest, &release.tree), literal, manager: drift::MANAGER };
    rendered.manifests.iter().map(one).collect()
}

fn unseen(seat: &Seat, what: &str, error: &crate::clients::kube::KubeError) -> TargetError {
    refusals::world(format!("{}cannot {what}: {}", stage::of_member(seat), refusals::with_hint(error)))
}
