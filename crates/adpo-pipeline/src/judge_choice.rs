//! Who judges: one description for recipes and command lines, and the judge that it stands for.

use std::path::Path;
use std::str::FromStr;

use adpo_eval::{ClassifierOptions, EmbeddedJudge, EncoderJudge, EndpointOptions, EvalError, Judge, LlmJudge, RequestLimits, rubric};
use adpo_model::Dtype;
use serde::{Deserialize, Serialize};

use crate::llama_chat::LlamaChat;
use crate::manifest::hash_bytes;
use crate::minilm::MiniLm;
use crate::recipe::MOST_TOKENS;
use crate::resources::Resources;
use crate::{PipelineError, endpoints};

/// Who judges.
///
/// In a recipe: `"embedded"`, `{ minilm = { encoder = "…" } }`, `{ llama = { checkpoint = "…", max_new_tokens = 512 } }`,
/// `{ endpoint = { urls = ["http://host:8000/v1"], model = "…" } }`,
/// `{ classifier = { urls = ["http://host:8080/predict"], model = "…", toxic_labels = ["toxic"] } }`.
/// On a command line (see [`JudgeChoice::from_str`]) the same, and shorter forms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JudgeChoice {
    /// The embedded judge of that stage: the annotator in `annotate`, the evaluator elsewhere.
    #[default]
    Embedded,
    /// Heads of ours over the embeddings of all-MiniLM-L6-v2: an instrument that has no feature and no weight of the embedded judge's.
    Minilm {
        /// The encoder's folder, as sentence-transformers lays it out.
        encoder: String,
    },
    /// A Llama checkpoint with the rubric prompt, greedy.
    Llama {
        /// A checkpoint with a chat template, by its name.
        checkpoint: String,
        /// Longest verdict in tokens.
        max_new_tokens: usize,
        /// The type that it is loaded in and computes in.
        #[serde(default, skip_serializing_if = "Dtype::is_float32")]
        dtype: Dtype,
    },
    /// A chat model behind OpenAI-compatible endpoints, with the rubric prompt at temperature 0.
    Endpoint(EndpointOptions),
    /// Toxicity by a text classifier behind endpoints, everything else by the embedded judge of that stage.
    Classifier(ClassifierOptions),
}

/// Longest verdict of a checkpoint named on the command line.
const VERDICT_TOKENS: usize = 512;

const FORMS: &str = "use `embedded`, `minilm:FOLDER`, `llama:FOLDER`, `http://host:port/v1#MODEL` (several URLs with commas between them), or a table as in \
                     a recipe: `{ endpoint = { urls = [\"http://host:8000/v1\"], model = \"…\", api_key_env = \"MY_KEY\" } }`";

impl FromStr for JudgeChoice {
    type Err = String;

    /// `embedded`, `minilm:FOLDER`, `llama:FOLDER`, `http://host:port/v1[,http://…]#MODEL`, or a recipe's inline table.
    fn from_str(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Table {
            judge: JudgeChoice,
        }
        let problem = |problem: &str| Err(format!("`{text}` {problem}; {FORMS}"));
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        if text.starts_with('{') {
            return match toml::from_str::<Table>(&format!("judge = {text}")) {
                Ok(table) => Ok(table.judge),
                Err(error) => problem(&format!("is no judge ({})", error.message())),
            };
        }
        if let Some(folder) = text.strip_prefix("minilm:") {
            return match folder {
                "" => problem("names no folder"),
                folder => Ok(Self::Minilm { encoder: folder.to_owned() }),
            };
        }
        if let Some(folder) = text.strip_prefix("llama:") {
            return match folder {
                "" => problem("names no folder"),
                folder => Ok(Self::Llama { checkpoint: folder.to_owned(), max_new_tokens: VERDICT_TOKENS, dtype: Dtype::Float32 }),
            };
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return match text.split_once('#') {
                Some((urls, model)) if !model.is_empty() => {
                    Ok(Self::Endpoint(EndpointOptions::new(urls.split(',').map(str::to_owned).collect(), model)))
                }
                _ => problem("names no model after `#`"),
            };
        }
        problem("is no judge that is known")
    }
}

impl JudgeChoice {
    /// The judge itself. Responses of endpoints are kept in the folder `cache` and found there again.
    ///
    /// # Errors
    /// [`PipelineError`] if the judge cannot be loaded, its endpoint options cannot be used, or this build has no HTTP.
    pub fn open(
        &self,
        resources: &Resources,
        embedded: fn() -> Result<EmbeddedJudge, EvalError>,
        cache: &Path,
    ) -> Result<Box<dyn Judge>, PipelineError> {
        match self {
            Self::Embedded => Ok(Box::new(embedded()?)),
            Self::Minilm { encoder } => Ok(Box::new(EncoderJudge::minilm(Box::new(MiniLm::load(resources, encoder)?))?)),
            Self::Llama { checkpoint, max_new_tokens, dtype } => {
                Ok(Box::new(LlmJudge::new(LlamaChat::load(resources, checkpoint, *max_new_tokens, *dtype)?)))
            }
            Self::Endpoint(options) => endpoints::chat_judge(options, cache),
            Self::Classifier(options) => endpoints::classifier_judge(options, embedded()?, cache),
        }
    }

