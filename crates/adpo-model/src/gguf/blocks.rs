//! Quantised numbers: how each type packs a block of them, and back, to the bit as ggml and its Python package have it
//! (`dequantize_row_*` in ggml-quants.c, `gguf/quants.py`).

use half::{bf16, f16};

/// How the numbers of a tensor are stored. The names are ggml's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the names that everybody knows them by")]
pub(super) enum Encoding {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Encoding {
    /// By the number that files have for it.
    pub(super) fn of(code: u32) -> Result<Self, String> {
        Ok(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            other => {
                return Err(format!(
                    "is {}; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K are supported, take a file of one of these",
                    name(other)
                ));
            }
        })
    }

    /// Numbers in a block, and the bytes that they take.
    pub(super) const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        }
    }

    /// The numbers of whole blocks.
    pub(super) fn dequantise(self, bytes: &[u8], numbers: &mut [f32]) {
        match self {
            Self::F32 => blocks(bytes, numbers, |[a, b, c, d], [x]| *x = f32::from_le_bytes([*a, *b, *c, *d])),
            Self::F16 => blocks(bytes, numbers, |b: &[u8; 2], [x]| *x = f16::from_le_bytes(*b).to_f32()),
            Self::BF16 => blocks(bytes, numbers, |b: &[u8; 2], [x]| *x = bf16::from_le_bytes(*b).to_f32()),
            Self::Q4_0 => blocks(bytes, numbers, |b: &[u8; 18], x: &mut [f32; 32]| {
                let d = half_at(b, 0);
                nibbles(&b[2..], x, |q, _| d * (f32::from(q) - 8.0));
            }),
            Self::Q4_1 => blocks(bytes, numbers, |b: &[u8; 20], x: &mut [f32; 32]| {
                let (d, m) = (half_at(b, 0), half_at(b, 2));
                nibbles(&b[4..], x, |q, _| d * f32::from(q) + m);
            }),
            Self::Q5_0 => blocks(bytes, numbers, |b: &[u8; 22], x: &mut [f32; 32]| {
                let (d, high) = (half_at(b, 0), &b[2..6]);
                nibbles(&b[6..], x, |q, i| d * (f32::from(q | fifth_bit(high, i)) - 16.0));
            }),
            Self::Q5_1 => blocks(bytes, numbers, |b: &[u8; 24], x: &mut [f32; 32]| {
                let (d, m, high) = (half_at(b, 0), half_at(b, 2), &b[4..8]);
                nibbles(&b[8..], x, |q, i| d * f32::from(q | fifth_bit(high, i)) + m);
            }),
            Self::Q8_0 => blocks(bytes, numbers, |b: &[u8; 34], x: &mut [f32; 32]| {
                let d = half_at(b, 0);
                x.iter_mut().zip(&b[2..]).for_each(|(x, q)| *x = f32::from(q.cast_signed()) * d);
            }),
            Self::Q4_K => blocks(bytes, numbers, |b: &[u8; 144], x: &mut [f32; 256]| {
                let (low, scales) = (&b[16..], Scales::of(b));
                for (part, x) in x.chunks_exact_mut(64).enumerate() {
                    nibbles(&low[32 * part..][..32], x, |q, i| scales.number(2 * part + i / 32, q));
                }
            }),
            Self::Q5_K => blocks(bytes, numbers, |b: &[u8; 176], x: &mut [f32; 256]| {
                let (high, low, scales) = (&b[16..48], &b[48..], Scales::of(b));
                for (part, x) in x.chunks_exact_mut(64).enumerate() {
                    nibbles(&low[32 * part..][..32], x, |q, i| {
                        let group = 2 * part + i / 32;
                        scales.number(group, q | (high[i % 32] >> group & 1) << 4)
                    });
                }
            }),
            Self::Q6_K => blocks(bytes, numbers, six_bits),
        }
    }
}

/// Goes through both, block by block.
fn blocks<const B: usize, const N: usize>(bytes: &[u8], numbers: &mut [f32], each: impl Fn(&[u8; B], &mut [f32; N])) {
    bytes.as_chunks().0.iter().zip(numbers.as_chunks_mut().0).for_each(|(bytes, numbers)| each(bytes, numbers));
}

/// Halves of bytes: the lower ones of all bytes come first. `number` gets each with its place.
fn nibbles(bytes: &[u8], numbers: &mut [f32], number: impl Fn(u8, usize) -> f32) {
    let (lower, upper) = numbers.split_at_mut(bytes.len());
    for (i, byte) in bytes.iter().enumerate() {
        (lower[i], upper[i]) = (number(byte & 15, i), number(byte >> 4, bytes.len() + i));
    }
}

fn fifth_bit(high: &[u8], i: usize) -> u8 {
    (high[i / 8] >> (i % 8) & 1) << 4
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The scales and least values of a block's eight groups of 32, 6 bits each, in twelve bytes.
struct Scales {
    scale: [f32; 8],
    least: [f32; 8],
}

impl Scales {
    fn of(block: &[u8]) -> Self {
        let (d, dmin, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
        let scale = |group: usize| match group {
            0..4 => packed[group] & 63,
            _ => packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
        };
        let least = |group: usize| match group {
            0..4 => packed[group + 4] & 63,
            _ => packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        };
        let times = |by: f32, of: &dyn Fn(usize) -> u8| std::array::from_fn(|group| by * f32::from(of(group)));
        Self { scale: times(d, &scale), least: times(dmin, &least) }
    }

    fn number(&self, group: usize, quant: u8) -> f32 {
        self.scale[group] * f32::from(quant) - self.least[group]
    }
}

/// Q6_K: four bits of a number in the first 128 bytes, two in the next 64, a scale for each 16 numbers.
fn six_bits(block: &[u8; 210], numbers: &mut [f32; 256]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half_at(block, 208));
    for (i, number) in numbers.iter_mut().enumerate() {
        // A half has four quarters of 32 numbers: bytes 0 and 1 of `low` hold quarters 0 and 2, and 1 and 3.
        let (half, quarter, at) = (i / 128, i % 128 / 32, i % 32);
        let byte = low[64 * half + 32 * (quarter % 2) + at];
        let four = if quarter < 2 { byte & 15 } else { byte >> 4 };
        let quant = four | (high[32 * half + at] >> (2 * quarter) & 3) << 4;
        *number = d * f32::from(scales[i / 16].cast_signed()) * (f32::from(quant) - 32.0);
    }
}

/// What ggml calls the types that are not supported.
fn name(code: u32) -> String {
    let known = match code {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        other => return format!("of the unknown type {other}"),
    };
    known.to_owned()
}
