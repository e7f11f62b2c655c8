//! Who we are among the runners: chance tells us apart, and the process lets a runner on the same machine see that a
//! holder of the lease has died.

use std::fs;

use crate::{
    engine::Holder,
    model::{Actor, Lease},
};

/// A new identity for this run of the program.
pub fn holder(actor: Actor) -> Result<Holder, getrandom::Error> {
    let mut bytes = [0_u8; 12];
    getrandom::fill(&mut bytes)?;
    let chance: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let pid = std::process::id();
    let nonce = match (home(), started(pid)) {
        (Some(home), Some(start)) => format!("{home}.{pid}.{start}.{chance}"),
        (None, _) | (_, None) => chance,
    };
    Ok(Holder { actor, nonce })
}

/// Whether the holder ran on this machine and runs no more. Of another machine nothing is known: no.
pub fn has_ended(lease: &Lease) -> bool {
    let mut parts = lease.nonce.split('.');
    let (Some(there), Some(pid), Some(start), Some(_)) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Ok(pid) = pid.parse::<u32>() else { return false };
    home().as_deref() == Some(there) && started(pid).as_deref() != Some(start)
}

/// One boot of one machine, and the numbering of processes that we see there: containers have one of their own.
fn home() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let numbering = fs::read_link("/proc/self/ns/pid").ok()?;
    let text = format!("{} {}", boot.trim(), numbering.display());
    let hash = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).ok()?;
    Some(hash.to_string().chars().take(12).collect())
}

/// When a process started, in the kernel's ticks; `None` when there is none, or a dead one that nobody has buried.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let alive = fields.next().is_some_and(|state| state != "Z" && state != "X");
    alive.then(|| fields.nth(18).map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stamp;

    fn lease(nonce: String) -> Lease {
        Lease { holder: Actor::new("ann").expect("a name"), nonce, fence: 1, until: Stamp(0) }
    }

    #[test]
    fn the_living_the_dead_and_strangers() {
        let me = holder(Actor::new("ann").expect("a name")).expect("chance");
        assert!(!has_ended(&lease(me.nonce.clone())));
        let mut parts: Vec<&str> = me.nonce.split('.').collect();
        parts[2] = "1";
        assert!(has_ended(&lease(parts.join("."))), "the same number, another process");
        parts[0] = "elsewhere";
        assert!(!has_ended(&lease(parts.join("."))), "of another machine nothing is known");
        assert!(!has_ended(&lease("0123456789ab".to_owned())));
    }
}
