//! Judging in a stage: it stops when the judge is no longer there.

use adpo_eval::{Exchange, Judge, Judgement};

use crate::PipelineError;

/// Judgements for a stage. Where the judge cannot judge any more, the stage stops instead of ending with holes.
pub(crate) fn judged(stage: &str, judge: &dyn Judge, exchanges: &[Exchange<'_>]) -> Result<Vec<Judgement>, PipelineError> {
    let judgements = judge.judge(exchanges);
    still_there(stage, judge).map(|()| judgements)
}

/// Whether the judge's verdicts so far can be built on.
pub(crate) fn still_there(stage: &str, judge: &dyn Judge) -> Result<(), PipelineError> {
    match judge.unavailable() {
        Some(reason) => {
            Err(PipelineError::stage(stage, format!("the judge {} is gone: {reason}; run again, responses so far are kept", judge.name())))
        }
        None => Ok(()),
    }
}
