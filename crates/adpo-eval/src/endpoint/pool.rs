//! Several endpoints kept busy by a few threads each. An endpoint may die: the others do its work.
//!
//! Every request ends with a response or an error, whatever happens. A failed request waits (exponential backoff with
//! jitter, or as long as the server asks), then goes to another endpoint if there is one. An endpoint that fails several
//! times in a row is not asked again; when no endpoint is left, the remaining requests end in errors at once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adpo_data::derive_seed;

use super::http::{Failure, Target};
use super::options::RequestLimits;
use crate::error::EvalError;

/// One request: what is sent, and the name of its jitter.
pub(super) struct Job {
    pub(super) key: String,
    pub(super) body: String,
}

pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    limits: RequestLimits,
}

struct Endpoint {
    target: Target,
    /// Failures since the last response.
    failures: AtomicUsize,
    /// Why it was given up.
    retired: OnceLock<String>,
    /// The endpoint has asked for peace until then.
    paused: Mutex<Option<Instant>>,
}

/// A request that is not in flight.
struct Waiting {
    job: usize,
    /// How often it was sent.
    attempts: usize,
    /// Where it failed last: another endpoint should have a try.
    avoid: Option<usize>,
}

/// What the threads of one run share.
struct Queue<F> {
    /// By the time from which they may be sent, then by number.
    waiting: BTreeMap<(Instant, usize), Waiting>,
    /// Requests without an outcome, waiting or in flight.
    open: usize,
    done: F,
}

impl Pool {
    pub(super) fn new(urls: &[String], key_env: Option<&str>, limits: &RequestLimits) -> Result<Self, EvalError> {
        let problem = |problem: &str| EvalError::Endpoint { url: urls.join(", "), problem: problem.to_owned() };
        if urls.is_empty() {
            return Err(problem("`urls` is empty; give at least one"));
        }
        if !(1..=256).contains(&limits.concurrency) || limits.attempts == 0 || limits.retire_after == 0 {
            return Err(problem("`limits`: `concurrency` lies in 1 to 256; `attempts` and `retire_after` are at least 1"));
        }
        let seconds = [limits.timeout_s, limits.backoff_s, limits.max_wait_s];
        if seconds.iter().any(|s| !(0.0..=86_400.0).contains(s)) || limits.timeout_s == 0.0 {
            return Err(problem("`limits`: `timeout_s`, `backoff_s` and `max_wait_s` lie between 0 and a day, `timeout_s` above 0"));
        }
        let timeout = Duration::from_secs_f64(limits.timeout_s);
        let endpoint = |url: &String| {
            let target = Target::new(url, key_env, timeout)?;
            Ok(Endpoint { target, failures: AtomicUsize::new(0), retired: OnceLock::new(), paused: Mutex::new(None) })
        };
        Ok(Self { endpoints: urls.iter().map(endpoint).collect::<Result<_, EvalError>>()?, limits: limits.clone() })
    }

