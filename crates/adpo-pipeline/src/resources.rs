//! What a program carries inside: the tiny base and the project's own dialogues, and where it finds the rest.

use std::path::{Path, PathBuf};

use adpo_data::{ChatTokenizer, ControlToken, write_folder};
use adpo_model::{Dtype, GgufFile, Llama, LlamaConfig, LoraConfig, SaveOptions};
use burn::tensor::Device;

use crate::PipelineError;
use crate::hub::Extent;
use crate::manifest::{hash_bytes, hash_file};
use crate::place::Place;
use crate::recipe::Source;

/// The files of a checkpoint that is part of the program.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedCheckpoint {
    /// `config.json`.
    pub config: &'static str,
    /// `model.safetensors`.
    pub weights: &'static [u8],
    /// `tokenizer.json`.
    pub tokenizer: &'static str,
    /// `tokenizer_config.json`.
    pub tokenizer_config: &'static str,
    /// `chat_template.jinja`.
    pub chat_template: &'static str,
}

impl EmbeddedCheckpoint {
    fn tokenizer(&self) -> Result<ChatTokenizer, PipelineError> {
        Ok(ChatTokenizer::from_parts(self.tokenizer, self.tokenizer_config, Some(self.chat_template))?)
    }
}

/// Whether a tokenizer has this token.
pub(crate) fn has_token(tokenizer: &ChatTokenizer, token: &str) -> Result<bool, PipelineError> {
    let (_, control) = tokenizer.clone().with_control_token(token)?;
    Ok(!control.added)
}

/// Where a run takes its inputs from.
#[derive(Debug, Clone)]
pub struct Resources {
    /// `embedded:tiny-base`.
    pub tiny_base: Option<EmbeddedCheckpoint>,
    /// `embedded:dialogues`, one JSON object per line.
    pub dialogues: Option<&'static str>,
    /// Below this folder data are found by their ids.
    pub data_dir: Option<PathBuf>,
    /// Whether models of the hub are taken from its cache alone, and never fetched; `HF_HUB_OFFLINE` says the same.
    pub offline: bool,
    /// Where models run.
    pub device: Device,
    /// Whether reports show the text of their worst cases, which is harmful, instead of redacting it.
    pub show_harmful: bool,
    /// Whether trainings write event files for TensorBoard beside their `metrics.jsonl`.
    pub tensorboard: bool,
    /// The commit that the program was built from, for the head of its reports.
    pub commit: Option<&'static str>,
}

impl Default for Resources {
    /// The CPU, and nothing embedded.
    fn default() -> Self {
        Self {
            tiny_base: None,
            dialogues: None,
            data_dir: None,
            offline: false,
            device: Device::flex(),
            show_harmful: false,
            tensorboard: false,
            commit: None,
        }
    }
}

/// The id of the embedded dialogues.
pub(crate) const DIALOGUES: &str = "embedded:dialogues";

/// The id of the embedded base.
pub(crate) const TINY_BASE: &str = "embedded:tiny-base";

/// A model with the tokenizer that belongs to it.
#[derive(Clone)]
pub(crate) struct Checkpoint {
    pub model: Llama,
    pub tokenizer: ChatTokenizer,
}

impl Checkpoint {
    pub(crate) fn load(folder: &Path, dtype: Dtype, device: &Device) -> Result<Self, PipelineError> {
        Ok(Self { model: Llama::load_as(folder, dtype, device)?, tokenizer: ChatTokenizer::from_folder(folder)? })
    }

    /// For sampling and scoring: adapters are merged, which makes every token cheaper.
    pub(crate) fn merged(self) -> Self {
        Self { model: self.model.merge_lora(), ..self }
    }

