//! ADPO and DPO in a Burn training loop of one's own, on the smallest policy there is: per prompt a
//! softmax over four responses. No model, no data:
//!
//! `cargo run --release -p adpo-objective --example toy_bandit`
//!
//! What to see: both objectives learn chosen over rejected. DPO never sees the toxic response, which
//! loses probability only to the chosen one: its odds against the fourth response, which no objective
//! sees, stay what they were. ADPO drives them down.

use adpo_objective::{Adpo, Dpo, Lengths, LogProbs, Objective, RoleLogProbs};
use burn::tensor::{Device, Tensor, activation::log_softmax};

/// Columns of the policy: what each of the four responses is.
const CHOSEN: usize = 0;
const REJECTED: usize = 1;
const TOXIC: usize = 2;
const OTHER: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex().autodiff();
    // Three prompts; the reference likes its rejected and toxic responses too well.
    let start = [[0.0, 1.0, 1.5, 0.0], [0.5, 0.5, 1.0, 0.0], [-0.5, 1.0, 2.0, 0.5]];
    let objectives = [Objective::Dpo(Dpo { beta: 0.3, ..Dpo::default() }), Objective::Adpo(Adpo::default())];
    println!("{:<9} {:>4} {:>7} {:>8} {:>9} {:>8} {:>13}", "objective", "step", "loss", "chosen", "rejected", "toxic", "toxic : other");
    for objective in objectives {
        let reference = role_log_probs(Tensor::from_floats(start, &device));
        let mut logits = Tensor::<2>::from_floats(start, &device).require_grad();
        for step in 0..=100 {
            let batch = LogProbs {
                policy: role_log_probs(logits.clone()),
                reference: Some(reference.clone()),
                tox_anchor: None,
                lengths: one_token_each(&device),
            };
            let outcome = objective.evaluate(&batch)?;
            let loss = outcome.losses.mean();
            if step % 50 == 0 {
                report(objective.name(), step, &loss, &logits);
            }
            let gradients = loss.backward();
            let gradient = logits.grad(&gradients).ok_or("the policy received no gradient")?;
            logits = (logits.inner() - gradient).autodiff().require_grad();
        }
    }
    Ok(())
}

/// `[prompts, responses]` logits to one log-prob per prompt and role.
fn role_log_probs(logits: Tensor<2>) -> RoleLogProbs {
    let all = log_softmax(logits, 1);
    let column = |index: usize| all.clone().narrow(1, index, 1).squeeze_dim(1);
    RoleLogProbs { chosen: column(CHOSEN), rejected: column(REJECTED), toxic: Some(column(TOXIC)) }
}

fn one_token_each(device: &Device) -> Lengths {
    let ones = Tensor::<1>::ones([3], device);
    Lengths { chosen: ones.clone(), rejected: ones.clone(), toxic: Some(ones) }
}

/// Mean probability of each response, and the odds of the toxic one against the one nobody looks at.
fn report(name: &str, step: usize, loss: &Tensor<1>, logits: &Tensor<2>) {
    let probabilities = log_softmax(logits.clone(), 1).exp();
    let mean = |index: usize| probabilities.clone().narrow(1, index, 1).mean().into_scalar::<f32>();
    let odds = logits.clone().narrow(1, TOXIC, 1) - logits.clone().narrow(1, OTHER, 1);
    println!(
        "{name:<9} {step:>4} {:>7.4} {:>8.4} {:>9.4} {:>8.4} {:>13.4}",
        loss.clone().into_scalar::<f32>(),
        mean(CHOSEN),
        mean(REJECTED),
        mean(TOXIC),
        odds.exp().mean().into_scalar::<f32>(),
    );
}
