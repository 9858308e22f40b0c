//! Judges over HTTP (feature `http`); without the feature, an error that says how to get it.

use std::path::Path;

use adpo_eval::{ClassifierOptions, EmbeddedJudge, EndpointOptions, Judge};

use crate::PipelineError;

#[cfg(feature = "http")]
pub(crate) fn chat_judge(options: &EndpointOptions, cache: &Path) -> Result<Box<dyn Judge>, PipelineError> {
    let endpoint = adpo_eval::ChatEndpoint::open(options, Some(&cache.join("chat.jsonl")))?;
    Ok(Box::new(adpo_eval::LlmJudge::new(endpoint)))
}

#[cfg(feature = "http")]
pub(crate) fn classifier_judge(options: &ClassifierOptions, rest: EmbeddedJudge, cache: &Path) -> Result<Box<dyn Judge>, PipelineError> {
    Ok(Box::new(adpo_eval::ClassifierJudge::open(options, rest, Some(&cache.join("classifier.jsonl")))?))
}

#[cfg(not(feature = "http"))]
pub(crate) fn chat_judge(options: &EndpointOptions, _: &Path) -> Result<Box<dyn Judge>, PipelineError> {
    Err(no_http(&options.model))
}

#[cfg(not(feature = "http"))]
pub(crate) fn classifier_judge(options: &ClassifierOptions, _: EmbeddedJudge, _: &Path) -> Result<Box<dyn Judge>, PipelineError> {
    Err(no_http(&options.model))
}

#[cfg(not(feature = "http"))]
fn no_http(model: &str) -> PipelineError {
    let problem = "is asked over HTTP, which is not in this build; build with the feature `http`".to_owned();
    PipelineError::Judge { judge: model.to_owned(), problem }
}