    /// Writes a model whole, or its adapters alone where it has some. The folder is the stage's output with all that is in it, so
    /// a killed attempt must leave nothing there.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), PipelineError> {
        write_folder(folder, |folder| {
            if self.model.lora().is_some() {
                self.model.save_adapter(folder)?;
                return Ok(self.tokenizer.save(folder)?);
            }
            self.save_as(folder, &SaveOptions { dtype: self.model.dtype(), ..SaveOptions::default() })
        })
    }

    pub(crate) fn save_as(&self, folder: &Path, options: &SaveOptions) -> Result<(), PipelineError> {
        // These models end sequences with the tokenizer's own id, whatever the base used.
        let model = self.model.clone().ending_at(self.tokenizer.eos_id());
        model.save(folder, options)?;
        Ok(self.tokenizer.save(folder)?)
    }

    /// Adds the control token where the checkpoint lacks it; the model then gets a row for it, or a fresh one.
    pub(crate) fn with_control_token(self, token: &str) -> Result<(Self, ControlToken), PipelineError> {
        let (ids, rows) = (self.tokenizer.vocab_size(), self.model.config().vocab_size);
        if ids > rows {
            return Err(PipelineError::Recipe {
                recipe: "[base]".into(),
                problem: format!("the tokenizer has ids up to {}, the model rows for {rows}; they do not belong together", ids - 1),
            });
        }
        let (tokenizer, control) = self.tokenizer.with_control_token(token)?;
        let model = if control.added { self.model.with_new_token(control.id) } else { self.model };
        Ok((Self { model, tokenizer }, control))
    }

    /// What is left once the control token is taken out again: its tokenizer entry goes, and its rows with it.
    ///
    /// # Errors
    /// [`PipelineError`] if the token is not the tokenizer's last.
    pub(crate) fn without_control_token(self, control: &ControlToken) -> Result<Self, PipelineError> {
        let tokenizer = self.tokenizer.without_control_token(control)?;
        Ok(Self { model: self.model.without_token(control.id), tokenizer })
    }
}

impl Resources {
    /// Loads a checkpoint by its name in a recipe, with weights of this type. A PEFT folder is loaded into the base that it names;
    /// adapters are f32.
    pub(crate) fn checkpoint(&self, name: &str, dtype: Dtype) -> Result<Checkpoint, PipelineError> {
        match self.adapters(name)? {
            None => self.whole(name, dtype),
            Some(adapters) => {
                let base = self.base_of(name, &adapters)?;
                self.with_adapters(name, &base, dtype)
            }
        }
    }

    /// Loads the adapters of this name into the model `base`; without a tokenizer of their own they have the base's.
    pub(crate) fn with_adapters(&self, name: &str, base: &str, dtype: Dtype) -> Result<Checkpoint, PipelineError> {
        if self.adapters(base)?.is_some() {
            return Err(PipelineError::file(
                Path::new(name),
                format!(
                    "its base `{base}` holds adapters itself, and adapters are never stacked; merge them first (`adpo export --merge`)"
                ),
            ));
        }
        let Place::Folder(folder) = self.place(name, Extent::Whole)? else {
            return Err(PipelineError::file(Path::new(name), "is no folder of adapters"));
        };
        let Checkpoint { model, tokenizer } = self.whole(base, dtype)?;
        let own = folder.join("tokenizer.json").exists();
        let tokenizer = if own { ChatTokenizer::from_folder(&folder)? } else { tokenizer };
        Ok(Checkpoint { model: model.load_adapter(&folder)?, tokenizer })
    }

    fn whole(&self, name: &str, dtype: Dtype) -> Result<Checkpoint, PipelineError> {
        match self.place(name, Extent::Whole)? {
            Place::Embedded(embedded) => {
                dtype.check_device(&self.device)?;
                let model = Llama::load_bytes(embedded.config, embedded.weights, &self.device)?.with_dtype(dtype);
                Ok(Checkpoint { model, tokenizer: embedded.tokenizer()? })
            }
            Place::Folder(folder) => Checkpoint::load(&folder, dtype, &self.device),
            Place::Gguf(path) => {
                // The tokenizer first: it is what a file is most often refused for.
                let tokenizer = gguf_tokenizer(&path)?;
                Ok(Checkpoint { model: GgufFile::open(&path)?.contents()?.load_as(dtype, &self.device)?, tokenizer })
            }
        }
    }

    /// A checkpoint's shape, without its weights.
    pub(crate) fn config(&self, name: &str) -> Result<LlamaConfig, PipelineError> {
        if let Some(adapters) = self.adapters(name)? {
            return self.config(&self.base_of(name, &adapters)?);
        }
        match self.place(name, Extent::Description)? {
            Place::Embedded(embedded) => Ok(LlamaConfig::from_json(embedded.config, name)?),
            Place::Folder(folder) => {
                let path = folder.join("config.json");
                let text = adpo_data::read_text(&path)?;
                Ok(LlamaConfig::from_json(&text, &path.display().to_string())?)
            }
            Place::Gguf(path) => Ok(GgufFile::open(&path)?.contents()?.config()?),
        }
    }

