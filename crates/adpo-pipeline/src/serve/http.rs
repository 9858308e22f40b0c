//! HTTP: who may ask, what is turned away before anything is drawn, and how answers go out.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Server;
use super::answer::Answer;
use super::engine::{Event, Row};
use super::error::Refusal;
use super::request::{Ask, Endpoint};

/// Bytes of a request's body.
const LARGEST_BODY: usize = 1 << 20;
/// Until all of it has come.
const BODY_TIME: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct App {
    server: Arc<Server>,
    jobs: SyncSender<Vec<Row>>,
}

/// Listens until the program ends.
pub(super) fn listen(
    listener: TcpListener,
    server: Arc<Server>,
    jobs: SyncSender<Vec<Row>>,
    ready: impl FnOnce(SocketAddr),
) -> std::io::Result<()> {
    let app = App { server, jobs };
    let router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(|app, request| answer(Endpoint::Chat, app, request)))
        .route("/v1/completions", post(|app, request| answer(Endpoint::Completions, app, request)))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is no such path; see /v1/models"))
        .method_not_allowed_fallback(async || Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path is asked in another way"))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), with_key))
        .with_state(app);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        ready(listener.local_addr()?);
        axum::serve(listener, router).await
    })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        with_json(self.status, &self.json())
    }
}

fn with_json(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

async fn with_key(State(app): State<App>, request: Request, next: Next) -> Response {
    let given = |headers: &HeaderMap| Some(headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?.to_owned());
    if let Some(key) = &app.server.options.api_key
        && !given(request.headers()).is_some_and(|given| key.is(&given))
    {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "the API key is missing or wrong; send it as `Authorization: Bearer KEY`");
        return refusal.with_code("invalid_api_key").into_response();
    }
    next.run(request).await
}

async fn models(State(App { server, .. }): State<App>) -> Response {
    let model = json!({
        "id": server.speaker.name, "object": "model", "created": server.started, "owned_by": "adpo",
        "max_model_len": server.speaker.context(),
    });
    with_json(StatusCode::OK, &json!({ "object": "list", "data": [model] }))
}

async fn answer(endpoint: Endpoint, State(app): State<App>, request: Request) -> Result<Response, Refusal> {
    let body = body(request).await?;
    let server = app.server.clone();
    // Reading a megabyte of text takes as long as many tokens; others need this thread.
    let ask = tokio::task::spawn_blocking(move || Ask::read(&server, endpoint, &body));
    let ask = ask.await.map_err(|_| gone())??;
    let (streamed, usage) = (ask.stream, ask.stream_usage);
    let (events, received) = unbounded_channel();
    let tokenizer = &app.server.speaker.checkpoint.tokenizer;
    let (answer, rows) = Answer::new(ask, &app.server.speaker.name, tokenizer.eos_id(), &events);
    // The rows' ends are then the only ones: without the engine the channel closes.
    drop(events);
    app.jobs.try_send(rows).map_err(|error| match error {
        TrySendError::Full(_) => Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests wait already; try again later"),
        TrySendError::Disconnected(_) => gone(),
    })?;
    if streamed { Ok(stream(app.server, answer, received, usage)) } else { whole(&app.server, answer, received).await }
}

fn gone() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the model has stopped; start the server again")
}

/// The body of a request that says that it is JSON. Pages that a browser has open cannot send such a one here.
async fn body(request: Request) -> Result<Bytes, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send `Content-Type: application/json`"));
    }
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {LARGEST_BODY} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > LARGEST_BODY) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string())),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

async fn whole(server: &Server, mut answer: Answer, mut events: UnboundedReceiver<Event>) -> Result<Response, Refusal> {
    let tokenizer = &server.speaker.checkpoint.tokenizer;
    let mut deltas = Vec::new();
    while !answer.is_finished() {
        let event = events.recv().await.ok_or_else(gone)?;
        let failed = |problem| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, problem);
        deltas.push(answer.take(tokenizer, event).map_err(failed)?);
    }
    Ok(with_json(StatusCode::OK, &answer.json(tokenizer, deltas)))
}

/// Server-sent events, one for each delta, `[DONE]` behind the last. A client that goes away takes its rows along.
fn stream(server: Arc<Server>, answer: Answer, events: UnboundedReceiver<Event>, usage: bool) -> Response {
    let opening: String = answer.opening().iter().map(sent).collect();
    let state = (server, answer, events, false);
    let chunks = stream::unfold((state, Some(opening)), move |((server, mut answer, mut events, done), opening)| async move {
        if let Some(opening) = opening.filter(|opening| !opening.is_empty()) {
            return Some((Ok::<_, Infallible>(opening), ((server, answer, events, done), None)));
        }
        let tokenizer = &server.speaker.checkpoint.tokenizer;
        if done {
            return None;
        }
        loop {
            if answer.is_finished() {
                let usage = if usage { sent(&answer.usage_chunk()) } else { String::new() };
                return Some((Ok(usage + "data: [DONE]\n\n"), ((server, answer, events, true), None)));
            }
            let delta = match events.recv().await {
                Some(event) => answer.take(tokenizer, event),
                None => Err("the model has stopped; start the server again".to_owned()),
            };
            match delta {
                Ok(delta) => {
                    if let Some(chunk) = answer.chunk(tokenizer, &delta) {
                        return Some((Ok(sent(&chunk)), ((server, answer, events, false), None)));
                    }
                }
                Err(problem) => {
                    let refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, problem);
                    return Some((Ok(sent(&refusal.json())), ((server, answer, events, true), None)));
                }
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(chunks)).into_response()
}

fn sent(value: &Value) -> String {
    format!("data: {value}\n\n")
}
