//! Files that are cut off, hostile or of another model: an error that says so, never a panic or a large allocation.

mod common;

use std::path::Path;

use adpo_model::{Dtype, Llama, ParameterMap, SampleRequest, SamplingOptions, SaveOptions, sample};
use burn::module::Param;
use burn::tensor::{Device, Tensor};
use common::{Raw, config, load_error, model, read_raw, saved, write_raw};
use safetensors::tensor::Dtype as StoredDtype;
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn sharded() -> SaveOptions {
    SaveOptions { dtype: Dtype::Float32, max_shard_bytes: Some(2500) }
}

fn read_index(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join(INDEX)).expect("readable")).expect("JSON")
}

fn write_index(folder: &Path, index: &Value) {
    std::fs::write(folder.join(INDEX), index.to_string()).expect("writable");
}

#[test]
fn one_error_lists_all_tensors_that_are_missing_unexpected_misshaped_or_of_another_type() {
    let folder = saved(&model(false), &SaveOptions::default());
    let path = folder.path().join(WEIGHTS);
    let mut raw = read_raw(&path);
    raw.remove("model.layers.1.mlp.up_proj.weight");
    raw.remove("model.norm.weight");
    raw.insert("model.layers.2.mlp.up_proj.weight".into(), raw["lm_head.weight"].clone());
    raw.insert("model.layers.0.self_attn.q_proj.bias".into(), raw["model.layers.0.input_layernorm.weight"].clone());
    raw.insert("lm_head.weight".into(), Raw { dtype: StoredDtype::F32, shape: vec![16, 32], data: vec![0; 2048] });
    raw.insert("model.layers.0.mlp.down_proj.weight".into(), Raw { dtype: StoredDtype::I8, shape: vec![16, 24], data: vec![0; 384] });
    write_raw(&path, &raw);
    let error = load_error(folder.path());
    for part in [
        "`model.layers.1.mlp.up_proj.weight` is missing",
        "`model.norm.weight` is missing",
        "`model.layers.2.mlp.up_proj.weight` is unexpected",
        "`model.layers.0.self_attn.q_proj.bias` is unexpected",
        "`lm_head.weight` is [16, 32], not [32, 16]",
        "`model.layers.0.mlp.down_proj.weight` is I8",
    ] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert_eq!(error.matches("; ").count() + 1, 7, "six problems and the types that are supported: {error}");
}

#[test]
fn a_configuration_that_asks_for_a_huge_matrix_fails_before_anything_is_allocated() {
    let folder = saved(&model(false), &SaveOptions::default());
    // 2^24 · 2^24 numbers would be a petabyte: allocating them would end the process.
    for field in ["hidden_size", "vocab_size", "intermediate_size", "head_dim"] {
        let mut huge: Value = serde_json::from_str(&config(false).to_json()).expect("JSON");
        huge["hidden_size"] = json!(1 << 24);
        huge[field] = json!(1 << 24);
        std::fs::write(folder.path().join("config.json"), huge.to_string()).expect("writable");
        let error = load_error(folder.path());
        assert!(error.contains("`model.embed_tokens.weight` is [32, 16], not ["), "{error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let folder = saved(&model(false), &SaveOptions::default());
    let path = folder.path().join(WEIGHTS);
    let whole = std::fs::read(&path).expect("readable");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("8 bytes")) as usize;
    let cuts = (0..64).chain((64..whole.len()).step_by(97)).chain(header - 2..header + 3).chain([whole.len() - 1]);
    for cut in cuts {
        std::fs::write(&path, &whole[..cut]).expect("writable");
        let error = load_error(folder.path());
        assert!(error.contains(WEIGHTS), "cut at {cut}: {error}");
    }
    std::fs::write(&path, [whole.as_slice(), &[0]].concat()).expect("writable");
    assert!(load_error(folder.path()).contains(WEIGHTS), "a byte too many");
}

/// Xorshift: noise that is the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn random_bytes_never_panic() {
    let config = config(false).to_json();
    let mut noise = Noise(11);
    for round in 0..2000 {
        let length = (noise.next() % 300) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| noise.next() as u8).collect();
        if round % 2 == 0 && length >= 8 {
            // A header length that fits, so that the header itself is looked at.
            bytes[..8].copy_from_slice(&((length as u64 - 8) / 2).to_le_bytes());
        }
        assert!(Llama::load_bytes(&config, &bytes, &Device::flex()).is_err());
    }
}