    /// A checkpoint's tokenizer, without its weights; adapters without one of their own have their base's.
    pub(crate) fn tokenizer(&self, name: &str) -> Result<ChatTokenizer, PipelineError> {
        match (self.place(name, Extent::Description)?, self.adapters(name)?) {
            (Place::Embedded(embedded), _) => embedded.tokenizer(),
            (Place::Folder(folder), Some(adapters)) if !folder.join("tokenizer.json").exists() => {
                self.tokenizer(&self.base_of(name, &adapters)?)
            }
            (Place::Folder(folder), _) => Ok(ChatTokenizer::from_folder(folder)?),
            (Place::Gguf(path), _) => gguf_tokenizer(&path),
        }
    }

    /// Whether a checkpoint's tokenizer has this token.
    pub(crate) fn knows_token(&self, name: &str, token: &str) -> Result<bool, PipelineError> {
        has_token(&self.tokenizer(name)?, token)
    }

    /// A hash of everything in the checkpoint.
    pub(crate) fn checkpoint_hash(&self, name: &str) -> Result<String, PipelineError> {
        match self.place(name, Extent::Whole)? {
            Place::Embedded(embedded) => {
                let mut all = embedded.weights.to_vec();
                for text in [embedded.config, embedded.tokenizer, embedded.tokenizer_config, embedded.chat_template] {
                    all.extend_from_slice(text.as_bytes());
                }
                Ok(hash_bytes(&all))
            }
            Place::Folder(folder) => {
                let io = || PipelineError::io(&folder);
                let mut files = std::fs::read_dir(&folder)
                    .map_err(io())?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(io())?;
                files.retain(|path| path.extension().is_some_and(|e| e == "safetensors" || e == "json" || e == "jinja"));
                files.sort();
                let hashes = files.iter().map(|path| hash_file(path)).collect::<Result<Vec<_>, _>>()?;
                let base = self.adapters(name)?.map(|adapters| self.base_of(name, &adapters).and_then(|base| self.checkpoint_hash(&base)));
                Ok(hash_bytes((hashes.concat() + &base.transpose()?.unwrap_or_default()).as_bytes()))
            }
            Place::Gguf(path) => Ok(hash_file(&path)?),
        }
    }

    /// The configuration of a checkpoint that is adapters.
    pub(crate) fn adapters(&self, name: &str) -> Result<Option<LoraConfig>, PipelineError> {
        match self.place(name, Extent::Description)? {
            Place::Folder(folder) => Ok(LoraConfig::from_folder(&folder)?),
            Place::Embedded(_) | Place::Gguf(_) => Ok(None),
        }
    }

    /// The name of the base that the adapters in `name` lie on.
    fn base_of(&self, name: &str, adapters: &LoraConfig) -> Result<String, PipelineError> {
        let problem = |problem: String| PipelineError::file(&Path::new(name).join("adapter_config.json"), problem);
        let Some(base) = &adapters.base_model_name_or_path else {
            return Err(problem(
                "names no base; write its folder as `base_model_name_or_path`, or give it to `adpo export` as `--base`".into(),
            ));
        };
        match self.place(base, Extent::Description) {
            Ok(_) => Ok(base.clone()),
            Err(absent) => {
                // In a run folder that was moved, the SFT model is where it was beside the policy, and likely the one that is meant.
                let sft = Path::new(name).join("../../../sft/model");
                let likely = sft.canonicalize().map(|sft| format!("; it may be {}", sft.display())).unwrap_or_default();
                Err(problem(format!(
                    "`base_model_name_or_path`: {absent}; write the base's folder there, or give it to `adpo export` as `--base`{likely}"
                )))
            }
        }
    }

    /// The file behind a source of rows.
    pub(crate) fn data_file(&self, source: &Source) -> Result<PathBuf, PipelineError> {
        let problem = |problem: String| PipelineError::Data { id: source.name().to_owned(), problem };
        if let Some(file) = &source.file {
            let path = PathBuf::from(file);
            return if path.is_file() {
                Ok(path)
            } else {
                Err(problem("is no file; check the path, relative to the working folder".into()))
            };
        }
        let folder = self.data_dir.as_ref().ok_or_else(|| problem("no data folder is known; pass --data-dir or set ADPO_DATA".into()))?;
        let path = folder.join(source.name());
        if path.is_file() {
            Ok(path)
        } else {
            Err(problem(format!("{} is not there; check --data-dir and the recipe's id", path.display())))
        }
    }
}

fn gguf_tokenizer(path: &Path) -> Result<ChatTokenizer, PipelineError> {
    let parts = GgufFile::open(path)?.contents()?.tokenizer()?;
    ChatTokenizer::from_parts(&parts.tokenizer, &parts.tokenizer_config, Some(&parts.chat_template))
        .map_err(|problem| PipelineError::file(path, problem))
}
