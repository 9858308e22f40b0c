//! Training on files of one's own without a recipe: the recipe that it amounts to, in few lines, with the defaults of TRL.

use std::path::Path;

use adpo_data::SftExample;
use toml::{Table, Value};

use crate::PipelineError;
use crate::corpus::Corpus;
use crate::recipe::{Override, Recipe, Source, with_values};
use crate::resources::Resources;

/// The greatest length of a row, in tokens, where the model has room for it.
const MAX_LENGTH: usize = 1024;
/// The greatest length of a response to a held-out prompt.
const MAX_NEW_TOKENS: usize = 128;

/// A checkpoint, files that are split already, and what to train.
#[derive(Debug, Clone)]
pub struct OwnData<'a> {
    /// The checkpoint, as a recipe names it.
    pub model: &'a str,
    /// An objective by its name in a recipe, such as `dpo`; without one, supervised fine-tuning.
    pub objective: Option<&'a str>,
    /// Files of pairs or triples, or of dialogues for fine-tuning. All of their rows are trained on.
    pub data: &'a [String],
    /// Files of held-out prompts. Without any, training ends the run.
    pub eval: &'a [String],
    /// The rank of adapters to train in place of all weights.
    pub lora_r: Option<usize>,
    /// Values in place of the defaults.
    pub overrides: &'a [Override],
}

impl OwnData<'_> {
    /// The recipe, and its text as a file would have it.
    ///
    /// # Errors
    /// [`PipelineError`] if the checkpoint has no configuration, if a file cannot be read, or for a value that does not fit.
    pub fn recipe(&self, resources: &Resources) -> Result<(Recipe, String), PipelineError> {
        let name = self.name();
        let problem = |problem: String| PipelineError::Recipe { recipe: name.clone(), problem };
        let table: Table = toml::from_str(&self.defaults(&name, resources)?).map_err(|e| problem(e.to_string()))?;
        let table = with_values(table, self.overrides).map_err(problem)?;
        let text = toml::to_string(&table).map_err(|e| problem(e.to_string()))?;
        Ok((Recipe::from_toml(&text, &name)?, text))
    }

    /// `dpo-pairs` for `dpo` on `data/pairs.jsonl`.
    fn name(&self) -> String {
        let file = self.data.first().and_then(|file| Path::new(file).file_name()).map(|name| name.to_string_lossy().into_owned());
        let stem = file.as_deref().and_then(|name| name.split('.').find(|part| !part.is_empty())).unwrap_or("data");
        let plain = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
        format!("{}-{}", self.objective.unwrap_or("sft"), stem.chars().map(plain).collect::<String>())
    }

    fn defaults(&self, name: &str, resources: &Resources) -> Result<String, PipelineError> {
        let limit = resources.config(self.model)?.max_position_embeddings;
        let max_new_tokens = MAX_NEW_TOKENS.min(limit / 2);
        let max_length = MAX_LENGTH.min(if self.eval.is_empty() { limit } else { limit - max_new_tokens });
        let (name, checkpoint, data) = (Value::from(name), Value::from(self.model), files(self.data));
        // Behind a toxic mark only the response that it is about is learnt; of other dialogues every one, as is usual for chat data.
        let marked = self.objective.is_none() && self.has_toxic_labels(resources)?;
        let mask = if self.objective.is_none() && !marked { ", mask = \"every_assistant_turn\"" } else { "" };
        let (section, learning_rate) = if self.objective.is_some() { ("preference", 1e-6) } else { ("sft", 2e-5) };
        // Adapters take ten times the learning rate.
        let learning_rate = if self.lora_r.is_some() { 10.0 * learning_rate } else { learning_rate };
        let mut lines = vec![
            format!("name = {name}"),
            "seeds = [42]".to_owned(),
            format!("base = {{ checkpoint = {checkpoint} }}"),
            format!("encoding = {{ max_length = {max_length}, over_length = \"truncate_prompt\"{mask} }}"),
            format!("[{section}]"),
            format!("sources = {data}"),
            format!("train = {{ num_train_epochs = 3, batch_size = 8, learning_rate = {learning_rate:e} }}"),
        ];
        lines.extend(self.lora_r.map(|r| format!("lora = {{ r = {r}, lora_alpha = {} }}", 2 * r)));
        match self.objective.map(Value::from) {
            None => lines.push(format!("mark_toxic = {marked}")),
            Some(objective) => {
                lines.extend(["[[policies]]".to_owned(), format!("name = {objective}"), format!("objective.{objective} = {{}}")]);
            }
        }
        if !self.eval.is_empty() {
            lines.extend([
                "[evaluate]".to_owned(),
                format!("sources = {}", files(self.eval)),
                "judge = \"embedded\"".to_owned(),
                "temperature = 0.7".to_owned(),
                format!("draw = {{ max_new_tokens = {max_new_tokens}, top_p = 0.95 }}"),
            ]);
        }
        Ok(lines.join("\n"))
    }

    fn has_toxic_labels(&self, resources: &Resources) -> Result<bool, PipelineError> {
        let corpus = Corpus::new(resources, 0);
        for file in self.data {
            let source = Source { file: Some(file.clone()), ..Source::default() };
            if corpus.any(&source, |example: &SftExample| example.toxic.is_some())? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn files(files: &[String]) -> Value {
    files.iter().map(|file| Value::from(Table::from_iter([("file".to_owned(), Value::from(file.as_str()))]))).collect::<Vec<_>>().into()
}
