//! Damaged files: an error or a model, never a panic, and nothing allocated by what a file merely states.

use std::path::Path;

use burn::tensor::Device;

use super::Gguf;
use crate::Dtype;

const TINY: &[u8] = include_bytes!("../../../../tests/fixtures/tiny-gguf/tiny.gguf");

/// Everything that a file is asked for; whether all of it was there.
fn read(bytes: &[u8]) -> bool {
    let Ok(gguf) = Gguf::parse(Path::new("damaged.gguf"), bytes) else { return false };
    let whole = gguf.tokenizer().is_ok();
    gguf.load_as(Dtype::Float32, &Device::flex()).is_ok() && whole
}

/// Where the tensors' bytes begin.
fn data() -> usize {
    let gguf = Gguf::parse(Path::new("tiny.gguf"), TINY).expect("whole");
    gguf.tensors.values().map(|tensor| tensor.bytes.as_ptr().addr() - TINY.as_ptr().addr()).min().expect("tensors")
}

#[test]
fn any_byte_of_the_header_may_be_wrong() {
    assert!(read(TINY));
    let (header, mut bytes, mut refused) = (data(), TINY.to_vec(), 0);
    for at in 0..header {
        for flip in [1, 0x80, 0xff] {
            bytes[at] ^= flip;
            // The weights are no business of most of the header, and take their time.
            let gguf = Gguf::parse(Path::new("damaged.gguf"), &bytes);
            let whole = gguf.is_ok_and(|gguf| gguf.config().is_ok() && (at % 5 != 0 || gguf.tokenizer().is_ok()));
            refused += usize::from(!whole);
            bytes[at] ^= flip;
        }
    }
    assert!(refused > header / 2, "only {refused} of {} were noticed", 3 * header);
}

#[test]
fn the_tensors_of_a_damaged_file_are_loaded_or_refused() {
    let (header, mut bytes) = (data(), TINY.to_vec());
    // The names, shapes, types and offsets of tensors end the header.
    for at in (header - 1800..header).chain((header..bytes.len()).step_by(1013)) {
        bytes[at] ^= 0x41;
        read(&bytes);
        bytes[at] ^= 0x41;
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for cut in (0..200).chain((200..TINY.len()).step_by(61)).chain([TINY.len() - 1]) {
        assert!(Gguf::parse(Path::new("cut.gguf"), &TINY[..cut]).is_err(), "cut at {cut}");
    }
}

/// A header of version 3 with so many tensors and keys, and what follows.
fn file(tensors: u64, keys: u64, rest: &[&[u8]]) -> Vec<u8> {
    [b"GGUF".as_slice(), &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes(), &rest.concat()].concat()
}

fn problem(bytes: &[u8]) -> String {
    Gguf::parse(Path::new("hostile.gguf"), bytes).expect_err("it lies").to_string()
}

#[test]
fn lengths_that_lie_are_errors_before_anything_is_allocated() {
    let huge = u64::MAX.to_le_bytes();
    let key: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0, b'k'];
    let list = |kind: u32, len: u64| [9_u32.to_le_bytes().as_slice(), &kind.to_le_bytes(), &len.to_le_bytes()].concat();
    for bytes in [
        file(u64::MAX, u64::MAX, &[]),
        file(u64::MAX, 0, &[]),
        file(0, 1, &[&huge]),
        file(0, 1, &[key, &list(4, u64::MAX)]),
        file(0, 1, &[key, &list(8, u64::MAX)]),
        file(0, 1, &[key, &list(0, 1 << 40)]),
        file(0, 1, &[key, &list(9, 1)]),
        file(0, 1, &[key, &list(13, 0)]),
        file(0, 1, &[key, &99_u32.to_le_bytes()]),
        b"GGUF".to_vec(),
        Vec::new(),
    ] {
        let told = problem(&bytes);
        assert!(told.starts_with("hostile.gguf: is no GGUF file that can be read: "), "{told}");
    }
    assert!(problem(b"not a model at all").contains("does not begin with `GGUF`"));
    assert!(problem(&[b"GGUF".as_slice(), &[0, 0, 0, 3], &[0; 16]].concat()).contains("big-endian"));
}

#[test]
fn tensors_that_lie_are_errors() {
    let tensor = |name: u8, shape: &[u64], kind: u32, offset: u64| {
        let shape_bytes: Vec<u8> = shape.iter().flat_map(|length| length.to_le_bytes()).collect();
        let (name, dimensions) = ([1, 0, 0, 0, 0, 0, 0, 0, name], (shape.len() as u32).to_le_bytes());
        [name.as_slice(), &dimensions, &shape_bytes, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
    };
    let data = [0; 256];
    for (told, tensors) in [
        ("which F32 cannot have", vec![tensor(b'a', &[u64::MAX, u64::MAX], 0, 0)]),
        ("which F32 cannot have", vec![tensor(b'a', &[1 << 62], 0, 0)]),
        ("which F32 cannot have", vec![tensor(b'a', &[0, 4], 0, 0)]),
        ("which Q4_0 cannot have", vec![tensor(b'a', &[16, 2], 2, 0)]),
        ("ends beyond the file", vec![tensor(b'a', &[1 << 20, 1 << 20], 0, 0)]),
        ("ends beyond the file", vec![tensor(b'a', &[8], 0, 1 << 40)]),
        ("not a multiple of 32", vec![tensor(b'a', &[8], 0, 4)]),
        ("in another tensor", vec![tensor(b'a', &[8], 0, 0), tensor(b'b', &[8], 0, 0)]),
        ("is there twice", vec![tensor(b'a', &[8], 0, 0), tensor(b'a', &[8], 0, 32)]),
        ("has 5 dimensions", vec![tensor(b'a', &[1; 5], 0, 0)]),
        ("`a` is Q2_K; F32,", vec![tensor(b'a', &[256], 10, 0)]),
        ("`a` is of the unknown type 77", vec![tensor(b'a', &[256], 77, 0)]),
    ] {
        let problem = problem(&file(tensors.len() as u64, 0, &[&tensors.concat(), &data]));
        assert!(problem.contains(told), "{told}: {problem}");
    }
}
