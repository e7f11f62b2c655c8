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
    home().as_deref() == Some(there) && is_over(&look(pid), start)
}

/// Whether the process that began then is gone, by what is there under its number.
fn is_over(process: &Process, began: &str) -> bool {
    match process {
        Process::Runs { since } => since != began,
        Process::Gone => true,
        // Who cannot be seen may be alive, and then two would act.
        Process::Hidden => false,
    }
}

/// One boot of one machine, and the numbering of processes that we see there: containers have one of their own.
fn home() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let numbering = fs::read_link("/proc/self/ns/pid").ok()?;
    let text = format!("{} {}", boot.trim(), numbering.display());
    let hash = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).ok()?;
    Some(hash.to_string().chars().take(12).collect())
}

/// What is there under a number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Process {
    /// Since when, in the kernel's ticks.
    Runs { since: String },
    /// There is none, or a dead one that nobody has buried.
    Gone,
    /// We may not see it, or could not look.
    Hidden,
}

fn started(pid: u32) -> Option<String> {
    match look(pid) {
        Process::Runs { since } => Some(since),
        Process::Gone | Process::Hidden => None,
    }
}

fn look(pid: u32) -> Process {
    judge(fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref(), || is_nobody(pid))
}

/// What the kernel says of a process, where it says anything; where not, only its own word that there is none counts.
fn judge(stat: Option<&str>, is_nobody: impl FnOnce() -> bool) -> Process {
    let Some(stat) = stat else { return if is_nobody() { Process::Gone } else { Process::Hidden } };
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    match (fields.next(), fields.nth(18)) {
        (Some("Z" | "X"), _) => Process::Gone,
        (Some(_), Some(since)) => Process::Runs { since: since.to_owned() },
        (_, None) | (None, _) => Process::Hidden,
    }
}

/// Whether the kernel says that there is no process with this number. `/proc` may hide those of others, or not be
/// readable for want of file descriptors.
fn is_nobody(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return true };
    pid > 0 && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH)
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

    #[test]
    fn who_cannot_be_seen_has_not_ended() {
        let stat = |state: &str| format!("7 (a) b) {state} {}4242 0 0", "0 ".repeat(18));
        let of = |stat: Option<&str>, is_nobody: bool| is_over(&judge(stat, || is_nobody), "4242");
        assert!(!of(Some(&stat("S")), false), "it runs");
        assert!(!of(None, false), "its page cannot be read, and the kernel knows it");
        assert!(!of(Some(""), false), "half a page");
        assert!(of(None, true), "there is none");
        assert!(of(Some(&stat("Z")), false), "dead, and not buried");
        assert!(of(Some(&stat("S").replace("4242", "4243")), false), "another one with its number");
        assert!(!is_nobody(std::process::id()) && !is_nobody(1), "ours, and one of somebody else");
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        child.wait().expect("it ends");
        assert!(is_nobody(child.id()), "it has ended and was buried");
    }
}
