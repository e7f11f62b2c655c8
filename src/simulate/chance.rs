/// Chance that can be repeated: the same seed gives the same rolls (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `most`, `most` included.
    pub fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(sides) => self.roll() % sides,
            None => self.roll(),
        }
    }

    /// Whether something happens that happens so often in a thousand times.
    pub fn per_mille(&mut self, often: u64) -> bool {
        often > 0 && self.up_to(999) < often
    }
}