    /// Sends all jobs; `done` gets the outcome of each by its number, as they come in, one at a time. Where it breaks,
    /// nothing more is sent.
    ///
    /// A response that `decode` does not accept counts as a failure of the endpoint.
    pub(super) fn run<T: Send>(
        &self,
        jobs: &[Job],
        decode: impl Fn(&str) -> Result<T, String> + Sync,
        done: impl FnMut(usize, Result<T, String>) -> ControlFlow<()> + Send,
    ) {
        let now = Instant::now();
        let waiting = (0..jobs.len()).map(|job| ((now, job), Waiting { job, attempts: 0, avoid: None })).collect();
        let queue = Mutex::new(Queue { waiting, open: jobs.len(), done });
        let changed = Condvar::new();
        let work = |me: usize| {
            let endpoint = &self.endpoints[me];
            while let Some(mut waiting) = self.next(me, &queue, &changed) {
                let job = &jobs[waiting.job];
                waiting.attempts += 1;
                let response = endpoint.target.post(&job.body).and_then(|body| {
                    decode(&body).map_err(|problem| Failure::Transient(format!("{}: the response {problem}", endpoint.target.url)))
                });
                let mut queue = lock(&queue);
                match response {
                    Ok(response) => {
                        endpoint.failures.store(0, Ordering::Relaxed);
                        queue.finish(waiting.job, Ok(response));
                    }
                    Err(failure) => self.settle(me, failure, waiting, &job.key, &mut queue),
                }
                changed.notify_all();
            }
        };
        thread::scope(|scope| {
            for (me, endpoint) in self.endpoints.iter().enumerate() {
                let threads = self.limits.concurrency.min(jobs.len());
                // Where the system has no more threads, fewer do the work; without any, others have to.
                let started = (0..threads).filter(|_| thread::Builder::new().spawn_scoped(scope, move || work(me)).is_ok()).count();
                if started == 0 && threads > 0 {
                    let _queue = lock(&queue);
                    endpoint.retire(&format!("{}: the system gave no thread to ask with", endpoint.target.url));
                    changed.notify_all();
                }
            }
        });
        // No endpoint is left that could answer the rest.
        if let Some(reason) = self.unavailable() {
            lock(&queue).fail_all(&reason);
        }
    }

