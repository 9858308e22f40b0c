//! Rows as ids: encoded once, kept in the seed's folder under a name that is a hash of all that they depend on.

use adpo_data::{ControlToken, EncodeReport, EncodedRows, Encoder, TokenCache, TokenCacheWriter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::seed_run::SeedRun;
use crate::PipelineError;
use crate::resources::Checkpoint;

impl SeedRun<'_> {
    /// The encoded rows called `name`. `rows` says where they come from; `encode` pushes them one by one, the first time, and
    /// gives the counts that the cache keeps, to which the encoder's own are added as `encoding`. That no row is left is an error.
    pub(super) fn tokens<T: Clone + Serialize + DeserializeOwned>(
        &self,
        name: &str,
        (checkpoint, control): (&Checkpoint, Option<&ControlToken>),
        rows: &impl Serialize,
        encode: impl FnOnce(&mut Encoder<'_>, &mut TokenCacheWriter<'_, T>) -> Result<Value, PipelineError>,
    ) -> Result<TokenCache<T>, PipelineError> {
        let key = json!({
            "tokenizer": checkpoint.tokenizer.content_hash(),
            "encoding": self.encoding_options(control),
            "rows": rows,
        });
        let mut encoded = false;
        let tokens = TokenCache::open_or_make(&self.stage("tokens"), name, &key, |cache| {
            log::info!("{name}: encoding rows");
            encoded = true;
            let mut encoder = self.encoder(checkpoint, control);
            let mut counts = encode(&mut encoder, cache)?;
            counts["encoding"] = json!(encoder.report());
            Ok::<_, PipelineError>(counts)
        })?;
        if !encoded {
            log::debug!("{name}: rows are encoded already, and nothing changed that their ids depend on");
        }
        if tokens.is_empty() {
            let report: EncodeReport = serde_json::from_value(tokens.report()["encoding"].clone()).unwrap_or_default();
            let reasons = report.left_out().unwrap_or_else(|| "there were none".to_owned());
            return Err(PipelineError::stage(
                name,
                format!(
                    "no row can be trained on: {reasons}. `encoding.max_length` is {}; raise it, or set `encoding.over_length = \
                     \"truncate_prompt\"`, if length is the reason",
                    self.recipe.encoding.max_length
                ),
            ));
        }
        Ok(tokens)
    }
}
