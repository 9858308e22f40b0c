//! Other inputs out of known ones, the same on every machine.

/// What readers of numbers, lengths and texts trip over.
const WORDS: [&str; 40] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "-1e309",
    "1e-320",
    "0.1",
    "NaN",
    "inf",
    "null",
    "true",
    "false",
    "\"\"",
    "[]",
    "{}",
    "[[]]",
    "{\"a\":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{202e}",
    "\u{feff}",
    "é",
    "</s>",
    "{%",
    "%}",
    "{{",
    "\n",
    "\r\n",
    "\t",
    "\0",
];

/// Steele, Lea and Flood's SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One of the seeds, changed in one to four places.
pub fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => drop(bytes.drain(at..(at + 1 + random.below(16)).min(bytes.len()))),
            3 => {
                let copied = bytes[at..(at + 1 + random.below(32)).min(bytes.len())].to_vec();
                insert(&mut bytes, at, &copied.repeat(1 + random.below(8)));
            }
            4 => insert(&mut bytes, at, WORDS[random.below(WORDS.len())].as_bytes()),
            5 => replace_word(&mut bytes, at, random),
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                insert(&mut bytes, at, &other[from..(from + random.below(64)).min(other.len())]);
            }
            7 if bytes.len() >= 8 => {
                // A length in a binary header.
                let number = [0, 1, 0xff, 0x7fff_ffff, u64::from(u32::MAX), u64::MAX, 1 << 40][random.below(7)];
                let width = [1, 2, 4, 8][random.below(4)];
                let at = at.min(bytes.len() - width);
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
            _ if random.below(8) == 0 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, inserted: &[u8]) {
    bytes.splice(at..at, inserted.iter().copied());
}

/// Another word in place of the next number, string or name.
fn replace_word(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-+".contains(byte);
    let Some(start) = bytes[at..].iter().position(is_word).map(|skipped| at + skipped) else { return };
    let end = bytes[start..].iter().position(|byte| !is_word(byte)).map_or(bytes.len(), |length| start + length);
    bytes.splice(start..end, WORDS[random.below(WORDS.len())].bytes());
}
