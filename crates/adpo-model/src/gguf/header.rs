//! The layout of a GGUF file: a header, metadata by key, what tensors there are, and their bytes.
//!
//! Nothing is allocated by a number that the file states. Lists stay where they lie until somebody asks for them, and what is kept for a
//! key or a tensor is bounded by the bytes that it takes in the file.
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

use std::collections::BTreeMap;

use super::blocks::Encoding;

const ALIGNMENT: &str = "general.alignment";

/// The value of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Whole(i128),
    Number(f64),
    Flag(bool),
    Text(&'a str),
    List(List<'a>),
}

/// Values of one kind, all of which were seen to be there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct List<'a> {
    kind: u32,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> List<'a> {
    /// Its values; a list of lists has none.
    pub(super) fn values(self) -> impl Iterator<Item = Value<'a>> {
        let mut reader = Reader { bytes: self.bytes, at: 0 };
        (0..self.len).map_while(move |_| reader.value(self.kind).ok())
    }
}

/// A tensor in the file.
#[derive(Debug, Clone)]
pub(super) struct Tensor<'a> {
    /// Rows first, as Hugging Face has it; GGUF states it the other way round. No length is 0, and there are at most four.
    pub(super) shape: Vec<usize>,
    pub(super) encoding: Encoding,
    /// Exactly those that the shape asks for.
    pub(super) bytes: &'a [u8],
}

pub(super) type Contents<'a> = (BTreeMap<&'a str, Value<'a>>, BTreeMap<&'a str, Tensor<'a>>);

pub(super) fn parse(bytes: &[u8]) -> Result<Contents<'_>, String> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4)? != b"GGUF" {
        return Err("it does not begin with `GGUF`".into());
    }
    match reader.u32()? {
        2 | 3 => {}
        1 => return Err("it has version 1 of the format, which nobody writes any more; convert the model again".into()),
        other if matches!(other.swap_bytes(), 1..=3) => return Err("its numbers are big-endian; convert the model again".into()),
        other => return Err(format!("it has version {other} of the format; 2 and 3 are supported")),
    }
    let (tensors, keys) = (reader.u64()?, reader.u64()?);
    let metadata = reader.metadata(keys)?;
    let alignment = match metadata.get(ALIGNMENT) {
        None => 32,
        Some(Value::Whole(size)) if (8..=1 << 20).contains(size) && size.count_ones() == 1 => *size as usize,
        Some(_) => return Err(format!("`{ALIGNMENT}` must be a power of two from 8 to 2^20")),
    };
    let stated = reader.tensors(tensors)?;
    let data = bytes.get(reader.at.next_multiple_of(alignment)..).unwrap_or_default();
    Ok((metadata, place(stated, data, alignment)?))
}

/// What a file says of a tensor: shape, type, and where its bytes begin and how many they are.
struct Stated<'a> {
    name: &'a str,
    shape: Vec<usize>,
    encoding: Encoding,
    offset: usize,
    size: usize,
}

/// Finds the bytes of every tensor. No two share any: memory for all tensors is thus bounded by the file.
fn place<'a>(mut stated: Vec<Stated<'a>>, data: &'a [u8], alignment: usize) -> Result<BTreeMap<&'a str, Tensor<'a>>, String> {
    stated.sort_by_key(|tensor| tensor.offset);
    let (mut placed, mut free) = (BTreeMap::new(), 0);
    for Stated { name, shape, encoding, offset, size } in stated {
        if !offset.is_multiple_of(alignment) || offset < free {
            return Err(format!("the bytes of `{name}` begin at {offset}, which is not a multiple of {alignment} or in another tensor"));
        }
        let bytes = data.get(offset..).and_then(|rest| rest.get(..size));
        let bytes =
            bytes.ok_or_else(|| format!("`{name}` ends beyond the file, which is cut off; copy it once more from where it came"))?;
        free = offset + size;
        if placed.insert(name, Tensor { shape, encoding, bytes }).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(placed)
}

