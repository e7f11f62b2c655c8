//! Processes as `/proc` shows them: who is in a group, who carries our mark, what they use.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, SysconfVar, sysconf},
};
use serde::{Deserialize, Serialize};

/// The environment variable by which every process that comes from one of our instances is known.
pub const MARK: &str = "PITON_INSTANCE";

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks from the machine's start to the process's.
    pub started: u64,
}

/// One line of `/proc/PID/stat`, as far as it matters here.
#[derive(Debug, Clone, Copy)]
struct Stat {
    pid: i32,
    zombie: bool,
    group: i32,
    /// Own and waited-for children's, user and system.
    cpu_ticks: u64,
    threads: u64,
    started: u64,
    resident_pages: u64,
}

/// A killed process is gone as soon as the kernel gets to it.
const SCAN_PAUSE: Duration = Duration::from_millis(5);

/// What a process group uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub threads: u64,
    pub open_files: u64,
    pub processes: u64,
}

impl Identity {
    /// The process with this number that runs at this moment.
    pub fn of(pid: i32) -> Option<Identity> {
        let stat = stat(pid).filter(|stat| !stat.zombie)?;
        Some(Identity { pid, started: stat.started })
    }

    pub fn is_running(self) -> bool {
        Identity::of(self.pid) == Some(self)
    }
}

/// Whether anything of the group still runs; a zombie does not.
pub fn group_runs(group: i32) -> bool {
    all().any(|stat| stat.group == group && !stat.zombie)
}

/// Sends a signal to a whole group. A group that is gone is no fault.
pub fn signal_group(group: i32, signal: Signal) {
    // Group 0 would be our own, 1 is not ours in any case.
    if group > 1 {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// Sends a signal to one process. One that is gone is no fault.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Kills every process whose mark `wanted` says yes to, also those that left their group, and waits until they are
/// gone. Says how many there were.
pub fn kill_marked(wanted: impl Fn(&str) -> bool, within: Duration) -> usize {
    let deadline = Instant::now() + within;
    let mut killed = 0;
    loop {
        let marked: Vec<i32> = marked().into_iter().filter(|(_, mark)| wanted(mark)).map(|(pid, _)| pid).collect();
        if marked.is_empty() || Instant::now() > deadline {
            return killed;
        }
        killed = killed.max(marked.len());
        for pid in marked {
            signal(pid, Signal::SIGKILL);
        }
        std::thread::sleep(SCAN_PAUSE);
    }
}

/// Running processes that carry a mark, with it.
pub fn marked() -> Vec<(i32, String)> {
    let mark_of = |pid: i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let text = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(MARK.as_bytes()))?;
        Some((pid, String::from_utf8_lossy(text.strip_prefix(b"=")?).into_owned()))
    };
    all().filter(|stat| !stat.zombie).filter_map(|stat| mark_of(stat.pid)).collect()
}

/// What each of the groups uses; one walk through `/proc` for all of them.
pub fn usage(groups: &[i32]) -> BTreeMap<i32, Usage> {
    let mut used: BTreeMap<i32, Usage> = groups.iter().map(|group| (*group, Usage::default())).collect();
    let ticks_per_second = system_number(SysconfVar::CLK_TCK, 100) as f64;
    let page_bytes = system_number(SysconfVar::PAGE_SIZE, 4096);
    for stat in all().filter(|stat| !stat.zombie) {
        let Some(usage) = used.get_mut(&stat.group) else { continue };
        usage.cpu_seconds += stat.cpu_ticks as f64 / ticks_per_second;
        usage.resident_bytes += stat.resident_pages * page_bytes;
        usage.threads += stat.threads;
        usage.open_files += fs::read_dir(format!("/proc/{}/fd", stat.pid)).map_or(0, |files| files.count() as u64);
        usage.processes += 1;
    }
    used
}

fn system_number(variable: SysconfVar, usual: u64) -> u64 {
    sysconf(variable).ok().flatten().and_then(|number| u64::try_from(number).ok()).unwrap_or(usual)
}

fn all() -> impl Iterator<Item = Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?))
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name in parentheses may hold anything, parentheses and spaces too: what follows the last one is numbers.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        zombie: matches!(*fields.first()?, "Z" | "X" | "x"),
        group: fields.get(2)?.parse().ok()?,
        cpu_ticks: (14..=17).filter_map(number).sum(),
        threads: number(20)?,
        started: number(22)?,
        resident_pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_see_ourselves() {
        let ours = i32::try_from(std::process::id()).expect("a pid fits");
        let identity = Identity::of(ours).expect("we run");
        assert!(identity.is_running());
        assert!(!Identity { started: identity.started + 1, ..identity }.is_running());
        let group = stat(ours).expect("we run").group;
        let used = usage(&[group])[&group];
        assert!(used.resident_bytes > 0 && used.threads > 0 && used.open_files > 0, "{used:?}");
        assert!(marked().iter().all(|(pid, _)| *pid != ours));
    }
}
