use jiff::{Timestamp, ToSpan, Zoned, civil::Weekday, tz::TimeZone};

use crate::model::{Stamp, Verdict, WindowRule};

/// Says why a window cannot be used: an unknown zone, no day, or an end before its start.
pub fn validate(window: &WindowRule) -> Result<(), String> {
    TimeZone::get(&window.zone).map_err(|_| {
        format!("`{}` is not a time zone; write an IANA name such as `Europe/Zurich` or `UTC`", window.zone)
    })?;
    if window.days.is_empty() || window.days.iter().any(|d| !(1..=7).contains(d)) {
        return Err("a window needs at least one day from `mon` to `sun`".to_owned());
    }
    if window.from_minute >= window.until_minute || window.until_minute > 24 * 60 {
        return Err("a window must end after it starts, on the same day".to_owned());
    }
    Ok(())
}

pub(super) fn verdict(window: &WindowRule, now: Stamp) -> Verdict {
    if is_open(window, now) {
        return Verdict::Pass("inside the window".to_owned());
    }
    match next_opening(window, now) {
        Some(at) => Verdict::Undecided(format!("outside the window; it opens at {at}")),
        None => Verdict::Undecided("outside the window, and it never opens".to_owned()),
    }
}

fn is_open(window: &WindowRule, now: Stamp) -> bool {
    let Some(local) = local(window, now) else { return false };
    let minute = local.hour() as i32 * 60 + local.minute() as i32;
    window.days.contains(&day_number(local.weekday()))
        && (i32::from(window.from_minute)..i32::from(window.until_minute)).contains(&minute)
}

/// When the window opens next, or `now` when it is open; `None` when it never does.
pub fn next_opening(window: &WindowRule, now: Stamp) -> Option<Stamp> {
    if is_open(window, now) {
        return Some(now);
    }
    let local = local(window, now)?;
    (0..=8).find_map(|ahead| {
        let day = local.date().checked_add(ahead.days()).ok()?;
        if !window.days.contains(&day_number(day.weekday())) {
            return None;
        }
        let hour = i8::try_from(window.from_minute / 60).ok()?;
        let minute = i8::try_from(window.from_minute % 60).ok()?;
        let opens = day.at(hour, minute, 0, 0).in_tz(&window.zone).ok()?;
        let opens = Stamp(opens.timestamp().as_millisecond());
        (opens > now).then_some(opens)
    })
}

fn local(window: &WindowRule, now: Stamp) -> Option<Zoned> {
    Timestamp::from_millisecond(now.0).ok()?.in_tz(&window.zone).ok()
}

fn day_number(day: Weekday) -> u8 {
    day.to_monday_one_offset().unsigned_abs()
}
