//! How many pods a share needs.

use crate::model::Share;

/// Pods that the canary needs for a share of what stable serves with so many: rounded up, at least one.
pub fn canary(base: u32, share: Share) -> u32 {
    let exact = (u64::from(base) * u64::from(share.hundredths())).div_ceil(10_000);
    u32::try_from(exact).unwrap_or(u32::MAX).max(1)
}

/// Pods that stable needs to serve everyone, when so many ready ones serve what the canary does not. An autoscaler may have
/// taken some away meanwhile; it never takes more than there were in the beginning.
pub fn stable(ready: u32, base: u32, canary_share: Share) -> u32 {
    let left = 10_000 - u64::from(canary_share.hundredths());
    let base = base.max(1);
    if left == 0 {
        return base;
    }
    let wanted = (u64::from(ready.max(1)) * 10_000).div_ceil(left);
    u32::try_from(wanted).unwrap_or(u32::MAX).min(base)
}

/// The share that must stay with the canary for as long as stable has too few ready pods.
pub fn left_behind(ready: u32, needed: u32) -> Share {
    let missing = u64::from(needed.saturating_sub(ready)) * 10_000 / u64::from(needed.max(1));
    u16::try_from(missing).ok().and_then(Share::of_hundredths).unwrap_or(Share::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(percent: u16) -> Share {
        Share::of_hundredths(percent * 100).expect("a share")
    }

    #[test]
    fn pods_for_a_share() {
        for (base, percent, pods) in
            [(10, 10, 1), (10, 11, 2), (3, 1, 1), (3, 50, 2), (3, 100, 3), (0, 100, 1), (7, 0, 1)]
        {
            assert_eq!(canary(base, share(percent)), pods, "{percent}% of {base}");
        }
    }

    #[test]
    fn the_way_back_needs_what_there_was() {
        let cases = [
            // ready stable pods, pods in the beginning, the canary's share, needed
            (10, 10, 10, 10),
            (10, 10, 100, 10),
            (2, 10, 100, 10),
            (5, 10, 50, 10),
            (3, 10, 10, 4),
            (0, 10, 50, 2),
            (0, 0, 100, 1),
        ];
        for (ready, base, percent, needed) in cases {
            assert_eq!(stable(ready, base, share(percent)), needed, "{ready} of {base} at {percent}%");
        }
        assert_eq!(left_behind(5, 10), share(50));
        assert_eq!(left_behind(10, 10), Share::NONE);
        assert_eq!(left_behind(12, 10), Share::NONE);
    }
}