    /// A hash of what decides the verdicts; no large model is loaded for it.
    pub(crate) fn fingerprint(
        &self,
        resources: &Resources,
        embedded: fn() -> Result<EmbeddedJudge, EvalError>,
    ) -> Result<String, PipelineError> {
        let parts = match self {
            Self::Embedded => vec![embedded()?.fingerprint()],
            Self::Minilm { encoder } => vec![EncoderJudge::minilm_fingerprint(&MiniLm::fingerprint_of(encoder)?)],
            Self::Llama { checkpoint, max_new_tokens, dtype } => {
                vec![LlamaChat::fingerprint_of(resources, checkpoint, *max_new_tokens, *dtype)?, rubric::fingerprint()]
            }
            Self::Endpoint(_) => vec![self.identity().written(), rubric::fingerprint()],
            Self::Classifier(_) => vec![self.identity().written(), embedded()?.fingerprint()],
        };
        Ok(hash_bytes(parts.join("\n").as_bytes()))
    }

    /// Refuses numbers that no judge can have.
    pub(crate) fn check(&self) -> Result<(), String> {
        let tokens = match self {
            Self::Llama { max_new_tokens, .. } => Some(("max_new_tokens", *max_new_tokens)),
            Self::Endpoint(options) => Some(("max_tokens", options.max_tokens)),
            Self::Embedded | Self::Minilm { .. } | Self::Classifier(_) => None,
        };
        match tokens.filter(|(_, tokens)| !(1..=MOST_TOKENS).contains(tokens)) {
            Some((field, tokens)) => Err(format!("`{field}` is {tokens}; it lies between 1 and 2^24")),
            None => Ok(()),
        }
    }

    fn written(&self) -> String {
        // Options that were read from a recipe can be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What decides the verdicts: where a model is served, with which key and how patiently it is asked does not.
    fn identity(&self) -> Self {
        match self {
            Self::Endpoint(options) => {
                let max_tokens = options.max_tokens;
                Self::Endpoint(EndpointOptions { max_tokens, ..EndpointOptions::new(Vec::new(), &options.model) })
            }
            Self::Classifier(options) => Self::Classifier(ClassifierOptions {
                urls: Vec::new(),
                api_key_env: None,
                limits: RequestLimits::default(),
                ..options.clone()
            }),
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> JudgeChoice {
        text.parse().expect(text)
    }

    #[test]
    fn each_form_of_the_command_line_is_the_judge_that_it_says() {
        assert_eq!(parsed("embedded"), JudgeChoice::Embedded);
        assert_eq!(parsed("minilm:models/minilm"), JudgeChoice::Minilm { encoder: "models/minilm".to_owned() });
        let llama = |dtype| JudgeChoice::Llama { checkpoint: "models/judge".to_owned(), max_new_tokens: 512, dtype };
        assert_eq!(parsed("llama:models/judge"), llama(Dtype::Float32));
        assert_eq!(
            parsed(r#"{ llama = { checkpoint = "models/judge", max_new_tokens = 512, dtype = "bfloat16" } }"#),
            llama(Dtype::Bfloat16)
        );
        let urls = ["http://a:8000/v1", "https://b/v1"].map(str::to_owned).to_vec();
        assert_eq!(
            parsed("http://a:8000/v1,https://b/v1#org/model:7b"),
            JudgeChoice::Endpoint(EndpointOptions::new(urls.clone(), "org/model:7b"))
        );
        let table = r#"{ endpoint = { urls = ["http://a:8000/v1", "https://b/v1"], model = "m", api_key_env = "KEY", limits = { attempts = 2 } } }"#;
        let JudgeChoice::Endpoint(options) = parsed(table) else { panic!("an endpoint") };
        assert_eq!((options.urls, options.api_key_env.as_deref(), options.limits.attempts), (urls, Some("KEY"), 2));
        let JudgeChoice::Classifier(options) = parsed(r#"{ classifier = { urls = ["http://a"], model = "m", toxic_labels = ["toxic"] } }"#)
        else {
            panic!("a classifier")
        };
        assert_eq!((options.threshold, options.context), (0.5, false));
    }

    #[test]
    fn what_is_no_judge_is_refused_with_the_forms_that_are() {
        let wrong = [
            "",
            "gpt",
            "llama:",
            "minilm",
            "minilm:",
            "http://a:8000/v1",
            "http://a:8000/v1#",
            "{",
            "{ endpoint = { urls = [\"http://a\"] } }",
            "{ endpoint = { urls = [\"http://a\"], model = \"m\", retries = 3 } }",
            "{ classifier = { urls = [\"http://a\"], model = \"m\" } }",
        ];
        for text in wrong {
            let error = text.parse::<JudgeChoice>().expect_err(text);
            assert!(error.contains("http://host:port/v1#MODEL"), "{error}");
        }
    }

    #[test]
    fn a_judge_that_moves_to_another_address_is_the_same_judge() {
        let identity = |text: &str| parsed(text).identity();
        assert_eq!(identity("http://a/v1#m"), identity(r#"{ endpoint = { urls = ["http://b/v1"], model = "m", api_key_env = "K" } }"#));
        assert_ne!(identity("http://a/v1#m"), identity("http://a/v1#n"));
        assert_ne!(identity("http://a/v1#m"), identity(r#"{ endpoint = { urls = ["http://a/v1"], model = "m", max_tokens = 9 } }"#));
    }

    #[test]
    fn choices_are_written_into_the_resolved_recipe_and_read_back() {
        #[derive(Serialize, Deserialize)]
        struct Recipe {
            judge: JudgeChoice,
        }
        for text in [
            "embedded",
            "minilm:x",
            "llama:x",
            "http://a/v1#m",
            r#"{ classifier = { urls = ["http://a"], model = "m", toxic_labels = ["t"] } }"#,
        ] {
            let written = toml::to_string(&Recipe { judge: parsed(text) }).expect("it can be written");
            assert_eq!(toml::from_str::<Recipe>(&written).expect("it can be read").judge, parsed(text));
        }
    }
}
