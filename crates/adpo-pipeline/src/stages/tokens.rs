//! Rows as ids: encoded once, kept in the seed's folder under a name that is a hash of all that they depend on.

use adpo_data::{ControlToken, Encoder, TokenCache, TokenCacheWriter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::seed_run::SeedRun;
use crate::PipelineError;
use crate::resources::Checkpoint;

impl SeedRun<'_> {
    /// The encoded rows called `name`. `rows` says where they come from; `encode` pushes them one by one, the first time, and
    /// gives the counts that the cache keeps, to which the encoder's own are added as `encoding`.
    pub(super) fn tokens<T: Serialize + DeserializeOwned>(
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
        TokenCache::open_or_make(&self.stage("tokens"), name, &key, |cache| {
            eprintln!("{name}: encoding rows");
            let mut encoder = self.encoder(checkpoint, control);
            let mut counts = encode(&mut encoder, cache)?;
            counts["encoding"] = json!(encoder.report());
            Ok(counts)
        })
    }
}
