//! What a process takes of the machine, and who asks the API server how often.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    /// Of the programs that it ran and that have ended.
    pub children_cpu: Duration,
    pub threads: u64,
    pub resident_bytes: u64,
    pub at: Instant,
}

/// Of a process.
pub fn of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: [usize; 2]| at.iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum::<u64>();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()?;
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / per_second as u64);
    let (cpu, children_cpu) = (time(ticks([11, 12])), time(ticks([13, 14])));
    Some(Usage { cpu, children_cpu, threads, resident_bytes: kib * 1024, at: Instant::now() })
}

/// The API server's own record of requests.
pub struct Requests {
    log: PathBuf,
}

/// Only that a request came, and who sent it.
pub const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete, Panic]
rules: [{ level: Metadata }]
";

/// The requests of a tool by the names under which it speaks.
pub fn own(requests: &BTreeMap<String, usize>, agents: &[&str]) -> usize {
    let own = |agent: &&String| agents.iter().any(|own| agent.starts_with(own));
    requests.keys().filter(own).map(|agent| requests[agent]).sum()
}

impl Requests {
    pub fn in_log(log: &Path) -> Requests {
        Requests { log: log.to_owned() }
    }

    /// Where the record ends at this moment.
    pub fn mark(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |meta| meta.len())
    }

    /// Requests since the mark, by the program that sent them.
    pub fn since(&self, mark: u64) -> BTreeMap<String, usize> {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(&self.log) {
            let _ = file.seek(SeekFrom::Start(mark));
            let _ = file.read_to_string(&mut text);
        }
        let mut counted = BTreeMap::new();
        for line in text.lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
            let agent = event["userAgent"].as_str().unwrap_or("none");
            *counted.entry(agent.split(['/', ' ']).next().unwrap_or(agent).to_owned()).or_default() += 1;
        }
        counted
    }
}
