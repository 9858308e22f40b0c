//! Refusals, as OpenAI writes them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::PipelineError;

/// Why a request is not answered.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    message: String,
    /// The field that is to blame.
    field: Option<String>,
    code: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), field: None, code: None }
    }

    /// A field whose value cannot be used.
    pub(super) fn field(name: &str, problem: impl std::fmt::Display) -> Self {
        Self { field: Some(name.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, format!("`{name}` {problem}")) }
    }

    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(super) fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.field, "code": self.code } })
    }
}

impl From<PipelineError> for Refusal {
    /// What cannot be encoded is the request's fault: the model itself was loaded.
    fn from(error: PipelineError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}
