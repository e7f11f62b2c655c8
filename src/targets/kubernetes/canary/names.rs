//! What our own objects are called.

pub use crate::targets::kubernetes::traffic::hand::CANARY;

/// Which release's tree an object is of.
pub const TREE: &str = "piton.dev/tree";
/// How many pods stable had when the canary came up.
pub const BASE: &str = "piton.dev/stable-replicas";
/// Tells stable and canary pods apart where both are in one Service: `stable`, `canary`.
pub const TRACK: &str = "piton.dev/track";

const SUFFIX: &str = "-piton-canary";
/// Names of pods are the Deployment's with two hashes, cut at 63 characters: the name must stay whole in them.
const NAME_MAX: usize = 47;

/// The name of what runs beside something.
pub fn beside(name: &str) -> String {
    if name.len() + SUFFIX.len() <= NAME_MAX {
        return format!("{name}{SUFFIX}");
    }
    let room = NAME_MAX - SUFFIX.len() - 9;
    format!("{}-{}{SUFFIX}", name[..room.min(name.len())].trim_end_matches(['-', '.']), hash(name))
}

/// The name of a copy of a ConfigMap or Secret with this content.
pub fn copy(name: &str, content: &str) -> String {
    const NAME_MAX: usize = 253;
    let ending = format!("-piton-{}", hash(content));
    format!("{}{ending}", &name[..name.len().min(NAME_MAX - ending.len())])
}

/// Eight characters that stand for a text: FNV-1a, which stays the same whatever it is compiled with.
fn hash(text: &str) -> String {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let all = text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", (all >> 32) as u32 ^ all as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_whole_in_the_names_of_pods() {
        assert_eq!(beside("web"), "web-piton-canary");
        let long = "a-rather-long-name-for-a-deployment-of-a-hub";
        assert!(beside(long).len() <= NAME_MAX);
        assert_ne!(beside(long), beside(&format!("{long}-2")));
        assert!(beside(long).ends_with(SUFFIX));
    }

    #[test]
    fn copies_are_named_by_their_content() {
        assert_eq!(copy("config", "a"), copy("config", "a"));
        assert_ne!(copy("config", "a"), copy("config", "b"));
    }
}
