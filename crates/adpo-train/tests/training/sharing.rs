//! A prompt computed once for all of its responses gives the log-probs and gradients of prompts computed for each.

use adpo_data::{Batch, Content, Layout, ResponseRole, Sequence};
use adpo_model::{Llama, ParameterVisitor, TokenInput};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::common::{ids, model};

const SEPARATE: Layout = Layout { packing: None, share_prompts: false };

/// Every target's log-prob, in the batch's order, and every parameter's gradient of a weighted sum of them.
fn log_probs_and_gradients(model: &Llama, batch: &Batch) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    struct Collect(GradientsParams, Vec<(String, Vec<f32>)>);
    impl ParameterVisitor for Collect {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).expect("every parameter has a gradient");
            self.1.push((name.to_owned(), gradient.into_data().iter::<f32>().collect()));
        }
    }
    let device = Device::flex().autodiff();
    let model = model.clone().train();
    let ints = |values: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::new(values.clone(), [values.len()]), &device);
    let input = TokenInput::new(batch.rows, batch.width, &batch.ids, &batch.positions, &batch.segments, &device);
    let hidden = model.hidden(&input.with_branches(&batch.branches));
    let size = hidden.dims()[2];
    let at = ints(batch.targets.iter().map(|t| t.at as i32).collect());
    let tokens = ints(batch.targets.iter().map(|t| t.token as i32).collect());
    let log_probs = model.token_log_probs(hidden.reshape([batch.rows * batch.width, size]).select(0, at), tokens).log_probs;
    let count = batch.targets.len();
    // Weights of both signs and of no pattern that answers share.
    let weights: Vec<f32> = (0..count).map(|i| ((i * 37 + 11) % 64) as f32 / 32.0 - 1.0).map(|w| w / count as f32).collect();
    let loss = (log_probs.clone() * Tensor::from_data(TensorData::new(weights, [count]), &device)).sum();
    let mut collect = Collect(GradientsParams::from_grads(loss.backward(), &model), Vec::new());
    model.visit_parameters(&mut collect);
    (log_probs.inner().into_data().iter::<f32>().collect(), collect.1)
}

/// `prompts` and, for each, its responses: lengths of ids that look random. Response by response, prompt by prompt.
fn check(groups: &[(usize, &[usize])], packing: Option<usize>, rows: usize) {
    let prompts: Vec<Vec<u32>> = groups.iter().enumerate().map(|(i, (length, _))| ids(100 + i, *length)).collect();
    let responses: Vec<Vec<Vec<u32>>> = groups
        .iter()
        .enumerate()
        .map(|(i, (_, lengths))| lengths.iter().enumerate().map(|(j, length)| ids(1000 + 10 * i + j, *length)).collect())
        .collect();
    let most = responses.iter().map(Vec::len).max().unwrap_or(0);
    let sequences: Vec<Sequence<'_>> = (0..most)
        .flat_map(|j| {
            prompts.iter().zip(&responses).enumerate().filter_map(move |(i, (prompt, responses))| Some((i, prompt, responses.get(j)?)))
        })
        .map(|(example, prompt, response)| Sequence {
            example,
            role: ResponseRole::Chosen,
            content: Content::Response { prompt, response },
        })
        .collect();
    let (separate, shared) = (Batch::new(&sequences, SEPARATE), Batch::new(&sequences, Layout { packing, share_prompts: true }));
    let cells: usize = groups.iter().map(|(prompt, responses)| prompt + responses.iter().sum::<usize>()).sum();
    assert_eq!(shared.segments.iter().filter(|s| **s > 0).count(), cells, "each prompt lies there once");
    assert_eq!(shared.rows, rows);
    let model = model(4);
    let ((expected, gradients), (found, found_gradients)) =
        (log_probs_and_gradients(&model, &separate), log_probs_and_gradients(&model, &shared));
    assert_eq!(expected.len(), groups.iter().flat_map(|(_, responses)| *responses).sum::<usize>());
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= 1e-5, "{groups:?}, target {i}: {found} instead of {expected}");
    }
    let largest = gradients.iter().flat_map(|(_, gradient)| gradient).map(|g| g.abs()).fold(0.0, f32::max);
    assert!(largest > 1e-2, "{groups:?}: gradients of {largest} compare nothing");
    for ((name, found), (_, expected)) in found_gradients.iter().zip(&gradients) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-5, "{groups:?}, {name}: {found} instead of {expected}");
        }
    }
}

#[test]
fn one_to_four_responses_have_the_log_probs_and_gradients_of_separate_sequences() {
    let lengths = [13, 40, 7, 22];
    for responses in 1..=4 {
        check(&[(30, &lengths[..responses])], None, 1);
    }
}

#[test]
fn prompts_and_responses_of_one_token_are_no_special_case() {
    check(&[(1, &[1, 1, 1])], None, 1);
    check(&[(1, &[20, 1, 5]), (50, &[1, 1, 1, 1]), (1, &[1])], None, 1);
}

#[test]
fn several_prompts_share_a_row_and_do_not_see_each_other() {
    check(&[(60, &[30, 41, 17]), (3, &[5, 60, 1]), (88, &[9, 12, 33, 2]), (17, &[44])], None, 1);
    check(&[(60, &[30, 41, 17]), (3, &[5, 60, 1]), (88, &[9, 12, 33, 2]), (17, &[44])], Some(150), 3);
}
