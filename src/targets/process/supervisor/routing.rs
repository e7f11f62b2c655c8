//! Which arm a request goes to. One value, changed as a whole.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{HeaderMap, header::COOKIE};

use super::{
    meters::{Tally, Whose},
    unit::Unit,
};
use crate::{
    model::{Arm, TreeId},
    targets::process::config::Config,
};

/// The header that tells users' answers which arm they came from, and with which a request can ask for one.
pub const ARM_HEADER: &str = "x-piton-arm";
/// The header that names the release that answered.
pub const RELEASE_HEADER: &str = "x-piton-release";

const WHOLE: u64 = 10_000;

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    Users,
    /// Only the release on trial.
    Candidate,
    Stable,
}

/// The services of one release, by route.
pub struct ArmRoutes {
    pub arm: Arm,
    pub tree: TreeId,
    /// The longest prefix first.
    routes: Vec<Route>,
}

pub struct Route {
    prefix: String,
    pub unit: Arc<Unit>,
    pub tally: Arc<Tally>,
}

#[derive(Default)]
pub struct Routing {
    pub stable: Option<ArmRoutes>,
    pub candidate: Option<ArmRoutes>,
    /// The candidate's share in hundredths of a percent.
    pub share: u16,
    /// The arm that the release on trial is on; its last step is on `stable`.
    pub trial: Option<Arm>,
    pub sticky: Option<String>,
    counters: BTreeMap<String, AtomicU64>,
}

/// Where a request goes.
pub struct Choice<'a> {
    pub release: &'a ArmRoutes,
    pub route: &'a Route,
    pub whose: Whose,
    /// A cookie to send along, so that the user stays there.
    pub cookie: Option<String>,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoChoice {
    NothingThere,
    NoRoute,
}

impl ArmRoutes {
    pub fn new(
        arm: Arm,
        tree: TreeId,
        config: &Config,
        parts: impl Fn(&str) -> Option<(Arc<Unit>, Arc<Tally>)>,
    ) -> ArmRoutes {
        let routed = config.services.iter().filter_map(|(name, service)| Some((name, service.route.as_ref()?)));
        let mut routes: Vec<Route> = routed
            .filter_map(|(name, route)| {
                let (unit, tally) = parts(name)?;
                Some(Route { prefix: route.trim_end_matches('/').to_owned(), unit, tally })
            })
            .collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        ArmRoutes { arm, tree, routes }
    }

    fn route(&self, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| {
            let rest = path.strip_prefix(route.prefix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || route.prefix.is_empty())
        })
    }
}

impl Routing {
    /// Counting begins anew with every change, so that the share holds exactly from the first request on.
    pub fn new(stable: Option<ArmRoutes>, candidate: Option<ArmRoutes>, share: u16) -> Routing {
        let routes = stable.iter().flat_map(|stable| &stable.routes);
        let counters = routes.map(|route| (route.prefix.clone(), AtomicU64::new(0))).collect();
        Routing { stable, candidate, share, counters, ..Routing::default() }
    }

    /// What each arm gets, in hundredths of a percent.
    pub fn weights(&self) -> BTreeMap<Arm, u16> {
        let whole = WHOLE as u16;
        let candidate = match (&self.stable, &self.candidate) {
            (_, None) => 0,
            // There is nobody else to serve the rest.
            (None, Some(_)) if self.share > 0 => whole,
            (_, Some(_)) => self.share,
        };
        let stable = if self.stable.is_some() { whole - candidate } else { 0 };
        BTreeMap::from([(Arm::Stable, stable), (Arm::Candidate, candidate)])
    }