    /// The next request for endpoint `me`, as soon as there is one; none when the run is over or the endpoint given up.
    fn next<T, F: FnMut(usize, Result<T, String>) -> ControlFlow<()>>(
        &self,
        me: usize,
        queue: &Mutex<Queue<F>>,
        changed: &Condvar,
    ) -> Option<Waiting> {
        let mut queue = lock(queue);
        loop {
            if queue.open == 0 || self.endpoints[me].retired.get().is_some() {
                return None;
            }
            let choosy = self.endpoints.iter().enumerate().any(|(other, endpoint)| other != me && endpoint.retired.get().is_none());
            let found = queue.waiting.iter().find(|(_, waiting)| !(choosy && waiting.avoid == Some(me))).map(|(at, _)| *at);
            let wait = found.map(|(ready, _)| {
                let from = lock(&self.endpoints[me].paused).map_or(ready, |paused| paused.max(ready));
                from.saturating_duration_since(Instant::now())
            });
            match (found, wait) {
                (Some(at), Some(Duration::ZERO)) => return queue.waiting.remove(&at),
                (_, Some(wait)) => queue = changed.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0,
                (_, None) => queue = changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Decides what a failure means for the request and for the endpoint.
    fn settle<T, F: FnMut(usize, Result<T, String>) -> ControlFlow<()>>(
        &self,
        me: usize,
        failure: Failure,
        mut waiting: Waiting,
        key: &str,
        queue: &mut Queue<F>,
    ) {
        let endpoint = &self.endpoints[me];
        let now = Instant::now();
        let error = match failure {
            Failure::Request(error) => return queue.finish(waiting.job, Err(error)),
            Failure::Transient(error) => {
                if endpoint.failures.fetch_add(1, Ordering::Relaxed) + 1 >= self.limits.retire_after {
                    endpoint.retire(&format!("{} failures in a row, the last: {error}", self.limits.retire_after));
                }
                error
            }
            Failure::Busy { error, wait } => {
                match wait {
                    Some(wait) if wait.as_secs_f64() > self.limits.max_wait_s => {
                        endpoint.retire(&format!("asks to wait for {} s: {error}", wait.as_secs()));
                    }
                    Some(wait) => *lock(&endpoint.paused) = Some(now + wait),
                    None => {}
                }
                error
            }
            Failure::Endpoint(error) => {
                endpoint.retire(&error);
                // The request is not to blame.
                waiting.attempts -= 1;
                error
            }
        };
        if let Some(reason) = self.unavailable() {
            queue.finish(waiting.job, Err(error));
            queue.fail_all(&reason);
        } else if waiting.attempts >= self.limits.attempts {
            queue.finish(waiting.job, Err(format!("no response in {} attempts, the last: {error}", waiting.attempts)));
        } else {
            waiting.avoid = Some(me);
            let ready = now + self.backoff(key, waiting.attempts);
            queue.waiting.insert((ready, waiting.job), waiting);
        }
    }

    /// The wait after `attempts` attempts. Its jitter depends on the request and the attempt, on nothing else.
    fn backoff(&self, key: &str, attempts: usize) -> Duration {
        let longest = self.limits.backoff_s * 2f64.powi(attempts.saturating_sub(1).min(60) as i32);
        let unit = derive_seed(attempts as u64, key) as f64 / u64::MAX as f64;
        Duration::from_secs_f64(longest.min(self.limits.max_wait_s) * (0.5 + 0.5 * unit))
    }

    /// Endpoints that were given up, with the reason.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.retired.get()).map(|reason| format!("endpoint given up: {reason}")).collect()
    }

    /// Why nothing can be asked any more, once that is so.
    pub(super) fn unavailable(&self) -> Option<String> {
        let reasons: Option<Vec<&str>> = self.endpoints.iter().map(|endpoint| endpoint.retired.get().map(String::as_str)).collect();
        reasons.map(|reasons| format!("every endpoint was given up ({})", reasons.join("; ")))
    }
}

impl Endpoint {
    /// Gives the endpoint up; the first reason stays.
    fn retire(&self, reason: &str) {
        let _ = self.retired.set(reason.to_owned());
    }
}

impl<F> Queue<F> {
    fn finish<T>(&mut self, job: usize, outcome: Result<T, String>)
    where
        F: FnMut(usize, Result<T, String>) -> ControlFlow<()>,
    {
        self.open -= 1;
        if (self.done)(job, outcome).is_break() {
            self.open -= self.waiting.len();
            self.waiting.clear();
        }
    }

    /// Ends everything that is not in flight.
    fn fail_all<T>(&mut self, reason: &str)
    where
        F: FnMut(usize, Result<T, String>) -> ControlFlow<()>,
    {
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            self.finish(waiting.job, Err(reason.to_owned()));
        }
    }
}

/// A thread that panicked left consistent data behind: nothing here is changed halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_their_jitter_is_always_the_same() -> Result<(), EvalError> {
        let limits = RequestLimits { backoff_s: 1.0, max_wait_s: 5.0, ..RequestLimits::default() };
        let pool = Pool::new(&["http://localhost:1/v1".to_owned()], None, &limits)?;
        for (attempts, longest) in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (1000, 5.0)] {
            let waits: Vec<f64> = (0..50).map(|i| pool.backoff(&format!("request {i}"), attempts).as_secs_f64()).collect();
            assert!(waits.iter().all(|wait| (longest / 2.0..=longest).contains(wait)), "{waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]));
            assert_eq!(waits[0], pool.backoff("request 0", attempts).as_secs_f64());
        }
        Ok(())
    }

    #[test]
    fn limits_that_make_no_sense_are_refused_by_name() {
        let url = ["http://localhost:1/v1".to_owned()];
        let cases = [
            (RequestLimits { concurrency: 0, ..RequestLimits::default() }, "concurrency"),
            (RequestLimits { attempts: 0, ..RequestLimits::default() }, "attempts"),
            (RequestLimits { timeout_s: f64::NAN, ..RequestLimits::default() }, "timeout_s"),
            (RequestLimits { timeout_s: 0.0, ..RequestLimits::default() }, "timeout_s"),
            (RequestLimits { backoff_s: -1.0, ..RequestLimits::default() }, "backoff_s"),
        ];
        for (limits, field) in cases {
            assert!(Pool::new(&url, None, &limits).err().is_some_and(|error| error.to_string().contains(field)), "{field}");
        }
        assert!(Pool::new(&[], None, &RequestLimits::default()).is_err());
    }
}