/// A place in the file, up to which everything was there.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..length));
        let taken = taken.ok_or_else(|| format!("it ends within its header, at byte {}", self.bytes.len()))?;
        self.at += length;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "it ends within a number".to_owned())
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.number()?))
    }

    /// A length or a size; one beyond memory is beyond the file as well.
    fn size(&mut self) -> Result<usize, String> {
        let size = self.u64()?;
        usize::try_from(size).map_err(|_| format!("it states a size of {size}"))
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let length = self.size()?;
        let at = self.at;
        std::str::from_utf8(self.take(length)?).map_err(|e| format!("the text at byte {at} is not UTF-8 ({e})"))
    }

    fn value(&mut self, kind: u32) -> Result<Value<'a>, String> {
        Ok(match kind {
            0 => Value::Whole(u8::from_le_bytes(self.number()?).into()),
            1 => Value::Whole(i8::from_le_bytes(self.number()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.number()?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.number()?).into()),
            4 => Value::Whole(u32::from_le_bytes(self.number()?).into()),
            5 => Value::Whole(i32::from_le_bytes(self.number()?).into()),
            6 => Value::Number(meant(f32::from_le_bytes(self.number()?))),
            7 => Value::Flag(self.number::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => Value::List(self.list()?),
            10 => Value::Whole(self.u64()?.into()),
            11 => Value::Whole(i64::from_le_bytes(self.number()?).into()),
            12 => Value::Number(f64::from_le_bytes(self.number()?)),
            other => return Err(format!("it has a value of the unknown kind {other}, before byte {}", self.at)),
        })
    }

    fn list(&mut self) -> Result<List<'a>, String> {
        let (kind, len) = (self.u32()?, self.size()?);
        let start = self.at;
        match kind {
            9 => return Err("it has a list of lists, which no model needs".into()),
            8 => (0..len).try_for_each(|_| self.text().map(drop))?,
            kind => {
                let width = match kind {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    _ => 8,
                };
                // The kind is one that there is.
                if kind > 12 {
                    return Err(format!("it has a list of the unknown kind {kind}, before byte {start}"));
                }
                self.take(len.checked_mul(width).ok_or("it states a list longer than memory")?)?;
            }
        }
        Ok(List { kind, len, bytes: self.bytes.get(start..self.at).unwrap_or_default() })
    }

    fn metadata(&mut self, keys: u64) -> Result<BTreeMap<&'a str, Value<'a>>, String> {
        let mut metadata = BTreeMap::new();
        for _ in 0..keys {
            let key = self.text()?;
            let kind = self.u32()?;
            let value = self.value(kind).map_err(|problem| format!("`{key}`: {problem}"))?;
            if metadata.insert(key, value).is_some() {
                return Err(format!("`{key}` is there twice"));
            }
        }
        Ok(metadata)
    }

    fn tensors(&mut self, count: u64) -> Result<Vec<Stated<'a>>, String> {
        let mut stated = Vec::new();
        for _ in 0..count {
            let name = self.text()?;
            let dimensions = self.u32()?;
            if !(1..=4).contains(&dimensions) {
                return Err(format!("`{name}` has {dimensions} dimensions; 1 to 4 are possible"));
            }
            let mut shape = (0..dimensions).map(|_| self.size()).collect::<Result<Vec<_>, _>>()?;
            let encoding = Encoding::of(self.u32()?).map_err(|problem| format!("`{name}` {problem}"))?;
            let (numbers, bytes) = encoding.block();
            let size = shape.iter().try_fold(1_usize, |size, length| size.checked_mul(*length));
            let size = size.and_then(|size| (size / numbers).checked_mul(bytes));
            let size = size.filter(|size| *size > 0 && shape[0].is_multiple_of(numbers));
            let size = size.ok_or_else(|| format!("`{name}` has the shape {shape:?}, which {encoding:?} cannot have"))?;
            shape.reverse();
            stated.push(Stated { name, shape, encoding, offset: self.size()?, size });
        }
        Ok(stated)
    }
}

/// The number that was meant: 1e-5, and not the f32 next to it.
pub(super) fn meant(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}
