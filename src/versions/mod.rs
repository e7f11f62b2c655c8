#![doc = include_str!("README.md")]

mod key;

use std::{cmp::Ordering, sync::LazyLock};

use regex::Regex;

use crate::model::Version;
use key::{Counter, Key};

/// How the versions of a component are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By what the text looks like.
    #[default]
    Auto,
    /// By the rules of SemVer 2, read leniently: a leading `v`, missing or zero-padded numbers.
    Semver,
    /// By the rules of PEP 440; a `-` before the local part is read as the `+` that image tags cannot hold.
    Pep440,
    /// Chartpress: the commit counter decides.
    Count,
    /// By the date in the text, then by a number behind it.
    Date,
    /// No order at all.
    Opaque,
}

/// How big the step from one version to another is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepSize {
    /// The same version.
    Same,
    /// From one commit, snapshot or pre-release to the next.
    Dev,
    Patch,
    Minor,
    Major,
    /// There is no telling.
    Opaque,
    Downgrade,
}

/// Which of two versions is newer; `None` where that cannot be told.
pub fn compare(order: Order, a: &Version, b: &Version) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    let (a, b) = (a.as_str(), b.as_str());
    match order {
        Order::Auto => match (date_only(a), date_only(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            (Some(_), None) | (None, Some(_)) => None,
            (None, None) => Key::of(a)?.compare(&Key::of(b)?),
        },
        Order::Semver => compare_semver(a, b),
        Order::Pep440 => pep440(a)?.compare(&pep440(b)?),
        Order::Count => Counter::of(a)?.compare(&Counter::of(b)?),
        Order::Date => unequal(date(a)?.cmp(&date(b)?)),
        Order::Opaque => None,
    }
}

/// How big the step from `from` to `to` is.
pub fn step(order: Order, from: &Version, to: &Version) -> StepSize {
    match compare(order, from, to) {
        None => StepSize::Opaque,
        Some(Ordering::Equal) => StepSize::Same,
        Some(Ordering::Greater) => StepSize::Downgrade,
        Some(Ordering::Less) => match order {
            // A date or a counter orders snapshots of a moving line; it says nothing about their size.
            Order::Count | Order::Date | Order::Opaque => StepSize::Dev,
            Order::Semver => semver_size(from.as_str(), to.as_str()),
            Order::Auto | Order::Pep440 => size(from.as_str(), to.as_str()),
        },
    }
}

fn size(from: &str, to: &str) -> StepSize {
    match (Key::of(from), Key::of(to)) {
        (Some(from), Some(newer)) if date_only(to).is_none() => from.size(&newer),
        _ => StepSize::Dev,
    }
}

fn semver_size(from: &str, to: &str) -> StepSize {
    match (semver_of(from), semver_of(to)) {
        (Some(from), Some(to)) if from.major != to.major => StepSize::Major,
        (Some(from), Some(to)) if from.minor != to.minor => StepSize::Minor,
        (Some(from), Some(to)) if from.patch != to.patch || to.pre.is_empty() => StepSize::Patch,
        _ => StepSize::Dev,
    }
}

/// The abbreviated commit id that a version carries, as chartpress, `git describe` and setuptools-scm write it.
pub fn commit_of(version: &Version) -> Option<&str> {
    static MARKED: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^v?[0-9].*[.+-][gh]([0-9a-f]{4,40})(?:\.dirty|-dirty)?$"));
    let text = version.as_str();
    let marked = MARKED.captures(text).and_then(|found| found.get(1)).map(|commit| commit.as_str());
    let bare = || Some(text).filter(|text| is_commit(text));
    let last = || text.rsplit_once('-').map(|(_, last)| last).filter(|last| is_commit(last) || is_digits_commit(last));
    let is_version = || text.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    marked.or_else(bare).or_else(|| last().filter(|_| is_version()))
}

/// At least seven hexadecimal digits, one of them a letter: what git abbreviates to.
fn is_commit(text: &str) -> bool {
    is_hex(text) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// A commit id may by chance be all digits; one that is a date is taken as a date.
fn is_digits_commit(text: &str) -> bool {
    is_hex(text) && date_only(text).is_none()
}

fn is_hex(text: &str) -> bool {
    (7..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn compare_semver(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (semver_of(a)?, semver_of(b)?);
    match a.cmp_precedence(&b) {
        Ordering::Equal if a.build != b.build => None,
        other => Some(other),
    }
}

/// The text as SemVer: without `v`, with three numbers and no leading zeros.
fn semver_of(text: &str) -> Option<semver::Version> {
    static PARTS: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^[vV]?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-([^+]+))?(?:\+(.+))?$"));
    let parts = PARTS.captures(text).filter(|_| !is_commit(text))?;
    let number = |at: usize| parts.get(at).map_or(Ok(0), |digits| digits.as_str().parse::<u64>()).ok();
    let identifier = |word: &str| match word.trim_start_matches('0') {
        "" if !word.is_empty() => "0".to_owned(),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.to_owned(),
        _ => word.to_owned(),
    };
    let pre: Vec<String> = parts.get(4).map_or("", |pre| pre.as_str()).split('.').map(identifier).collect();
    Some(semver::Version {
        major: number(1)?,
        minor: number(2)?,
        patch: number(3)?,
        pre: semver::Prerelease::new(&pre.join(".")).ok()?,
        build: semver::BuildMetadata::new(parts.get(5).map_or("", |build| build.as_str())).ok()?,
    })
}

fn pep440(text: &str) -> Option<Key<'_>> {
    Key::of(text).filter(Key::has_no_variant)
}

/// Year, month, day, and the numbers behind them.
type Day = (i16, i8, i8, Vec<u64>);

fn date(text: &str) -> Option<Day> {
    static DAY: LazyLock<Regex> = LazyLock::new(|| {
        regex(
            r"(?:^|[^0-9])((?:19|20)[0-9]{2})(?:([-._])([0-9]{1,2})[-._]([0-9]{1,2})|([0-9]{2})([0-9]{2}))(?:$|[^0-9])",
        )
    });
    let found = DAY.captures(text)?;
    let number = |first: usize, second: usize| found.get(first).or(found.get(second))?.as_str().parse().ok();
    let (year, month, day) = (found[1].parse().ok()?, number(3, 5)?, number(4, 6)?);
    jiff::civil::Date::new(year, month, day).ok()?;
    let rest = &text[found.get(4).or(found.get(6))?.end()..];
    let numbers = rest.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    Some((year, month, day, numbers.map_while(|digits| digits.parse().ok()).collect()))
}

/// A text that is nothing but a date, and perhaps a time of day.
fn date_only(text: &str) -> Option<Day> {
    static WHOLE: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^v?[0-9]{4}(-[0-9]{2}-[0-9]{2}|[0-9]{4})([-T._]?[0-9]{1,6}([:-][0-9]{2}){0,2}Z?)?$"));
    date(text).filter(|_| WHOLE.is_match(text))
}

/// Two texts of one date are not the same version.
fn unequal(ordering: Ordering) -> Option<Ordering> {
    Some(ordering).filter(|ordering| ordering.is_ne())
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that tests use")
}

#[cfg(test)]
mod tests;
