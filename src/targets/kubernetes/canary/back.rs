//! Users leave the canary, and then it goes.

use std::time::Duration;

use serde_json::Value;

use super::{
    Seen, Stand, capacity, copies, dress,
    forward::base_of,
    names::CANARY,
    ready::{self, Whose},
    replicas_of, tree_of, verify,
};
use crate::{
    model::{Release, Share, TreeId},
    targets::{
        TargetError,
        kubernetes::traffic::{
            Extras, Router,
            hand::wrong,
            steer::{Foreign, Position},
        },
    },
};

/// How long the way back waits for stable's full capacity, once what it has is in use.
const CAPACITY_WITHIN: Duration = Duration::from_secs(60);

/// What the way back did.
#[derive(Debug, Default)]
pub struct Moved {
    pub notes: Vec<String>,
    /// There were users on the canary.
    pub users: bool,
}

impl Stand<'_> {
    /// What the routers say, or the pods where there is none.
    pub async fn position(&self) -> Result<Position, TargetError> {
        match &self.track.router {
            Router::Replicas => Ok(Position { share: self.joined_share().await?, ..Position::default() }),
            Router::Gateway(_) | Router::Istio(_) | Router::Nginx(_) | Router::Traefik(_) | Router::Generic(_) => {
                self.steer().look().await
            }
        }
    }

    /// Gives the canary a share, without asking whether it is ready for it.
    pub async fn move_users(
        &self,
        tree: Option<&TreeId>,
        share: Share,
        foreign: Foreign,
    ) -> Result<Vec<String>, TargetError> {
        match &self.track.router {
            Router::Replicas => self.join(tree, share).await.map(|()| Vec::new()),
            Router::Gateway(_) | Router::Istio(_) | Router::Nginx(_) | Router::Traefik(_) | Router::Generic(_) => {
                self.steer().set(share, foreign).await
            }
        }
    }

    /// All users on stable: as many at once as it has ready pods for, the rest when it has more.
    pub async fn users_back(&self) -> Result<Moved, TargetError> {
        let canary = self.canary().await?;
        if let Some(canary) = &canary {
            self.hand.check_fence(canary)?;
        }
        let share = self.position().await?.share;
        if share == Share::NONE {
            // There may still be testers; they go with the canary.
            return Ok(Moved::default());
        }
        let mut notes: Vec<String> = self.make_room(canary.as_ref(), share).await?.into_iter().collect();
        notes.extend(self.move_users(None, Share::NONE, Foreign::Override).await?);
        notes.push(format!("all users of {} are on stable again", self.stable_id()));
        Ok(Moved { notes, users: true })
    }

    /// All users on stable, and the routes without the canary; whether anybody may still come to it.
    pub async fn left(&self) -> Result<Moved, TargetError> {
        let mut back = self.users_back().await?;
        // Testers and copies of requests may come to it whatever its share.
        back.users |= self.track.extras() != Extras::default() && self.canary().await?.is_some();
        self.steer().clear().await?;
        Ok(back)
    }

    /// Brings stable to the capacity for everyone. One ready pod is better than none; without one nobody is moved.
    async fn make_room(&self, canary: Option<&Value>, share: Share) -> Result<Option<String>, TargetError> {
        let ready = self.stable_ready().await?;
        let base = canary.map_or(0, base_of);
        let needed = capacity::stable(ready, base, share);
        if ready >= needed {
            return Ok(None);
        }
        let left = capacity::left_behind(ready, needed);
        if ready > 0 && left < share {
            self.move_users(None, self.rounded(left), Foreign::Override).await?;
        }
        let stable = self.stable().await?;
        let stable = stable.ok_or_else(|| super::missing(&self.stable_id(), "there is nothing to go back to"))?;
        if replicas_of(&stable) < needed {
            self.hand.scale(&self.stable_id(), needed).await?;
        }
        let within = CAPACITY_WITHIN.min(self.within());
        let waited = match self.is_narrowed().await? {
            // The Service takes in no stable pod at this moment.
            true => self.wait_stable_pods(needed, within).await,
            false => {
                let which = (self.namespace(), self.pair.stable.as_str(), Whose::NotOf(&self.name));
                ready::wait_endpoints(&self.hand, which, needed, within, self.progress).await
            }
        };
        match (waited, self.stable_ready().await?) {
            (Ok(()), _) => Ok(Some(format!("{} was brought to {needed} pods first", self.stable_id()))),
            (Err(_), 0) => Err(wrong(format!(
                "{} has no ready pod, so its users stay where they are; it needs {needed}",
                self.stable_id()
            ))),
            (Err(_), ready) => {
                Ok(Some(format!("{} has only {ready} of {needed} pods that it needs", self.stable_id())))
            }
        }
    }

    /// A share that the router can say, not above this one.
    fn rounded(&self, share: Share) -> Share {
        let unit = self.track.router.unit_hundredths().max(1);
        Share::of_hundredths(share.hundredths() / unit * unit).unwrap_or(Share::NONE)
    }

    async fn stable_ready(&self) -> Result<u32, TargetError> {
        let whose = Whose::NotOf(&self.name);
        let narrowed = self.is_narrowed().await?;
        let ready = match narrowed {
            // The Service takes in no stable pod at this moment: they are counted themselves.
            true => self.stable_pods_ready().await?,
            false => ready::endpoints(&self.hand, self.namespace(), &self.pair.stable, whose).await?.len(),
        };
        Ok(u32::try_from(ready).unwrap_or(u32::MAX))
    }

    /// Before stable changes: users are on the canary, all of them, if it can carry them; else on stable.
    pub async fn hold(&self, keep: &Release) -> Result<Vec<String>, TargetError> {
        let position = self.position().await?;
        if position.share == Share::NONE {
            return Ok(Vec::new());
        }
        let canary = self.canary().await?;
        let judged = canary.filter(|canary| tree_of(canary).as_ref() == Some(&keep.tree));
        let able = self.canary_ready().await? > 0;
        let Some(canary) = judged.filter(|_| able) else {
            let mut notes = vec![format!("{} cannot carry the users", self.canary_id())];
            notes.extend(self.users_back().await?.notes);
            return Ok(notes);
        };
        let mut notes = position.foreign;
        notes.extend(dress::edits(&canary).map(|edits| format!("{} was edited: {edits}", self.canary_id())));
        let pods = base_of(&canary).max(1);
        if replicas_of(&canary) < pods {
            self.hand.scale(&self.canary_id(), pods).await?;
        }
        self.wait_ready(keep, pods).await?;
        self.move_users(Some(&keep.tree), Share::WHOLE, Foreign::Override).await?;
        Ok(notes)
    }

    /// Ready pods of the canary that the router can reach.
    async fn canary_ready(&self) -> Result<usize, TargetError> {
        let service = self.canary_service().unwrap_or(&self.pair.stable);
        Ok(ready::endpoints(&self.hand, self.namespace(), service, Whose::Of(&self.name)).await?.len())
    }

    /// Time for the routers to hear of it: until no answer comes from the canary, or as long as the pipeline says.
    pub async fn drained(&self, from: Option<&Release>) -> Option<String> {
        // Who asks as any user does not see whether testers still come.
        if self.track.extras() == Extras::default()
            && let (Some(wanted), Some(from)) = (&self.track.verify, from)
        {
            let images = self.images().await.unwrap_or(verify::Images::Others);
            if let verify::Arrived::As(seen) = verify::verify(wanted, from, Share::NONE, images).await {
                return Some(seen);
            }
        }
        tokio::time::sleep(self.track.drain.as_duration()).await;
        None
    }

    /// Takes down all that is the canary's beside its routes. Everything may be gone already.
    pub async fn take_down(&self) -> Result<(), TargetError> {
        self.hand.delete(&self.canary_id()).await?;
        if self.pair.owned {
            self.hand.delete(&self.service_id(&self.pair.canary)).await?;
        }
        for kind in copies::KINDS {
            let labels = format!("{CANARY}={}", self.name);
            for copy in self.hand.list(&kind.id(self.namespace(), ""), &labels).await? {
                let name = copy["metadata"]["name"].as_str().unwrap_or_default();
                self.hand.delete(&kind.id(self.namespace(), name)).await?;
            }
        }
        Ok(())
    }

    /// Adds what is to be seen of this canary.
    pub async fn look(&self, seen: &mut Seen) -> Result<(), TargetError> {
        let canary = self.canary().await?;
        let position = self.position().await?;
        seen.share = seen.share.max(position.share);
        seen.tree = canary.as_ref().and_then(tree_of).or(seen.tree.take());
        seen.foreign.extend(position.foreign);
        if let Some(edits) = canary.as_ref().and_then(dress::edits) {
            seen.foreign.push(format!("{} was edited: {edits}", self.canary_id()));
        }
        if canary.is_some() {
            let gone = position.missing.iter().map(|id| format!("{id} is gone; nobody is led to the canary by it"));
            seen.broken.extend(gone);
        }
        let share = position.share;
        if share == Share::NONE {
            return Ok(());
        }
        let what = match canary {
            None => "is gone",
            Some(_) if self.canary_ready().await? == 0 => "has no ready pod",
            Some(_) => return Ok(()),
        };
        seen.broken.push(format!("{} {what}, and {share} of the users are led to it", self.canary_id()));
        Ok(())
    }
}
