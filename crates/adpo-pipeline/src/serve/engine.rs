//! The thread that has the model. Rows of all requests are drawn together; between two steps waiting ones join, a row of each request in
//! turn, so that no request, however long, keeps the others out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use adpo_model::{Decoding, Finish, Joining, Llama, ModelError, SampleRequest, SamplingOptions, TokenLogProbs, kernels};
use tokio::sync::mpsc::UnboundedSender;

/// A completion to be drawn.
pub(super) struct Row {
    /// Its number within the request.
    pub choice: usize,
    pub prompt: Vec<u32>,
    /// Names its random stream.
    pub stream: u64,
    pub options: Arc<SamplingOptions>,
    /// With each token its log-prob and those of so many of the likeliest.
    pub log_probs: Option<usize>,
    /// Whether the prompt's tokens get log-probs, too.
    pub score_prompt: bool,
    /// Set by whoever needs no more of its tokens.
    pub enough: Arc<AtomicBool>,
    /// A number of tokens bounds what can pile up here.
    pub events: UnboundedSender<Event>,
}

/// What becomes of a row.
pub(super) enum Event {
    /// Log-probs of its prompt's tokens but the first.
    Scored {
        choice: usize,
        log_probs: Vec<TokenLogProbs>,
    },
    Drawn {
        choice: usize,
        token: u32,
        finish: Option<Finish>,
        log_probs: Option<TokenLogProbs>,
    },
    /// Nothing was to be drawn.
    Ended {
        choice: usize,
    },
    Failed(String),
}

impl Row {
    fn is_wanted(&self) -> bool {
        !self.events.is_closed() && !self.enough.load(Ordering::Relaxed)
    }

    /// Tells; whether anyone listens does not matter here.
    fn tell(&self, event: Event) {
        drop(self.events.send(event));
    }
}

/// Starts the thread; it ends with the last sender. A full channel means that too many requests wait.
pub(super) fn start(model: &Llama, batch_size: usize, waiting: usize) -> SyncSender<Vec<Row>> {
    let (sender, jobs) = sync_channel(waiting);
    let model = model.clone();
    std::thread::spawn(move || {
        let mut engine = Engine { decoding: Decoding::new(&model), model, running: HashMap::new(), waiting: VecDeque::new(), tickets: 0 };
        while engine.turn(&jobs, batch_size) {}
    });
    sender
}

struct Engine {
    model: Llama,
    decoding: Decoding,
    /// By ticket.
    running: HashMap<u64, Row>,
    /// Rows that have no place yet, by request.
    waiting: VecDeque<VecDeque<Row>>,
    tickets: u64,
}

impl Engine {
    /// Lets rows join, and draws a token for each row; `false` when there is nothing left to do, ever.
    fn turn(&mut self, jobs: &Receiver<Vec<Row>>, batch_size: usize) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() {
            let Ok(job) = jobs.recv() else { return false };
            self.waiting.push_back(job.into());
        }
        let joining = self.admitted(jobs, batch_size);
        let worked = kernels::on_pool(|| {
            self.join(joining)?;
            self.step()
        });
        if let Err(error) = worked {
            // Rows are checked before they come here, so it is the model; nothing that is running can go on.
            self.running.drain().for_each(|(_, row)| row.tell(Event::Failed(error.to_string())));
            self.decoding = Decoding::new(&self.model);
        }
        true
    }

    /// Rows that get a place now. Scoring a prompt takes as long as reading it once more, so those that are being drawn wait for one at
    /// most.
    fn admitted(&mut self, jobs: &Receiver<Vec<Row>>, batch_size: usize) -> Vec<Row> {
        let mut admitted = Vec::new();
        while self.running.len() + admitted.len() < batch_size {
            // A request that is still being shared out must not keep the next one from its turn.
            if self.waiting.len() < batch_size {
                self.waiting.extend(jobs.try_recv().ok().map(VecDeque::from));
            }
            let Some(mut job) = self.waiting.pop_front() else { break };
            let Some(row) = job.pop_front() else { continue };
            if !job.is_empty() {
                self.waiting.push_back(job);
            }
            if row.is_wanted() {
                let scored = row.score_prompt;
                admitted.push(row);
                if scored {
                    break;
                }
            }
        }
        admitted
    }

    fn join(&mut self, rows: Vec<Row>) -> Result<(), ModelError> {
        let mut joining = Vec::with_capacity(rows.len());
        for row in rows {
            if row.score_prompt {
                let log_probs = self.model.prompt_log_probs(&row.prompt, row.log_probs.unwrap_or(0))?;
                row.tell(Event::Scored { choice: row.choice, log_probs });
            }
            if row.options.max_new_tokens == 0 {
                row.tell(Event::Ended { choice: row.choice });
                continue;
            }
            self.tickets += 1;
            self.running.insert(self.tickets, row);
            joining.push(self.tickets);
        }
        let joining = joining.iter().map(|ticket| {
            let row = &self.running[ticket];
            let request = SampleRequest { prompt: &row.prompt, row: row.stream };
            Joining { ticket: *ticket, request, options: &row.options, log_probs: row.log_probs }
        });
        self.decoding.join(&joining.collect::<Vec<_>>())
    }

    fn step(&mut self) -> Result<(), ModelError> {
        let running = &mut self.running;
        self.decoding.step(|drawn| {
            let Some(row) = running.get(&drawn.ticket) else { return false };
            let event = Event::Drawn { choice: row.choice, token: drawn.token, finish: drawn.finish, log_probs: drawn.log_probs };
            row.tell(event);
            let goes_on = drawn.finish.is_none() && row.is_wanted();
            if !goes_on {
                running.remove(&drawn.ticket);
            }
            goes_on
        })
    }
}
