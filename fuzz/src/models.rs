//! Targets that need a model: checkpoints, adapters, GGUF, recipes, requests to a server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use adpo_data::ChatTokenizer;
use adpo_model::{Dtype, GgufFile, Llama, LlamaConfig, LoraConfig, SaveOptions, TargetModules, TrainableTokens};
use adpo_pipeline::{BaseRecipe, Override, Recipe, Resources, ServeOptions, serve};
use burn::tensor::Device;
use serde_json::{Value, json};

use crate::target::{Target, file, read, with_folder, write};

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "safetensors", run: safetensors, seeds: || vec![small().weights.clone(), small().half.clone()] },
    Target { name: "config", run: config, seeds: config_seeds },
    Target { name: "index", run: index, seeds: || vec![small().index.clone()] },
    Target { name: "adapter", run: adapter, seeds: adapter_seeds },
    Target { name: "gguf", run: gguf, seeds: || vec![file("tests/fixtures/tiny-gguf/tiny.gguf")] },
    Target { name: "recipe", run: recipe, seeds: recipe_seeds },
    Target { name: "base_recipe", run: base_recipe, seeds: || vec![file("recipes/tiny-base.toml")] },
    Target { name: "chat_request", run: |body| request("/v1/chat/completions", body), seeds: chat_seeds },
    Target { name: "completion_request", run: |body| request("/v1/completions", body), seeds: completion_seeds },
];

/// Two layers of 16 numbers, in all the ways in which it can lie on a disk.
struct Small {
    config: String,
    model: Llama,
    weights: Vec<u8>,
    half: Vec<u8>,
    index: Vec<u8>,
    shards: Vec<(String, Vec<u8>)>,
    adapter: [Vec<u8>; 2],
}

fn small() -> &'static Small {
    static SMALL: OnceLock<Small> = OnceLock::new();
    SMALL.get_or_init(|| {
        let config = json!({
            "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
            "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": false,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16},
        });
        let config = config.to_string();
        let model = Llama::init(&LlamaConfig::from_json(&config, "small").expect("is supported"), 7, &Device::flex());
        let saved = |dtype, max_shard_bytes| {
            let folder = tempfile::tempdir().expect("a folder");
            model.save(folder.path(), &SaveOptions { dtype, max_shard_bytes }).expect("is saved");
            folder
        };
        let bytes = |folder: &Path, name: &str| std::fs::read(folder.join(name)).expect("was saved");
        let (whole, half) = (saved(Dtype::Float32, None), saved(Dtype::Bfloat16, None));
        let sharded = saved(Dtype::Float32, Some(4000));
        let names =
            std::fs::read_dir(sharded.path()).expect("a folder").flatten().map(|entry| entry.file_name().into_string().expect("ASCII"));
        let shards = names.filter(|name| name.ends_with(".safetensors")).map(|name| (name.clone(), bytes(sharded.path(), &name))).collect();
        let adapters = LoraConfig {
            r: 2,
            lora_alpha: 4.0,
            use_rslora: false,
            target_modules: TargetModules::Names(vec!["q_proj".to_owned(), "v_proj".to_owned()]),
            trainable_token_indices: TrainableTokens { embed_tokens: vec![31], lm_head: vec![31] },
            base_model_name_or_path: None,
        };
        let folder = tempfile::tempdir().expect("a folder");
        model.clone().with_lora(&adapters, 3).and_then(|model| model.save_adapter(folder.path())).expect("adapters are saved");
        Small {
            weights: bytes(whole.path(), "model.safetensors"),
            half: bytes(half.path(), "model.safetensors"),
            index: bytes(sharded.path(), "model.safetensors.index.json"),
            shards,
            adapter: ADAPTER.map(|name| bytes(folder.path(), name)),
            config,
            model,
        }
    })
}

fn safetensors(bytes: &[u8]) -> bool {
    let small = small();
    read(Llama::load_bytes(&small.config, bytes, &Device::flex()), "");
    with_folder(|folder| {
        write(&folder.join("config.json"), small.config.as_bytes());
        drop(std::fs::remove_file(folder.join("model.safetensors.index.json")));
        write(&folder.join("model.safetensors"), bytes);
        read(Llama::load_as(folder, Dtype::Bfloat16, &Device::flex()), &folder.display().to_string()).is_some()
    })
}

