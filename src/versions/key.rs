use std::{cmp::Ordering, sync::LazyLock};

use regex::{Captures, Regex};

use super::{StepSize, is_commit, is_digits_commit, regex};

/// A version taken apart, for all the grammars that share the shape *numbers, then what kind of build it is*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key<'a> {
    epoch: u64,
    /// Without trailing zeros: `4.1` is `4.1.0`.
    release: Vec<u64>,
    /// alpha, beta, release candidate, and its numbers.
    pre: Option<(Pre, Vec<u64>)>,
    /// Commits or packagings since the release.
    since: Option<u64>,
    /// Commits on the way to the release.
    dev: Option<u64>,
    counted: bool,
    commit: Option<&'a str>,
    /// `-alpine3.20` is `-alpine#.#` and its numbers. Versions of different variants do not compare.
    variant: (String, Vec<u64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    Alpha,
    Beta,
    Candidate,
}

impl<'a> Key<'a> {
    pub(super) fn of(text: &'a str) -> Option<Key<'a>> {
        static NUMBERS: LazyLock<Regex> = LazyLock::new(|| regex(r"^[vV]?(?:([0-9]+)!)?([0-9]+(?:\.[0-9]+)*)"));
        if is_commit(text) || is_digits_commit(text) {
            return None;
        }
        let found = NUMBERS.captures(text)?;
        let epoch = found.get(1).map_or(Some(0), |digits| digits.as_str().parse().ok())?;
        let mut release = numbers(&found[2])?;
        while release.len() > 1 && release.last() == Some(&0) {
            release.pop();
        }
        let mut key = Key {
            epoch,
            release,
            pre: None,
            since: None,
            dev: None,
            counted: false,
            commit: None,
            variant: (String::new(), Vec::new()),
        };
        key.read_rest(&text[found[0].len()..])?;
        Some(key)
    }

    fn read_rest(&mut self, rest: &'a str) -> Option<()> {
        static PRE: LazyLock<Regex> = LazyLock::new(|| {
            regex(r"^(?i)[-._]?(alpha|beta|rc|preview|pre|a|b|c)[-._]?([0-9]+(?:\.[0-9]+)*)?(?:$|[^a-z0-9])")
        });
        static POST: LazyLock<Regex> =
            LazyLock::new(|| regex(r"^(?i)[-._]?(?:post|rev|r)[-._]?([0-9]+)(?:$|[^a-z0-9])"));
        static DEV: LazyLock<Regex> =
            LazyLock::new(|| regex(r"^(?i)[-._]?(?:0\.dev\.git\.|dev[-._]?)([0-9]+)(?:$|[^a-z0-9])"));
        static SINCE: LazyLock<Regex> =
            LazyLock::new(|| regex(r"^[-.](?:(?:n|git\.)([0-9]+)[.-]h|([0-9]{1,6})[.-]g)[0-9a-f]{4,40}"));
        let mut rest = rest;
        if let Some(found) = PRE.captures(rest) {
            let kind = match &*found[1].to_ascii_lowercase() {
                "alpha" | "a" => Pre::Alpha,
                "beta" | "b" => Pre::Beta,
                _ => Pre::Candidate,
            };
            let digits = found.get(2).map_or(Some(Vec::new()), |digits| numbers(digits.as_str()))?;
            self.pre = Some((kind, digits));
            rest = &rest[end_of(&found, 2, 1)..];
        }
        if let Some(found) = POST.captures(rest) {
            self.since = Some(found[1].parse().ok()?);
            rest = &rest[end_of(&found, 1, 1)..];
        }
        if let Some(found) = DEV.captures(rest) {
            self.dev = Some(found[1].parse().ok()?);
            self.counted = true;
            rest = &rest[end_of(&found, 1, 1)..];
        } else if let Some(found) = SINCE.captures(rest) {
            let digits = found.get(1).or(found.get(2))?;
            self.since = Some(digits.as_str().parse().ok()?);
            self.counted = true;
            rest = &rest[digits.end()..];
        }
        self.read_end(rest)
    }

    /// What is left is a commit or the name of a variant.
    fn read_end(&mut self, rest: &'a str) -> Option<()> {
        static MARKED: LazyLock<Regex> = LazyLock::new(|| regex(r"^[-.+_][gh]([0-9a-f]{4,40})$"));
        if rest.is_empty() {
            return Some(());
        }
        if let Some(found) = MARKED.captures(rest) {
            self.commit = found.get(1).map(|commit| commit.as_str());
            return Some(());
        }
        let tail = rest.strip_prefix(['-', '.', '+', '_'])?;
        if is_commit(tail) || is_digits_commit(tail) {
            self.commit = Some(tail);
            return Some(());
        }
        static DIGITS: LazyLock<Regex> = LazyLock::new(|| regex("[0-9]+"));
        let digits: Option<Vec<u64>> = DIGITS.find_iter(rest).map(|run| run.as_str().parse().ok()).collect();
        self.variant = (DIGITS.replace_all(rest, "#").into_owned(), digits?);
        Some(())
    }

    pub(super) fn has_no_variant(&self) -> bool {
        self.variant.0.is_empty()
    }

    pub(super) fn compare(&self, other: &Key<'_>) -> Option<Ordering> {
        if self.variant.0 != other.variant.0 {
            return None;
        }
        let numbers = self.epoch.cmp(&other.epoch).then_with(|| self.release.cmp(&other.release));
        if numbers.is_ne() {
            return Some(numbers);
        }
        // A commit without a counter stands somewhere around its release, no one knows where.
        let lost = |key: &Key<'_>| key.commit.is_some() && !key.counted;
        if lost(self) || lost(other) {
            return None;
        }
        let stages = self.stage().cmp(&other.stage()).then_with(|| self.variant.1.cmp(&other.variant.1));
        match stages {
            Ordering::Equal if self.commit != other.commit => None,
            ordering => Some(ordering),
        }
    }

    /// As PEP 440 orders builds of one release: dev, pre-releases, the release, what came since.
    fn stage(&self) -> impl Ord {
        let place = match (&self.pre, self.since, self.dev) {
            (None, None, Some(_)) => 0,
            (Some(_), _, _) => 1,
            (None, _, _) => 2,
        };
        (place, self.pre.clone(), self.since, self.dev.is_none(), self.dev.unwrap_or(0))
    }

    /// How big the step to a newer version is.
    pub(super) fn size(&self, newer: &Key<'_>) -> StepSize {
        let at = |numbers: &[u64], place: usize| numbers.get(place).copied().unwrap_or(0);
        let differs = |place: usize| at(&self.release, place) != at(&newer.release, place);
        let longest = self.release.len().max(newer.release.len());
        match (0..longest).find(|place| differs(*place)) {
            _ if self.epoch != newer.epoch => StepSize::Major,
            Some(0) => StepSize::Major,
            Some(1) => StepSize::Minor,
            Some(_) => StepSize::Patch,
            None if newer.counted || newer.pre.is_some() => StepSize::Dev,
            None => StepSize::Patch,
        }
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split('.').map(|digits| digits.parse().ok()).collect()
}

/// Where the last group that took part ends.
fn end_of(found: &Captures<'_>, group: usize, otherwise: usize) -> usize {
    found.get(group).or(found.get(otherwise)).map_or(0, |group| group.end())
}

/// The commit counter of a version, and what it may be compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Counter {
    /// Counts all commits of the repository, whatever the release before it says.
    Total(u64),
    /// Counts from a release.
    Since(Vec<u64>, u64),
    /// The only number in the text, and the text around it.
    Only(String, u64),
}

impl Counter {
    pub(super) fn of(text: &str) -> Option<Counter> {
        static TOTAL: LazyLock<Regex> = LazyLock::new(|| regex(r"[-.]git\.([0-9]+)\.h[0-9a-f]{4,40}$"));
        static ONLY: LazyLock<Regex> = LazyLock::new(|| regex(r"^([^0-9]*)([0-9]+)([^0-9]*)$"));
        if let Some(found) = TOTAL.captures(text) {
            return found[1].parse().ok().map(Counter::Total);
        }
        if let Some(found) = ONLY.captures(text).filter(|_| !is_commit(text)) {
            return found[2].parse().ok().map(|count| Counter::Only(format!("{}#{}", &found[1], &found[3]), count));
        }
        let key = Key::of(text).filter(|key| key.counted)?;
        let count = key.dev.or(key.since)?;
        Some(Counter::Since(key.release, count))
    }

    pub(super) fn compare(&self, other: &Counter) -> Option<Ordering> {
        let ordering = match (self, other) {
            (Counter::Total(a), Counter::Total(b)) => a.cmp(b),
            (Counter::Since(a, m), Counter::Since(b, n)) => a.cmp(b).then(m.cmp(n)),
            (Counter::Only(a, m), Counter::Only(b, n)) if a == b => m.cmp(n),
            _ => return None,
        };
        // Two texts with one counter are two branches.
        Some(ordering).filter(|ordering| ordering.is_ne())
    }
}
