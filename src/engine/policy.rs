use super::State;
use crate::model::{Actor, ComponentName, Freeze, Lease, Pin, Quarantine, Quarantined, Stamp, Version, What};

/// Who is acting: a person's name or a job's, and a chance number that tells two runs of theirs apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub actor: Actor,
    pub nonce: String,
}

/// Another runner acts here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} acts on this environment until {}", .0.holder, .0.until)]
pub struct LeaseTaken(pub Lease);

impl State {
    pub fn pin(&self, component: &ComponentName, now: Stamp) -> Option<&Pin> {
        self.pins.get(component).filter(|pin| pin.in_force(now))
    }

    /// The quarantine that keeps this version of the component out.
    pub fn quarantine(&self, component: &ComponentName, version: &Version, now: Stamp) -> Option<&Quarantine> {
        self.quarantines.iter().filter(|q| q.in_force(now)).find(|q| match &q.what {
            Quarantined::Version { component: c, version: v } => c == component && v == version,
            Quarantined::Content { .. } => false,
        })
    }

    pub fn frozen(&self, now: Stamp) -> Option<&Freeze> {
        self.freeze.as_ref().filter(|freeze| freeze.in_force(now))
    }

    pub fn holds_lease(&self, me: &Holder, now: Stamp) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.nonce == me.nonce && lease.is_live(now))
    }

    /// The event with which `me` takes or renews the lease; nothing when it is ours and not near its end. `seize` takes
    /// it from whoever has it, which only the way back may do.
    pub fn claim(&self, me: &Holder, now: Stamp, seize: bool) -> Result<Option<What>, LeaseTaken> {
        let ours = self.lease.as_ref().filter(|lease| lease.nonce == me.nonce && lease.is_live(now));
        if let Some(lease) = ours {
            let renew_from = lease.until.0 - i64::try_from(Lease::LENGTH.0 / 2).unwrap_or(0);
            if now.0 < renew_from {
                return Ok(None);
            }
            return Ok(Some(leased(me, now, lease.fence)));
        }
        match self.lease.as_ref().filter(|lease| lease.is_live(now)) {
            Some(lease) if !seize => Err(LeaseTaken(lease.clone())),
            Some(_) | None => Ok(Some(leased(me, now, self.fence + 1))),
        }
    }
}

fn leased(me: &Holder, now: Stamp, fence: u64) -> What {
    let lease = Lease { holder: me.actor.clone(), nonce: me.nonce.clone(), fence, until: now + Lease::LENGTH };
    What::Leased { lease }
}
