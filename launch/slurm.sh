#!/bin/bash
# One seed of a recipe per task of an array, each in a run folder of its own:
#   sbatch --array=1-3 launch/slurm.sh recipes/llama2-7b-lora.toml --data-dir DATA --device cuda
# What comes after the script's name goes to `adpo run`; options of sbatch before it replace those below (--gres=none on a cluster without GPUs).
# A task that is preempted, or whose time is up, is queued again and goes on from its last checkpoint, bit-equal to one that never stopped.
# docs/gpu.md says how the seeds come into one report.
#SBATCH --job-name=adpo
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=96G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A-seed-%a.log
#SBATCH --signal=B:USR1@120
set -euo pipefail

seed=${SLURM_ARRAY_TASK_ID:?give the seeds as an array: sbatch --array=1-3 launch/slurm.sh ...}
adpo=${ADPO:-target/release/adpo}

# Slurm queues preempted jobs again by itself, but not those whose time is up.
again() {
  echo "the time is up; seed $seed is queued again"
  kill "$training"
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$seed"
}
trap again USR1

"$adpo" run "$@" --seeds "$seed" --run-dir "runs/$SLURM_JOB_NAME-seed-$seed" &
training=$!
wait "$training"
