#!/usr/bin/env bash
# The files in launch/ before the tools that read them: Slurm's daemons on this machine alone (needs root), SkyPilot without a cloud.
# With a built target/release/adpo, two seeds of the quickstart go through Slurm as well, one of them queued again while it runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
stop() { scancel --state=RUNNING --user=root 2>/dev/null || true; pkill -F "$work/slurmd.pid" 2>/dev/null || true; pkill -F "$work/slurmctld.pid" 2>/dev/null || true; sleep 1; rm -rf "$work"; }
trap stop EXIT

# A cluster of one node that says it has a GPU.
cluster() {
  command -v slurmctld >/dev/null || apt-get install -y slurmctld slurmd slurm-client >/dev/null 2>&1 ||
    { echo "skipped: Debian's slurmctld, slurmd and slurm-client are needed"; return 1; }
  pgrep -x munged >/dev/null || { mkdir -p /run/munge && chown munge /run/munge && su -s /bin/sh munge -c munged; }
  mkdir "$work/state" "$work/spool" && touch "$work/gpu"
  echo "Name=gpu File=$work/gpu" >"$work/gres.conf"
  cat >"$work/slurm.conf" <<CONF
ClusterName=check
SlurmctldHost=$(hostname -s)
SlurmUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
ReturnToService=2
GresTypes=gpu
NodeName=$(hostname -s) CPUs=16 RealMemory=200000 Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes=$(hostname -s) Default=YES MaxTime=INFINITE State=UP
CONF
  export SLURM_CONF=$work/slurm.conf
  slurmctld && slurmd
  for _ in $(seq 60); do sinfo -h -o %t | grep -q idle && return; sleep 0.5; done
  echo "Slurm did not start"; tail -n 20 "$work"/*.log; exit 1
}

slurm() {
  cluster || return 0
  sbatch --test-only --array=1-3 launch/slurm.sh recipes/llama2-7b-lora.toml
  ! sbatch --test-only --gres=gpu:2 --array=1-3 launch/slurm.sh recipes/llama2-7b-lora.toml 2>/dev/null ||
    { echo "two GPUs were found where there is one: this check proves nothing"; exit 1; }
  [ -x target/release/adpo ] || { echo "skipped: the run itself needs target/release/adpo"; return 0; }
  two_seeds
}

# What --test-only does not see: each seed in a folder of its own; one whose time is up goes on, and ends with the weights of one that never stopped.
two_seeds() {
  local job adpo=$PWD/target/release/adpo options=(--until sft --set sft.train.max_steps=60 --set sft.train.save_steps=10)
  rm -rf target/launch && mkdir -p target/launch
  job=$(ADPO=$adpo sbatch --parsable --chdir=target/launch --array=1-2 launch/slurm.sh "${options[@]}")
  local log=target/launch/adpo-$job-seed-1.log
  until grep -Eqs 'sft [2-5][0-9]/60' "$log"; do sleep 0.2; done
  scancel --batch --signal=USR1 "${job}_1"
  until grep -qs REQUEUE "$log"; do sleep 0.2; done
  scontrol update "JobId=${job}_1" StartTime=now # Slurm waits two minutes otherwise.
  while squeue -h -j "$job" 2>/dev/null | grep -q .; do sleep 1; done
  grep -q 'goes on where it was stopped' "$log" || { cat "$log"; exit 1; }
  (cd target/launch && "$adpo" run "${options[@]}" --seeds 1 --run-dir whole 2>/dev/null >whole.md)
  cmp target/launch/{whole,runs/adpo-seed-1}/seed-1/sft/model/model.safetensors
  ls target/launch/runs/adpo-seed-2/seed-2/sft/model/model.safetensors
}

SKY=${SKY:-target/sky-venv}
skypilot() {
  [ -x "$SKY/bin/python" ] || { python3 -m venv "$SKY" && "$SKY/bin/pip" install --quiet -r tests/launch/requirements.txt; } ||
    { echo "skipped: python3 with venv and SkyPilot are needed"; return 0; }
  "$SKY/bin/python" tests/launch/read_task.py launch/sky.yaml
}

slurm
skypilot
