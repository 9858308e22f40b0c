//! Every reader, put to inputs that a fixed sequence of changes makes of good ones: each is read or refused, in bounded time and memory.
//!
//! The targets are those of `fuzz/`, which a fuzzer guided by coverage drives. Here it is a fixed number of inputs, that of `INPUTS`; more of
//! one target by hand:
//!
//! ```sh
//! ADPO_INPUTS=1000000 ADPO_TARGET=recipe ADPO_SEED=2 cargo test --release --workspace --test readers -- --nocapture
//! ```

#[path = "../../fuzz/src/models.rs"]
#[allow(unreachable_pub, reason = "the library of fuzz/ has it as well")]
mod models;
#[path = "../../fuzz/src/mutate.rs"]
#[allow(unreachable_pub, reason = "the library of fuzz/ has it as well")]
mod mutate;
#[path = "../../fuzz/src/target.rs"]
#[allow(unreachable_pub, reason = "the library of fuzz/ has it as well")]
mod target;
#[path = "../../fuzz/src/text.rs"]
#[allow(unreachable_pub, reason = "the library of fuzz/ has it as well")]
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mutate::{Random, mutated};
use peak_alloc::PeakAlloc;
use target::Target;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Inputs of each target where nothing else is asked for.
const INPUTS: usize = 5000;

/// Of one input. Pauses of the machine are not the reader's, so a slow input is put to it again.
const LONGEST: Duration = Duration::from_secs(2);
const MOST_MIB: f32 = 256.0;

/// The input at work, for whoever ends a process that hangs.
static AT_WORK: Mutex<Option<(&str, Instant, Vec<u8>)>> = Mutex::new(None);

fn keep(target: &str, input: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-{:016x}", hash(input)));
    std::fs::write(&path, input).expect("the input is kept");
    path
}

/// Fowler, Noll and Vo's: a name for an input.
fn hash(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A reader that does not come back cannot be stopped, but what it was given can be kept.
fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(5));
            let at_work = AT_WORK.lock().expect("nobody panics with it").clone();
            if let Some((target, began, input)) = at_work.filter(|(_, began, _)| began.elapsed() > Duration::from_mins(5)) {
                eprintln!("{target} hangs since {:?} on {}", began.elapsed(), keep(target, &input).display());
                std::process::exit(1);
            }
        }
    });
}

/// Whether an input was read, or what is wrong with how it was taken.
fn taken(target: &Target, input: &[u8]) -> Result<bool, String> {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        MEMORY.reset_peak_usage();
        let (before, began) = (MEMORY.current_usage_as_mb(), Instant::now());
        *AT_WORK.lock().expect("nobody panics with it") = Some((target.name, began, input.to_vec()));
        let read = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
            let told = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|told| (*told).to_owned()));
            told.unwrap_or_else(|| "a panic".to_owned())
        })?;
        let memory = MEMORY.peak_usage_as_mb() - before;
        if memory > MOST_MIB {
            return Err(format!("took {memory:.0} MiB"));
        }
        shortest = shortest.min(began.elapsed());
        if shortest < LONGEST {
            return Ok(read);
        }
    }
    Err(format!("took {shortest:?}"))
}

#[test]
fn every_reader_reads_or_refuses_whatever_bytes_it_gets() {
    let asked = std::env::var("ADPO_INPUTS").ok().map(|number| number.parse::<usize>().expect("ADPO_INPUTS is a number"));
    let only = std::env::var("ADPO_TARGET").ok();
    let stream = std::env::var("ADPO_SEED").ok().map_or(1, |seed| seed.parse().expect("ADPO_SEED is a number"));
    watch();
    // Panics of libraries that are caught, and ours, which are told below with their input.
    std::panic::set_hook(Box::new(|_| {}));
    let mut problems = Vec::new();
    let mut tried = 0;
    for target in text::TARGETS.iter().chain(models::TARGETS).filter(|target| only.as_ref().is_none_or(|only| only == target.name)) {
        let seeds = (target.seeds)();
        let known: Vec<Result<bool, String>> = seeds.iter().map(|seed| taken(target, seed)).collect();
        if !known.contains(&Ok(true)) || known.iter().any(Result::is_err) {
            problems.push(format!("{}, its seeds: {known:?}", target.name));
        }
        let (mut random, began) = (Random(hash(target.name.as_bytes()) ^ stream), Instant::now());
        let (mut inputs, mut read, mut found) = (0, 0, 0);
        while inputs < asked.unwrap_or(INPUTS) && found < 5 {
            let input = mutated(&seeds, &mut random);
            inputs += 1;
            match taken(target, &input) {
                Ok(was_read) => read += usize::from(was_read),
                Err(problem) => {
                    found += 1;
                    problems.push(format!("{}: {problem}; the input is {}", target.name, keep(target.name, &input).display()));
                }
            }
        }
        tried += inputs;
        let seconds = began.elapsed().as_secs_f64();
        println!("{}: {inputs} inputs in {seconds:.1} s, {read} of them read, {found} problems", target.name);
    }
    *AT_WORK.lock().expect("nobody panics with it") = None;
    drop(std::panic::take_hook());
    assert!(tried > 0, "there is no target {only:?}");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
