//! A local HTTP server that does what a test tells it, misbehaving included: one request per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

/// What a client sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Counted from 0, in order of arrival.
    pub(crate) number: usize,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

impl Request {
    /// Everything that was said to the model.
    pub(crate) fn prompt(&self) -> String {
        self.body["messages"].as_array().into_iter().flatten().filter_map(|turn| turn["content"].as_str()).collect::<Vec<_>>().join("\n")
    }
}

/// What the server does.
pub(crate) enum Act {
    ChatCompletion {
        status: u16,
        header: &'static str,
        body: String,
    },
    /// Promises the whole body, sends half of it and hangs up.
    CutOff(String),
    /// Hangs up without a word.
    HangUp,
    After(Duration, Box<Act>),
}

/// 200 with a body.
pub(crate) fn ok(body: impl ToString) -> Act {
    status(200, body)
}

pub(crate) fn status(status: u16, body: impl ToString) -> Act {
    Act::ChatCompletion { status, header: "", body: body.to_string() }
}

/// What an OpenAI-compatible server answers when the model says `text`.
pub(crate) fn says(text: &str) -> Act {
    ok(completion(text))
}

pub(crate) fn completion(text: &str) -> Value {
    json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
}

type Behaviour = dyn Fn(&Request) -> Act + Send + Sync;

struct Shared {
    behaviour: Box<Behaviour>,
    requests: Mutex<Vec<Request>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    stopped: AtomicBool,
}

pub(crate) struct Server {
    address: String,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(behaviour: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared {
            behaviour: Box::new(behaviour),
            requests: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let handle = thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A client that hangs up early is the client's affair.
                thread::spawn(move || stream.and_then(|stream| shared.serve(stream)));
            }
        });
        Self { address, shared, listener: Some(handle) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("unpoisoned").clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests().len()
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees the flag and closes the port.
        drop(TcpStream::connect(&self.address));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let header =
            |name: &str| head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name))).map(|(_, v)| v);
        let length: usize = header("content-length").and_then(|value| value.parse().ok()).expect("clients send a length");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let request = {
            let mut requests = self.requests.lock().expect("unpoisoned");
            let request = Request {
                number: requests.len(),
                path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
                authorization: header("authorization").map(str::to_owned),
                body: serde_json::from_slice(&body).expect("clients send JSON"),
            };
            requests.push(request.clone());
            request
        };
        let act = (self.behaviour)(&request);
        let act = if let Act::After(delay, act) = act {
            thread::sleep(delay);
            *act
        } else {
            act
        };
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        perform(stream, act)
    }
}

fn perform(mut stream: TcpStream, act: Act) -> std::io::Result<()> {
    let head = |status: u16, length: usize, header: &str| {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        format!("HTTP/1.1 {status} Any\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{header}\r\n")
    };
    match act {
        Act::ChatCompletion { status, header, body } => stream.write_all((head(status, body.len(), header) + &body).as_bytes()),
        Act::CutOff(body) => stream.write_all((head(200, body.len(), "") + &body[..body.len() / 2]).as_bytes()),
        Act::HangUp => Ok(()),
        Act::After(..) => unreachable!("one delay is enough"),
    }
}