fn config(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some(config) = read(LlamaConfig::from_json(&text, "this-config.json"), "this-config.json") else { return false };
    let _ = config.num_parameters();
    let again = LlamaConfig::from_json(&config.to_json(), "written").expect("what was read can be written");
    assert_eq!(again, config, "a configuration comes back as another");
    read(Llama::load_bytes(&text, &small().weights, &Device::flex()), "");
    true
}

fn config_seeds() -> Vec<Vec<u8>> {
    let folders = ["llama2-7b", "llama2-mha", "llama3-gqa-tied-sharded-bf16", "families/qwen2", "families/qwen3"];
    let files = folders.map(|folder| file(&format!("tests/fixtures/{folder}/config.json")));
    files.into_iter().chain([small().config.clone().into_bytes()]).collect()
}

fn index(bytes: &[u8]) -> bool {
    let small = small();
    with_folder(|folder| {
        let folder = &folder.join("sharded");
        std::fs::create_dir_all(folder).expect("made");
        write(&folder.join("config.json"), small.config.as_bytes());
        for (name, shard) in &small.shards {
            write(&folder.join(name), shard);
        }
        write(&folder.join("model.safetensors.index.json"), bytes);
        read(Llama::load(folder, &Device::flex()), &folder.display().to_string()).is_some()
    })
}

const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The first byte says which of the two files the rest is.
fn adapter(bytes: &[u8]) -> bool {
    let Some((which, bytes)) = bytes.split_first() else { return false };
    let small = small();
    with_folder(|folder| {
        for (number, name) in ADAPTER.iter().enumerate() {
            let fuzzed = number == usize::from(*which) % 2;
            write(&folder.join(name), if fuzzed { bytes } else { &small.adapter[number] });
        }
        if let Some(Some(config)) = read(LoraConfig::from_folder(folder), "adapter_config.json") {
            drop(config.modules(small.model.config()));
        }
        read(small.model.clone().load_adapter(folder), "").map(Llama::merge_lora).is_some()
    })
}

fn adapter_seeds() -> Vec<Vec<u8>> {
    let peft = file("tests/fixtures/llama2-mha-lora/adapter_config.json");
    let [config, weights] = small().adapter.clone();
    [(0, config), (1, weights), (0, peft)].into_iter().map(|(which, bytes)| [vec![which], bytes].concat()).collect()
}

fn gguf(bytes: &[u8]) -> bool {
    with_folder(|folder| {
        let path = folder.join("model.gguf");
        write(&path, bytes);
        let Some(file) = read(GgufFile::open(&path), "model.gguf") else { return false };
        let Some(gguf) = read(file.contents(), "model.gguf") else { return false };
        read(gguf.config(), "model.gguf");
        if let Some(parts) = read(gguf.tokenizer(), "model.gguf") {
            drop(ChatTokenizer::from_parts(&parts.tokenizer, &parts.tokenizer_config, Some(&parts.chat_template)));
        }
        read(gguf.load_as(Dtype::Bfloat16, &Device::flex()), "model.gguf").is_some()
    })
}

/// A recipe; a last line behind `#set` is what a command line puts into it.
fn recipe(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (text, set) = text.rsplit_once("\n#set ").unwrap_or((&text, ""));
    let Some(recipe) = read(Recipe::from_toml(text, "this-recipe"), "this-recipe") else { return false };
    let written = toml::to_string(&recipe).expect("what was read can be written");
    let again = Recipe::from_toml(&written, "written").expect("what was written can be read");
    assert_eq!(toml::to_string(&again).expect("once more"), written, "a recipe comes back as another");
    if let Ok(set) = set.trim().parse::<Override>() {
        let name = recipe.name.clone();
        read(recipe.with_overrides(&[set]), &name);
    }
    true
}

fn recipe_seeds() -> Vec<Vec<u8>> {
    let files = ["hh-tiny", "llama2-7b", "llama2-7b-lora", "smollm2", "smollm2-look"].map(|name| file(&format!("recipes/{name}.toml")));
    let set = |mut recipe: Vec<u8>, set: &str| {
        recipe.extend(format!("\n#set {set}\n").into_bytes());
        recipe
    };
    let quickstart = file("crates/adpo-cli/assets/quickstart.toml");
    let own = "name = \"mine\"\nseeds = [1]\nbase = { checkpoint = \"m\" }\n[preference]\nsources = [{ file = \"a.jsonl\" }]\n\
               [[policies]]\nname = \"dpo\"\nobjective.dpo = { beta = 0.1 }\n";
    let sets = [
        set(quickstart.clone(), "beta=0.1,0.3"),
        set(quickstart, "sft.train.learning_rate=5e-4"),
        set(own.into(), "policies.dpo.train.max_steps=7"),
    ];
    files.into_iter().chain(sets).collect()
}