    /// Chooses the arm and the service; `visitors` counts users without a cookie.
    pub fn choose(
        &self,
        door: Door,
        path: &str,
        headers: &HeaderMap,
        visitors: &AtomicU64,
    ) -> Result<Choice<'_>, NoChoice> {
        let asked = headers.get(ARM_HEADER).and_then(|value| value.to_str().ok());
        let forced = match (door, asked) {
            (Door::Candidate, _) | (Door::Users, Some("candidate")) => Some(self.trial),
            (Door::Stable, _) | (Door::Users, Some("stable")) => Some(Some(Arm::Stable)),
            (Door::Users, _) => None,
        };
        if let Some(arm) = forced {
            return self.choice(arm, path, Whose::Probe, None);
        }
        let (arm, cookie) = self.users_arm(path, headers, visitors);
        self.choice(arm, path, Whose::User, cookie)
    }

    fn choice(
        &self,
        arm: Option<Arm>,
        path: &str,
        whose: Whose,
        cookie: Option<String>,
    ) -> Result<Choice<'_>, NoChoice> {
        let release = match arm {
            Some(Arm::Stable) => self.stable.as_ref(),
            Some(Arm::Candidate) => self.candidate.as_ref(),
            None => None,
        };
        let release = release.ok_or(NoChoice::NothingThere)?;
        let route = release.route(path).ok_or(NoChoice::NoRoute)?;
        Ok(Choice { release, route, whose, cookie })
    }

    fn users_arm(&self, path: &str, headers: &HeaderMap, visitors: &AtomicU64) -> (Option<Arm>, Option<String>) {
        let share = match (&self.stable, &self.candidate) {
            (None, None) => return (None, None),
            (Some(_), None) => return (Some(Arm::Stable), None),
            (None, Some(_)) => return ((self.share > 0).then_some(Arm::Candidate), None),
            (Some(_), Some(_)) => u64::from(self.share),
        };
        let arm = |candidate: bool| Some(if candidate { Arm::Candidate } else { Arm::Stable });
        match &self.sticky {
            None => (arm(is_turn(self.count(path), share)), None),
            Some(name) => match bucket_of(headers, name) {
                Some(bucket) => (arm(bucket < share), None),
                None => {
                    let bucket = bucket_for(visitors.fetch_add(1, Ordering::Relaxed));
                    let cookie = format!("{name}={bucket}; Path=/; HttpOnly; SameSite=Lax");
                    (arm(bucket < share), Some(cookie))
                }
            },
        }
    }

    /// How many requests came on this route before.
    fn count(&self, path: &str) -> u64 {
        let route = self.stable.as_ref().and_then(|stable| stable.route(path));
        let counter = route.and_then(|route| self.counters.get(&route.prefix));
        counter.map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed))
    }
}

/// Whether request number `n` (from 0) is one of the candidate's. Of any 10 000 in a row exactly `share` are, as
/// evenly spaced as can be: at 10 % every tenth.
fn is_turn(n: u64, share: u64) -> bool {
    let n = n % WHOLE;
    (n + 1) * share / WHOLE > n * share / WHOLE
}

/// A user's place between 0 and 9 999. Users below the share are on the candidate: a growing share only adds users,
/// and a share of nothing takes all of them back.
fn bucket_for(visitor: u64) -> u64 {
    // About the golden section of 10 000, and without a common factor with it: each place comes once, well spread.
    visitor % WHOLE * 6_181 % WHOLE
}

fn bucket_of(headers: &HeaderMap, name: &str) -> Option<u64> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
    value.parse().ok().filter(|bucket| *bucket < WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_and_even() {
        for share in [0, 1, 50, 333, 1_000, 5_000, 9_999, 10_000] {
            assert_eq!((0..WHOLE).filter(|n| is_turn(*n, share)).count() as u64, share);
        }
        let tenth: Vec<u64> = (0..40).filter(|n| is_turn(*n, 1_000)).collect();
        assert_eq!(tenth, [9, 19, 29, 39]);
        assert!((WHOLE - 5..WHOLE + 5).filter(|n| is_turn(*n, 1_000)).count() == 1);
    }

    #[test]
    fn visitors_are_spread_over_all_places() {
        let mut places: Vec<u64> = (0..WHOLE).map(bucket_for).collect();
        assert!((8..=12).contains(&places[..100].iter().filter(|place| **place < 1_000).count()));
        places.sort_unstable();
        assert!(places.iter().enumerate().all(|(i, place)| i as u64 == *place));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; seat=77".parse().expect("a header"));
        assert_eq!(bucket_of(&headers, "seat"), Some(77));
        assert_eq!(bucket_of(&headers, "a"), Some(1));
        headers.insert(COOKIE, "seat=10000".parse().expect("a header"));
        assert_eq!(bucket_of(&headers, "seat"), None);
    }
}