#[test]
fn a_damaged_header_never_panics() {
    let folder = saved(&model(false), &SaveOptions::default());
    let config = config(false).to_json();
    let whole = std::fs::read(folder.path().join(WEIGHTS)).expect("readable");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("8 bytes")) as usize;
    let mut noise = Noise(5);
    let mut refused = 0;
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..=noise.next() % 3 {
            let at = noise.next() as usize % header;
            bytes[at] = noise.next() as u8;
        }
        refused += usize::from(Llama::load_bytes(&config, &bytes, &Device::flex()).is_err());
    }
    // What is left has its damage where nothing is said: in the padding, or in the free text of the metadata.
    assert!(refused > 1900, "only {refused} of 2000 were noticed");
}

#[test]
fn headers_that_lie_about_sizes_are_errors() {
    let config = config(false).to_json();
    let tensor =
        |shape: &str, offsets: &str| format!(r#"{{"model.norm.weight":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
    let headers = [
        tensor("[18446744073709551615,18446744073709551615]", "[0,8]"),
        tensor("[4611686018427387904]", "[0,0]"),
        tensor("[1000000,1000000]", "[0,4000000000000]"),
        tensor("[2]", "[8,0]"),
        tensor("[2]", "[4,12]"),
        tensor("[-2]", "[0,8]"),
        // Two tensors of the same bytes, and two with a gap between them.
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.to_owned(),
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}}"#.to_owned(),
        "[".repeat(100_000),
        "{}".to_owned(),
    ];
    for header in headers {
        let bytes = [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &[0; 8]].concat();
        let error = Llama::load_bytes(&config, &bytes, &Device::flex()).expect_err("it lies").to_string();
        let known = error.contains("is not a whole safetensors file (") && error.contains("copy it once more");
        assert!(error.starts_with("embedded model.safetensors: ") && known, "{error}");
    }
    for length in [u64::MAX, u64::MAX - 7, 1 << 40] {
        let bytes = [length.to_le_bytes().as_slice(), b"{}"].concat();
        assert!(Llama::load_bytes(&config, &bytes, &Device::flex()).is_err());
    }
}

#[test]
fn an_index_that_names_a_tensor_its_shard_lacks_is_an_error() {
    let folder = saved(&model(false), &sharded());
    let mut index = read_index(folder.path());
    let (old, other) = (index["weight_map"]["model.norm.weight"].clone(), index["weight_map"]["model.embed_tokens.weight"].clone());
    assert_ne!(old, other);
    index["weight_map"]["model.norm.weight"] = other.clone();
    write_index(folder.path(), &index);
    let error = load_error(folder.path());
    let file = other.as_str().expect("a name");
    assert!(error.contains(&format!("`model.norm.weight` should be in {file}, which lacks it")), "{error}");
}

#[test]
fn a_tensor_in_two_shards_is_an_error() {
    let folder = saved(&model(false), &sharded());
    let map = &read_index(folder.path())["weight_map"];
    let file = |tensor: &str| map[tensor].as_str().expect("a name").to_owned();
    let (embedding, norm) = (file("model.embed_tokens.weight"), file("model.norm.weight"));
    assert_ne!(embedding, norm);
    let mut raw = read_raw(&folder.path().join(&norm));
    let copied = read_raw(&folder.path().join(&embedding));
    raw.insert("model.embed_tokens.weight".into(), copied["model.embed_tokens.weight"].clone());
    write_raw(&folder.path().join(&norm), &raw);
    let error = load_error(folder.path());
    assert!(error.contains(&format!("`model.embed_tokens.weight` is in both {embedding} and {norm}")), "{error}");
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    for hostile in ["../model.safetensors", "/etc/passwd", "..", "", "a\\b", "a/b", "C:x"] {
        let folder = saved(&model(false), &sharded());
        let mut index = read_index(folder.path());
        index["weight_map"]["model.norm.weight"] = json!(hostile);
        write_index(folder.path(), &index);
        let error = load_error(folder.path());
        assert!(error.contains("model.norm.weight") && error.contains("not the name of a file in its folder"), "{hostile}: {error}");
    }
}