fn base_recipe(bytes: &[u8]) -> bool {
    with_folder(|folder| {
        let path = folder.join("base.toml");
        write(&path, bytes);
        read(BaseRecipe::from_file(&path), "base.toml").is_some()
    })
}

/// A server of the two-layer model in this process, which draws two tokens at most.
fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        let (told, ready) = mpsc::channel();
        let options = ServeOptions { port: 0, max_new_tokens: 2, toxic: true, ..ServeOptions::default() };
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/llama2-mha");
        std::thread::spawn(move || {
            serve(&Resources::default(), model, options, |address| told.send(address).expect("somebody waits for it"))
        });
        ready.recv().expect("the server starts")
    })
}

thread_local!(static CONNECTION: std::cell::RefCell<Option<TcpStream>> = const { std::cell::RefCell::new(None) });

/// A request with this body is answered, or refused with a reason.
fn request(path: &str, body: &[u8]) -> bool {
    let body = named(body);
    let (status, text) = CONNECTION.with_borrow_mut(|connection| {
        for _ in 0..2 {
            let mut stream = connection.take().unwrap_or_else(connect);
            // One that was kept may be closed by now.
            if let Ok(answer) = exchange(&mut stream, path, &body) {
                *connection = Some(stream);
                return answer;
            }
        }
        panic!("the server hangs up");
    });
    assert!([200, 400, 404, 413].contains(&status), "status {status}: {text}");
    if status != 200 {
        let refusal: Value = serde_json::from_str(&text).expect("a refusal is JSON");
        assert!(refusal["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}");
    }
    status == 200
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect(server()).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_mins(1))).and_then(|()| stream.set_nodelay(true)).expect("it can be set");
    stream
}

/// The seeds call the model `m`, which has the name of a folder here.
fn named(body: &[u8]) -> Vec<u8> {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/llama2-mha");
    match std::str::from_utf8(body) {
        Ok(text) => text.replace(r#""model":"m""#, &format!(r#""model":"{model}""#)).into_bytes(),
        Err(_) => body.to_vec(),
    }
}

fn exchange(stream: &mut TcpStream, path: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part)?;
        if read == 0 {
            return Err(ended());
        }
        answer.extend(&part[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, said)) = text.split_once("\r\n\r\n") else { continue };
        let whole = if head.to_lowercase().contains("transfer-encoding: chunked") {
            said.ends_with("0\r\n\r\n")
        } else {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            answer.len() >= head.len() + 4 + length.ok_or_else(ended)?
        };
        if whole {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(ended)?;
            return Ok((status, said.to_owned()));
        }
    }
}

fn bodies(bodies: &[Value]) -> Vec<Vec<u8>> {
    bodies.iter().map(|body| body.to_string().into_bytes()).collect()
}

fn chat_seeds() -> Vec<Vec<u8>> {
    let messages = json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Paint?"}]}]);
    bodies(&[
        json!({"model": "m", "messages": [{"role": "user", "content": "Paint?"}], "max_tokens": 1, "temperature": 0, "seed": 7}),
        json!({"model": "m", "messages": messages, "max_completion_tokens": 2, "n": 2, "stream": true, "stream_options": {"include_usage": true},
            "stop": ["x", "yz"], "top_p": 0.9, "top_k": 5, "user": "me", "tools": [], "frequency_penalty": 0}),
        json!({"model": "m", "messages": [{"role": "user", "content": "Paint?"}], "max_tokens": 2, "logprobs": true, "top_logprobs": 3, "toxic": true}),
    ])
}

fn completion_seeds() -> Vec<Vec<u8>> {
    bodies(&[
        json!({"model": "m", "prompt": "Once upon a time", "max_tokens": 2, "temperature": 0.5, "seed": -3, "stop": "\n"}),
        json!({"model": "m", "prompt": [[5, 6, 7], [8]], "max_tokens": 0, "echo": true, "logprobs": 2}),
        json!({"model": "m", "prompt": [5, 6, 7], "max_tokens": 1, "n": 3, "stream": true, "best_of": 1, "suffix": ""}),
    ])
}
