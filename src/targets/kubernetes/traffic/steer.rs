//! Reads where users go, and sends them elsewhere.

use serde_json::{Map, Value, json};

use super::{
    Extras, Fault, Pair, Router, gateway,
    hand::{Hand, wrong},
    nginx::Nginx,
    record::{self, Record},
};
use crate::{clients::kube::ObjectId, model::Share, targets::TargetError};

/// How often a write is tried again when somebody else wrote in between.
const TRIES: usize = 5;

/// Moves users between the two Services of a pair.
pub struct Steer<'a> {
    pub hand: Hand<'a>,
    pub router: &'a Router,
    pub pair: &'a Pair,
    pub extras: Extras,
}

/// What the routes say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Position {
    /// The largest share that any route gives the canary.
    pub share: Share,
    /// What others did to them, a sentence each.
    pub foreign: Vec<String>,
    /// Routes that are not there.
    pub missing: Vec<ObjectId>,
}

/// What to do about somebody else's edit of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Go no further: the numbers are not ours.
    Refuse,
    /// The way back writes over it.
    Override,
}

impl Steer<'_> {
    /// The routes, in the version of their API that the cluster serves.
    pub async fn routes(&self) -> Result<Vec<ObjectId>, TargetError> {
        let mut routes = self.router.routes(&self.pair.namespace);
        for route in &mut routes {
            if let Some(served) = self.hand.served(route, self.router.versions()).await? {
                *route = served;
            }
        }
        Ok(routes)
    }

    pub async fn look(&self) -> Result<Position, TargetError> {
        let mut position = Position::default();
        for id in self.routes().await? {
            let Some(route) = self.hand.get(&id).await? else {
                position.missing.push(id);
                continue;
            };
            let (share, foreign) = match self.router {
                Router::Nginx(nginx) => self.look_beside(nginx, &id).await?,
                Router::Gateway(_) | Router::Istio(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => {
                    let edit = record::foreign_edit(self.router, self.pair, &route);
                    let share = super::share_for_sure(self.router, self.pair, &route);
                    (share.map_err(|fault| unknown(&id, &route, &fault))?, edit)
                }
            };
            position.share = position.share.max(share);
            position.foreign.extend(foreign.map(|what| format!("{id}: {what}")));
        }
        Ok(position)
    }

    async fn look_beside(&self, nginx: &Nginx, stable: &ObjectId) -> Result<(Share, Option<String>), TargetError> {
        let Some(ours) = self.hand.own(&nginx.beside(stable)).await? else { return Ok((Share::NONE, None)) };
        let share = nginx.share(&ours);
        let wrote = record::read(&ours).map(|record| record.share);
        let changed = wrote.filter(|wrote| *wrote != share);
        let weight = nginx.weight();
        let by = record::by_at(&ours, &weight.fields());
        let told = changed.map(|wrote| format!("at `{weight}` the canary gets {share}, and piton wrote {wrote}{by}"));
        Ok((share, told))
    }

    /// Whether the routes could carry this share, before anything is done.
    pub async fn rehearse(&self, share: Share) -> Result<(), TargetError> {
        for id in self.routes().await? {
            let route = self.hand.get(&id).await?.ok_or_else(|| gone(&id))?;
            self.check_mirror(&id, &route).await?;
            for made in self.made_beside(&id) {
                self.hand.check_free(&made).await?;
            }
            match self.router {
                Router::Nginx(nginx) => nginx.clone_of(self.pair, &route, share, &self.extras).map(drop),
                Router::Gateway(_) | Router::Istio(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => {
                    super::steered(self.router, self.pair, &route, share, &self.extras, self.hand.fence).map(drop)
                }
            }
            .map_err(|fault| cannot(&id, &fault))?;
            self.check_fraction(&id, &route).await?;
        }
        Ok(())
    }

    /// Older definitions of the Gateway API have no fraction of a mirror: the server throws it away, and all is copied.
    async fn check_fraction(&self, id: &ObjectId, route: &Value) -> Result<(), TargetError> {
        let Router::Gateway(gateway) = self.router else { return Ok(()) };
        let Some(share) = self.extras.mirror.filter(|share| *share != Share::WHOLE) else { return Ok(()) };
        let new = super::steered(self.router, self.pair, route, Share::NONE, &self.extras, self.hand.fence);
        let new = new.map_err(|fault| cannot(id, &fault))?;
        if !gateway.mirrors_all(self.pair, &self.hand.would_be(id, route, &new).await?) {
            return Ok(());
        }
        Err(wrong(format!(
            "{id} cannot mirror {share} of the requests: this cluster's Gateway API knows no `fraction` of a mirror, and \
             would copy every request; bring its CRDs to 1.3 or newer, or write `mirror: 100%`"
        )))
    }

    /// The objects of our own that a route gets beside it.
    fn made_beside(&self, route: &ObjectId) -> Vec<ObjectId> {
        match self.router {
            Router::Nginx(nginx) => vec![nginx.beside(route)],
            Router::Gateway(_) | Router::Istio(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => {
                self.router.companion_ids(self.pair, route, &self.extras)
            }
        }
    }

    /// Gives the canary a share. Says what others had done to the routes.
    pub async fn set(&self, share: Share, foreign: Foreign) -> Result<Vec<String>, TargetError> {
        let mut told = Vec::new();
        for id in self.routes().await? {
            let found = match self.router {
                Router::Nginx(nginx) => self.set_beside(nginx, &id, share, foreign).await,
                Router::Gateway(_) | Router::Istio(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => {
                    self.set_on(&id, share, foreign).await
                }
            };
            told.extend(found?);
        }
        Ok(told)
    }

    async fn set_on(&self, id: &ObjectId, share: Share, foreign: Foreign) -> Result<Option<String>, TargetError> {
        for _ in 0..TRIES {
            let Some(old) = self.hand.get(id).await? else {
                return self.no_route(id, share);
            };
            self.hand.check_number(record::read(&old).map(|record| record.fence))?;
            let edit = record::foreign_edit(self.router, self.pair, &old).map(|what| format!("{id}: {what}"));
            if let (Some(edit), Foreign::Refuse) = (&edit, foreign) {
                return Err(foreign_hand(edit));
            }
            if share == Share::NONE && !self.is_on(&old) {
                return Ok(edit);
            }
            let new = match super::steered(self.router, self.pair, &old, share, &self.extras, self.hand.fence) {
                Ok(new) => new,
                // A route without our backends sends nobody to the canary.
                Err(Fault::NoStable { .. } | Fault::NoPlace { .. }) if share == Share::NONE => {
                    return Ok(Some(format!("{id} has no backend of ours; nobody comes to the canary by it")));
                }
                Err(fault) => return Err(cannot(id, &fault)),
            };
            for companion in self.router.companions(self.pair, &old, &self.extras) {
                self.hand.apply(companion).await?;
            }
            if self.hand.exchange(id, &old, &new).await? {
                return Ok(edit);
            }
        }
        Err(wrong(format!(
            "{id} was written by somebody else at every one of {TRIES} tries to give the canary {share}"
        )))
    }

    /// Whether there is anything of ours on the route, or should be.
    fn is_on(&self, route: &Value) -> bool {
        let has_users = || super::share(self.router, self.pair, route).is_ok_and(|share| share != Share::NONE);
        !record::is_none_of_ours(route) || self.extras != Extras::default() || has_users()
    }

    /// The way back needs no route: without one nobody comes to the canary.
    fn no_route(&self, id: &ObjectId, share: Share) -> Result<Option<String>, TargetError> {
        match share {
            Share::NONE => Ok(Some(format!("{id} is gone; nobody comes to the canary by it"))),
            _ => Err(gone(id)),
        }
    }

    async fn set_beside(
        &self,
        nginx: &Nginx,
        stable: &ObjectId,
        share: Share,
        foreign: Foreign,
    ) -> Result<Option<String>, TargetError> {
        let ours = nginx.beside(stable);
        let live = self.hand.own(&ours).await?;
        let Some(route) = self.hand.get(stable).await? else {
            if share == Share::NONE {
                self.hand.delete(&ours).await?;
            }
            return self.no_route(stable, share);
        };
        let (_, edit) = self.look_beside(nginx, stable).await?;
        let edit = edit.map(|what| format!("{ours}: {what}"));
        if let (Some(edit), Foreign::Refuse) = (&edit, foreign) {
            return Err(foreign_hand(edit));
        }
        if live.is_none() && share == Share::NONE && self.extras.testers.is_none() {
            return Ok(edit);
        }
        let mut new = match nginx.clone_of(self.pair, &route, share, &self.extras) {
            Ok(new) => new,
            Err(Fault::NoStable { .. }) if share == Share::NONE => {
                self.hand.delete(&ours).await?;
                return Ok(Some(format!(
                    "{stable} has no path to {}; nobody comes to the canary by it",
                    self.pair.stable
                )));
            }
            Err(fault) => return Err(cannot(stable, &fault)),
        };
        let written = Map::from_iter([("canary-weight".to_owned(), json!(share.hundredths()))]);
        record::write(&mut new, &Record { share, fence: self.hand.fence, before: Map::new(), written });
        self.hand.apply(new).await?;
        Ok(edit)
    }

    /// Takes the canary out of the routes for good.
    pub async fn clear(&self) -> Result<(), TargetError> {
        let routes = self.routes().await?;
        for id in &routes {
            match self.router {
                Router::Nginx(nginx) => self.hand.delete(&nginx.beside(id)).await?,
                Router::Gateway(_) | Router::Istio(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => {
                    self.cleared_on(id).await?;
                }
            }
        }
        // Last: any of the routes may have led to them.
        for companion in routes.iter().flat_map(|id| self.router.companion_ids(self.pair, id, &self.extras)) {
            self.hand.delete(&companion).await?;
        }
        Ok(())
    }

    async fn cleared_on(&self, id: &ObjectId) -> Result<(), TargetError> {
        for _ in 0..TRIES {
            let Some(old) = self.hand.get(id).await? else { return Ok(()) };
            self.hand.check_number(record::read(&old).map(|record| record.fence))?;
            let new = super::cleared_for_sure(self.router, self.pair, &old);
            let new = new.map_err(|fault| unknown(id, &old, &fault))?;
            if self.hand.exchange(id, &old, &new).await? {
                return Ok(());
            }
        }
        Err(wrong(format!(
            "{id} was written by somebody else at every one of {TRIES} tries to take the canary out of it"
        )))
    }

    /// A mirror that the gateway does not know would turn every request away: its class says what it can.
    async fn check_mirror(&self, id: &ObjectId, route: &Value) -> Result<(), TargetError> {
        let (Router::Gateway(gateway), Some(share)) = (self.router, self.extras.mirror) else { return Ok(()) };
        for place in gateway.parents(route, &self.pair.namespace) {
            // Who may not read it, or finds no word in it, knows nothing against it.
            let Ok(Some(parent)) = self.hand.get(&place).await else { continue };
            let Some(class) = parent["spec"]["gatewayClassName"].as_str().map(gateway::class) else { continue };
            let Ok(Some(object)) = self.hand.get(&class).await else { continue };
            if let Some(feature) = gateway.lacks_feature(&object, share) {
                let advice = "take `mirror` out of the `canary`, or use a gateway that can";
                return Err(wrong(format!(
                    "{id} cannot mirror requests: {class} does not have {feature} among its features, and would turn \
                     every request away; {advice}"
                )));
            }
        }
        Ok(())
    }
}

fn gone(id: &ObjectId) -> TargetError {
    wrong(format!(
        "{id} is not there, so nobody can be led to the canary; the router of the pipeline's `canary` names it"
    ))
}

fn cannot(id: &ObjectId, fault: &Fault) -> TargetError {
    wrong(format!("{id}: {fault}"))
}

/// We led users by this route, and nobody knows what it says today.
fn unknown(id: &ObjectId, route: &Value, fault: &Fault) -> TargetError {
    let by = record::by(route);
    wrong(format!(
        "{id}: piton led users to the canary by it, and cannot read who gets how much: {fault}{by}; mend it, or take the \
         canary's backend out of it"
    ))
}

fn foreign_hand(edit: &str) -> TargetError {
    wrong(format!(
        "{edit}; piton goes no further with numbers that are not its own: put them back, or `piton rollback`"
    ))
}
