//! The share by counting pods, where there is no router: canary pods join the stable Service, one by one.

use crate::model::Share;

/// How many canary pods must be in the stable Service beside so many stable ones. Rounded up, at least one, and at most as
/// many as stable has: half of the users. Only all users is exact: then the Service takes in no stable pod.
pub fn joined(stable: u32, share: Share) -> u32 {
    let part = u64::from(share.hundredths());
    match part {
        0 => 0,
        10_000 => stable.max(1),
        part => {
            let wanted = (u64::from(stable) * part).div_ceil(10_000 - part);
            u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, stable.max(1))
        }
    }
}

/// The share that so many pods beside so many others get.
pub fn share(stable: u32, canary: u32) -> Share {
    let all = u64::from(stable) + u64::from(canary);
    let hundredths = (u64::from(canary) * 10_000).checked_div(all).unwrap_or(0);
    u16::try_from(hundredths).ok().and_then(Share::of_hundredths).unwrap_or(Share::WHOLE)
}

/// How coarse it is, for people.
pub fn coarse(stable: u32, share: Share) -> String {
    let canary = joined(stable, share);
    let really = self::share(stable, canary);
    match share {
        Share::NONE | Share::WHOLE => format!("{share} by the stable Service's selector"),
        _ if really == share => format!("{share} is {canary} of {} pods", stable + canary),
        _ => format!("{share} was asked for; {canary} of {} pods are {really}", stable + canary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_up_to_whole_pods() {
        let of = |percent: u16| Share::of_hundredths(percent * 100).expect("a share");
        let cases = [
            // stable pods, share in percent, canary pods
            (10, 0, 0),
            (10, 1, 1),
            (10, 10, 2),
            (9, 10, 1),
            (3, 10, 1),
            (4, 20, 1),
            (10, 50, 10),
            (10, 90, 10),
            (10, 100, 10),
            (0, 10, 1),
            (0, 100, 1),
        ];
        for (stable, percent, canary) in cases {
            assert_eq!(joined(stable, of(percent)), canary, "{percent}% beside {stable}");
        }
    }

    #[test]
    fn how_coarse_it_is_is_said() {
        let ten = Share::of_hundredths(1000).expect("a share");
        assert_eq!(coarse(3, ten), "10% was asked for; 1 of 4 pods are 25%");
        assert_eq!(coarse(9, ten), "10% is 1 of 10 pods");
    }
}
