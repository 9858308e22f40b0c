//! A run killed at each moment in the life of a checkpoint, twice, and then left alone.
//!
//! The runs are processes of their own, and what kills them looks at nothing but the names that appear in their folder. A kill may
//! come late, so what it left is looked at too, and only a folder that a kill at that very moment leaves is gone on with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adpo_train::{TrainOptions, train_sft};

use crate::common::{checkpoints, examples, model, options};
use crate::resume::assert_equal_runs;

const FOLDER: &str = "ADPO_TEST_KILLED_RUN_FOLDER";
const STEPS: usize = 10;
const KEPT: usize = 2;
/// Where the killed runs begin; the checkpoints of this step and the one before are there.
const START: usize = 4;
/// So many more files in a folder make listing or removing it last for milliseconds.
const BALLAST: usize = 3000;

/// On a disk, beside what is built: where a temporary folder is memory, nothing waits for a sync, and no kill comes in time.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// A checkpoint at every step.
fn train(folder: &Path, save_total_limit: usize) {
    let options =
        TrainOptions { max_steps: Some(STEPS), batch_size: 4, save_steps: Some(1), save_total_limit: Some(save_total_limit), ..options() };
    train_sft(model(3), &examples(24), &options, folder).expect("the run finishes");
}

#[test]
#[ignore = "the process that the next test kills"]
fn child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        train(folder.as_ref(), KEPT);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    /// The first file is being written.
    Begun,
    /// The model is there, the optimiser's state is not.
    BetweenFiles,
    /// Every file is there, but the folder does not have its name yet.
    BeforeTheRename,
    /// It has its name, and the oldest one is still there.
    BeforeTheRemoval,
    /// Some of the oldest one's files are gone.
    HalfRemoved,
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

impl Moment {
    /// Whether a folder is as it is at this moment of the checkpoint of `step`.
    fn is_now(self, run: &Path, step: usize) -> bool {
        let named = |step: usize| run.join(format!("checkpoints/step-{step:08}"));
        let unnamed = |step: usize| run.join(format!("checkpoints/.step-{step:08}.tmp"));
        let written = |file: &str| unnamed(step).join(file).exists();
        match self {
            Self::Begun => unnamed(step).exists() && !written("model.safetensors"),
            Self::BetweenFiles => written("config.json") && !written("optimizer.safetensors"),
            Self::BeforeTheRename => written("trainer.json"),
            Self::BeforeTheRemoval => named(step).exists() && named(step - KEPT).exists(),
            Self::HalfRemoved => (1..BALLAST).contains(&files(&unnamed(step - KEPT))),
        }
    }
}

/// Starts the run and kills it at that moment of its next checkpoint; whether that was the moment.
fn kill_at(moment: Moment, run: &Path) -> bool {
    let whole = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("step-")?.parse::<usize>().ok();
    let next = 1 + checkpoints(run).iter().filter_map(whole).max().expect("it begins with a checkpoint");
    let mut process = Command::new(std::env::current_exe().expect("the path of this test"))
        .args(["--exact", "kills::child", "--ignored"])
        .env(FOLDER, run)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test starts itself");
    // What an earlier kill left looks like the moment itself until it is removed.
    let mut removed = false;
    while process.try_wait().expect("a child can be waited for").is_none() {
        let now = moment.is_now(run, next);
        if now && removed {
            break;
        }
        removed |= !now;
    }
    // On Unix this is SIGKILL: no destructor, no flush.
    let _ = process.kill();
    !process.wait().expect("a child can be waited for").success() && moment.is_now(run, next)
}

/// The run as it was after [`START`] steps, of a finished one that has kept all checkpoints.
fn begin(from: &Path, run: &Path, moment: Moment) {
    std::fs::copy(from.join("metrics.jsonl"), run.join("metrics.jsonl")).expect("copied");
    for step in START + 1 - KEPT..=START {
        let name = format!("checkpoints/step-{step:08}");
        std::fs::create_dir_all(run.join(&name)).expect("made");
        for file in std::fs::read_dir(from.join(&name)).expect("readable").map(|file| file.expect("readable")) {
            std::fs::copy(file.path(), run.join(&name).join(file.file_name())).expect("copied");
        }
        if moment == Moment::HalfRemoved {
            add_ballast(&run.join(&name));
        }
    }
    if moment == Moment::BeforeTheRemoval {
        add_ballast(&run.join("checkpoints"));
    }
}

fn add_ballast(folder: &Path) {
    (0..BALLAST).for_each(|i| std::fs::write(folder.join(format!("ballast-{i}")), "").expect("written"));
}

#[test]
fn a_run_killed_twice_at_any_moment_of_a_checkpoints_life_ends_bit_equal() {
    use Moment::{BeforeTheRemoval, BeforeTheRename, Begun, BetweenFiles, HalfRemoved};
    let (whole, all) = (folder(), folder());
    train(whole.path(), KEPT);
    train(all.path(), STEPS);
    for moment in [Begun, BetweenFiles, BeforeTheRename, BeforeTheRemoval, HalfRemoved] {
        let hit = (1..=50).find_map(|attempt| {
            let run = folder();
            begin(all.path(), run.path(), moment);
            (kill_at(moment, run.path()) && kill_at(moment, run.path())).then_some((attempt, run))
        });
        let (attempt, run) = hit.unwrap_or_else(|| panic!("no kill came in time at {moment:?}"));
        println!("{moment:?}: attempt {attempt}");
        train(run.path(), KEPT);
        for ballast in checkpoints(run.path()).iter().filter(|path| path.is_file()) {
            std::fs::remove_file(ballast).expect("removed");
        }
        assert_equal_runs(run.path(), whole.path());
    }
}

#[test]
fn a_run_that_goes_on_or_is_finished_removes_what_a_smaller_limit_leaves_over_and_what_a_kill_left() {
    let run = folder();
    let names =
        || -> Vec<String> { checkpoints(run.path()).iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect() };
    train(run.path(), STEPS);
    assert_eq!(names().len(), STEPS);
    std::fs::create_dir(run.path().join("checkpoints/.step-00000003.tmp")).expect("a folder half removed");
    train(run.path(), 3);
    assert_eq!(names(), ["step-00000008", "step-00000009", "step-00000010"]);
    train(run.path(), STEPS);
    assert_eq!(names().len(), 3, "a greater limit brings none back");
}