#[test]
fn an_index_that_is_malformed_cut_off_or_huge_is_an_error_that_names_it() {
    let folder = saved(&model(false), &sharded());
    let path = folder.path().join(INDEX);
    let whole = std::fs::read(&path).expect("readable");
    let mut texts: Vec<Vec<u8>> = (0..whole.len() - 2).step_by(53).map(|cut| whole[..cut].to_vec()).collect();
    texts.extend(
        ["[]", "{}", r#"{"weight_map": 3}"#, r#"{"weight_map": {"a": 3}}"#, &"[".repeat(100_000)].map(|text| text.as_bytes().to_vec()),
    );
    texts.push(vec![0xff; 100]);
    for text in texts {
        std::fs::write(&path, &text).expect("writable");
        assert!(load_error(folder.path()).contains(INDEX));
    }
    // A sparse file takes no space on disk; reading it to the end would take 1 TiB of memory.
    std::fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
    assert!(load_error(folder.path()).contains("larger than 64 MiB"));
}

#[test]
fn missing_files_are_named() {
    let folder = saved(&model(false), &sharded());
    let shard = read_index(folder.path())["weight_map"]["model.norm.weight"].as_str().expect("a name").to_owned();
    std::fs::remove_file(folder.path().join(&shard)).expect("was there");
    assert!(load_error(folder.path()).contains(&shard));
    std::fs::remove_file(folder.path().join(INDEX)).expect("was there");
    assert!(load_error(folder.path()).contains(WEIGHTS));
    std::fs::remove_file(folder.path().join("config.json")).expect("was there");
    assert!(load_error(folder.path()).contains("config.json"));
}

#[test]
fn weights_that_give_nan_are_an_error_that_names_the_row_instead_of_a_token() {
    struct Diverged;
    impl ParameterMap for Diverged {
        fn map<const D: usize>(&mut self, _name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.mul_scalar(f32::NAN))
        }
    }
    let model = model(false).map_parameters(&mut Diverged);
    for temperature in [0.0, 1.0] {
        let options = SamplingOptions { temperature, max_new_tokens: 3, ..SamplingOptions::default() };
        let error = sample(&model, &[SampleRequest { prompt: &[1, 5], row: 17 }], &options).expect_err("no token is likeliest").to_string();
        assert!(error.contains("row 17") && error.contains("NaN"), "{error}");
    }
}

/// The bytes of a tensor of the model, changed.
fn with_number(folder: &Path, name: &str, at: usize, number: f32) {
    let path = folder.join(WEIGHTS);
    let mut raw = read_raw(&path);
    raw.get_mut(name).expect("it is there").data[4 * at..4 * at + 4].copy_from_slice(&number.to_le_bytes());
    write_raw(&path, &raw);
}

#[test]
fn numbers_that_are_none_are_refused_with_their_tensor() {
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for name in ["lm_head.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"] {
            let folder = saved(&model(false), &SaveOptions::default());
            with_number(folder.path(), name, 5, number);
            let error = load_error(folder.path());
            assert!(error.contains(&format!("`{name}` holds a number that is NaN or infinite")), "{error}");
        }
    }
    // Too large for the type in memory.
    let folder = saved(&model(false), &SaveOptions::default());
    with_number(folder.path(), "lm_head.weight", 0, 70_000.0);
    assert!(Llama::load(folder.path(), &Device::flex()).is_ok());
    with_number(folder.path(), "lm_head.weight", 0, f32::MAX);
    let error = Llama::load_as(folder.path(), Dtype::Bfloat16, &Device::flex()).expect_err("rounds to infinity").to_string();
    assert!(error.contains("`lm_head.weight`") && error.contains("bfloat16"), "{error}");
}

#[test]
fn nothing_is_written_that_would_be_infinite() {
    struct Large;
    impl ParameterMap for Large {
        fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if name == "model.layers.0.mlp.gate_proj.weight" { param.map(|tensor| tensor.zeros_like().add_scalar(70_000.0)) } else { param }
        }
    }
    let large = model(false).map_parameters(&mut Large);
    let folder = tempfile::tempdir().expect("a folder");
    let error =
        large.save(folder.path(), &SaveOptions { dtype: Dtype::Float16, ..SaveOptions::default() }).expect_err("65504 is the largest");
    let error = error.to_string();
    assert!(error.contains("`model.layers.0.mlp.gate_proj.weight`") && error.contains("float16"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("is there").count(), 0, "no part of it is left");
    for dtype in [Dtype::Float32, Dtype::Bfloat16] {
        large.save(folder.path(), &SaveOptions { dtype, ..SaveOptions::default() }).expect("they hold it");
    }
}

#[test]
fn a_folder_of_before_safetensors_says_what_it_has() {
    for old in ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "tf_model.h5"] {
        let folder = saved(&model(false), &SaveOptions::default());
        std::fs::rename(folder.path().join(WEIGHTS), folder.path().join(old)).expect("renamed");
        let error = load_error(folder.path());
        assert!(error.contains(old) && error.contains("save_pretrained"), "{error}");
        std::fs::remove_file(folder.path().join(old)).expect("removed");
        let error = load_error(folder.path());
        assert!(error.contains("no model.safetensors") && error.contains("fetch"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_device_is_no_file_of_a_checkpoint() {
    for name in [WEIGHTS, "config.json", INDEX] {
        let folder = saved(&model(false), &SaveOptions::default());
        if name == INDEX {
            std::fs::remove_file(folder.path().join(WEIGHTS)).expect("removed");
        } else {
            std::fs::remove_file(folder.path().join(name)).expect("removed");
        }
        std::os::unix::fs::symlink("/dev/zero", folder.path().join(name)).expect("linked");
        let error = load_error(folder.path());
        assert!(error.contains(name) && error.contains("pipe or a device"), "{error}");
    }
}
