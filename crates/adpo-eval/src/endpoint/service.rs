//! Requests with a cache: what was answered once is not asked again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::options::RequestLimits;
use super::pool::{Job, Pool};
use crate::error::EvalError;

/// Endpoints that answer requests with `T`s, and the answers so far.
pub(super) struct Service<T> {
    pub(super) pool: Pool,
    cache: Option<Cache<T>>,
    decode: fn(&str) -> Result<T, String>,
}

impl<T: Serialize + DeserializeOwned + Clone + PartialEq + Send> Service<T> {
    pub(super) fn open(
        urls: &[String],
        key_env: Option<&str>,
        limits: &RequestLimits,
        cache: Option<&Path>,
        decode: fn(&str) -> Result<T, String>,
    ) -> Result<Self, EvalError> {
        Ok(Self { pool: Pool::new(urls, key_env, limits)?, cache: cache.map(Cache::open).transpose()?, decode })
    }

    /// One response for each body, in order. `scope` names everything besides the body that decides a response.
    ///
    /// Equal bodies are asked once. Only responses are kept; errors are asked again by the next call.
    pub(super) fn ask(&self, scope: &str, bodies: Vec<String>) -> Vec<Result<T, String>> {
        let keys: Vec<String> = bodies.iter().map(|body| content_hash(scope, body)).collect();
        let mut known: BTreeMap<&str, Result<T, String>> = BTreeMap::new();
        let mut jobs: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, key) in keys.iter().enumerate() {
            match self.cache.as_ref().and_then(|cache| cache.get(key)) {
                Some(response) => drop(known.insert(key, Ok(response))),
                None => drop(jobs.entry(key).or_insert(place)),
            }
        }
        // In the order of the bodies, so that a run that is cut short has done the first ones.
        let mut open: Vec<usize> = jobs.into_values().collect();
        open.sort_unstable();
        let mut bodies = bodies;
        let jobs: Vec<Job> = open.iter().map(|&place| Job { key: keys[place].clone(), body: std::mem::take(&mut bodies[place]) }).collect();
        self.pool.run(&jobs, self.decode, |job, outcome| {
            if let (Some(cache), Ok(response)) = (&self.cache, &outcome) {
                cache.put(&jobs[job].key, response);
            }
            known.insert(&keys[open[job]], outcome);
            ControlFlow::Continue(())
        });
        let response = |key: &String| known.get(key.as_str()).cloned().unwrap_or_else(|| Err("the request was lost".to_owned()));
        keys.iter().map(response).collect()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.cache.as_ref().map(Cache::warnings).unwrap_or_default();
        warnings.extend(self.pool.warnings());
        warnings
    }
}

/// SHA-256 in hexadecimal.
fn content_hash(scope: &str, body: &str) -> String {
    hex::encode(Sha256::digest(format!("{scope}\n{body}")))
}
