use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{GateName, Span, Stamp};

/// What one look of one gate saw; recorded, and judged later by pure code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub gate: GateName,
    pub at: Stamp,
    /// How long the look took.
    pub took: Span,
    pub saw: Saw,
}

/// *Cannot see* is not *sick*: `Blind` when the look failed, `Bad` when it succeeded and was bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Saw {
    /// As expected; the note says what was seen.
    Good(String),
    /// Not as expected; the note says what was seen and what was expected.
    Bad(String),
    /// The look itself failed: no connection to the *source of the reading*, no data, wrong credentials.
    Blind(String),
    /// Counters since some start, per arm; judged by their growth.
    Counts(Counts),
}

/// Upper bounds of the latency buckets in milliseconds; one more bucket holds what is slower.
pub const LATENCY_BOUNDS_MS: [u64; 16] = [1, 2, 5, 10, 20, 35, 50, 75, 100, 200, 350, 500, 1_000, 2_500, 5_000, 10_000];

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub arms: BTreeMap<Arm, ArmCounts>,
}

/// Which side of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    Stable,
    Candidate,
}

impl Arm {
    pub const ALL: [Arm; 2] = [Arm::Stable, Arm::Candidate];

    pub fn name(self) -> &'static str {
        match self {
            Arm::Stable => "stable",
            Arm::Candidate => "candidate",
        }
    }
}

/// Requests by outcome class, and their latencies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmCounts {
    pub ok: u64,
    /// 5xx, broken connections, time-outs.
    pub failed: u64,
    /// 429 and other refusals that are no fault of the version.
    pub rejected: u64,
    /// Other 4xx.
    pub client: u64,
    /// One count per bucket of [`LATENCY_BOUNDS_MS`], and a last one; empty when unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<u64>,
}

impl ArmCounts {
    pub fn total(&self) -> u64 {
        self.ok + self.failed + self.rejected + self.client
    }

    /// What was added since `base`. A counter that is lower than before was reset: all of it is new.
    pub fn since(&self, base: &ArmCounts) -> ArmCounts {
        if self.total() < base.total() {
            return self.clone();
        }
        let latency = self.latency.iter().enumerate();
        ArmCounts {
            ok: self.ok.saturating_sub(base.ok),
            failed: self.failed.saturating_sub(base.failed),
            rejected: self.rejected.saturating_sub(base.rejected),
            client: self.client.saturating_sub(base.client),
            latency: latency.map(|(i, n)| n.saturating_sub(base.latency.get(i).copied().unwrap_or(0))).collect(),
        }
    }

    /// The upper bound in milliseconds of the bucket that holds the quantile (0 to 1); `None` without data,
    /// `u64::MAX` beyond the last bound.
    pub fn latency_quantile_ms(&self, quantile: f64) -> Option<u64> {
        let total: u64 = self.latency.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = (quantile * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (i, count) in self.latency.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(LATENCY_BOUNDS_MS.get(i).copied().unwrap_or(u64::MAX));
            }
        }
        Some(u64::MAX)
    }
}

/// What a gate says. Only positive evidence is a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass(String),
    Fail(String),
    /// Not enough seen yet; says what is missing.
    Undecided(String),
    /// Could not look; says why.
    Blind(String),
}

impl Verdict {
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Pass(_) => "pass",
            Verdict::Fail(_) => "fail",
            Verdict::Undecided(_) => "undecided",
            Verdict::Blind(_) => "blind",
        }
    }

    pub fn why(&self) -> &str {
        match self {
            Verdict::Pass(why) | Verdict::Fail(why) | Verdict::Undecided(why) | Verdict::Blind(why) => why,
        }
    }
}
