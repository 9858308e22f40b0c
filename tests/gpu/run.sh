#!/usr/bin/env bash
# Everything that is to be known of a machine with a GPU, in at most MINUTES: first whether every kernel, both fixture models and training
# give what the CPU gives, then how fast they are beside PyTorch, where the machine has it. Stops at the first wrong number; what was found until
# then is in OUT/results.json all the same, a line per command.
#
# usage: adpo-gpu/run.sh [OUT]            in the folder that tests/gpu/pack.sh packed; OUT is gpu-results
# env:   MINUTES (8); PYTHON (python3), for the peers: torch, transformers and, if it is there, liger-kernel.
set -uo pipefail

pack=$(cd "$(dirname "$0")" && pwd)
out=${1:-gpu-results}
python=${PYTHON:-python3}
backend=$(cat "$pack/backend")
seconds=$((60 * ${MINUTES:-8}))
export ADPO_FIXTURES=$pack/fixtures
mkdir -p "$out"
: >"$out/results.json"

# On CUDA the program compiles by NVRTC and wants CUDA's headers. Without a toolkit, torch's own wheels have both.
if [ "$backend" = cuda ] && [ -z "${CUDA_PATH:-}" ] && [ ! -e /usr/local/cuda ]; then
  wheels=$("$python" -c 'import nvidia; print(list(nvidia.__path__)[0])') || { echo "no CUDA toolkit, and no torch with CUDA in $python"; exit 1; }
  headers=$(find "$wheels" -name cuda_fp16.h -path '*/include/*' | head -1)
  library=$(find "$wheels" -name 'libnvrtc.so.*' | head -1)
  [ -n "$headers" ] && [ -n "$library" ] || { echo "neither a CUDA toolkit nor NVRTC and its headers below $wheels"; exit 1; }
  CUDA_PATH=$(dirname "$(dirname "$headers")")
  export CUDA_PATH LD_LIBRARY_PATH="$(dirname "$library")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
peers=$("$python" -c 'import torch, transformers; print("there")' 2>/dev/null || true)
liger=$("$python" -c 'import liger_kernel; print("there")' 2>/dev/null || true)

# The GPU's memory in MiB, four times a second, into a file.
watch_memory() { [ "$backend" = cuda ] && exec nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 250 >"$1" 2>/dev/null; }

# run NAME COMMAND...: runs it for no longer than there is time, and writes a line: how it ended, how long it took, memory, and the JSON that it printed.
run() {
  local name=$1 left=$((seconds - SECONDS)) status=0 started=$SECONDS watcher memory
  shift
  if [ $left -lt 15 ]; then
    printf '{"name": "%s", "skipped": "no time left"}\n' "$name" >>"$out/results.json"
    return 0
  fi
  printf '\n== %s (%d s left)\n' "$name" "$left"
  watch_memory "$out/memory" &
  watcher=$!
  timeout "$left" "$@" >"$out/stdout" 2>"$out/$name.log" || status=$?
  kill $watcher 2>/dev/null
  wait $watcher 2>/dev/null
  memory=$(sort -n "$out/memory" 2>/dev/null | tail -1)
  tail -3 "$out/$name.log"
  printf '{"name": "%s", "command": "%s", "status": %d, "seconds": %d, "peak_gpu_mib": %s, "printed": [%s]}\n' "$name" "${*//\"/}" $status \
    $((SECONDS - started)) "${memory:-null}" "$(grep '^{' "$out/stdout" | paste -sd,)" >>"$out/results.json"
  rm -f "$out/stdout" "$out/memory"
  [ $status = 0 ] || echo "FAILED with $status: $name"
  return $status
}

finish() {
  local card=$backend
  [ "$backend" = cuda ] && card=$(nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader | head -1)
  { printf '{"card": "%s", "commit": "%s", "verdict": "%s", "seconds": %d, "runs": [\n' "$card" "$(cat "$pack/commit")" "$1" $SECONDS
    sed '$!s/$/,/' "$out/results.json"
    printf ']}\n'; } >"$out/whole.json"
  mv "$out/whole.json" "$out/results.json"
  printf '\n%s; %d s; %s\n' "$1" $SECONDS "$out/results.json"
}
right() { run "$@" || { finish "wrong: $1"; exit 1; }; }

device=(--device "$backend")
# A rehearsal goes the same way in small: what it times means nothing.
if [ "$backend" = cuda ]; then
  checked=(--size "$pack/smollm2-135m.json" --batch 2 --seq 128 --steps 20) kernels=(1b 7b) shape=(--tokens 8192 --seq 2048) sizes=(1b) step=(--batch 4 --seq 512 --steps 8)
  sampling=(--size 1b --batch 32 --seq 128 --generate 64) dtypes=(float32 bfloat16) peer=(--device cuda)
else
  checked=(--size 7m --batch 1 --seq 16 --steps 2) kernels=(7m) shape=(--tokens 64 --seq 32) sizes=(7m) step=(--batch 1 --seq 32 --steps 1)
  sampling=(--size 7m --batch 2 --seq 8 --generate 2) dtypes=(float32) peer=(--device cpu)
fi

right kernels "$pack/test-kernels" --test-threads 2
right models "$pack/test-gpu"
for dtype in "${dtypes[@]}"; do
  for objective in sft adpo; do
    right "losses-$objective-$dtype" "$pack/adpo" bench step --json --check "${device[@]}" "${checked[@]}" --objective $objective --dtype "$dtype"
  done
done

# Whole steps and sampling, then kernels: the peer beside each.
for size in "${sizes[@]}"; do
  run "adpo-$size" "$pack/adpo" bench step --json "${device[@]}" --size "$size" --objective adpo --dtype "${dtypes[-1]}" "${step[@]}"
  [ -z "$peers" ] || run "adpo-$size-torch" "$python" "$pack/peer_step.py" "${peer[@]}" --size "$size" --objective adpo --dtype bfloat16 "${step[@]}" \
    ${liger:+--liger}
done
run sample "$pack/adpo" bench sample --json "${device[@]}" --dtype "${dtypes[-1]}" "${sampling[@]}"
[ -z "$peers" ] || run sample-torch "$python" "$pack/peer_step.py" "${peer[@]}" --dtype bfloat16 "${sampling[@]}"
for size in "${kernels[@]}"; do
  right "kernels-$size" "$pack/adpo" bench kernels --json "${device[@]}" --size "$size" "${shape[@]}" --dtype "${dtypes[-1]}"
  [ -z "$peers" ] || run "kernels-$size-torch" "$python" "$pack/peer_kernels.py" "${peer[@]}" --size "$size" "${shape[@]}" --dtype bfloat16
done
if [ "$backend" = cuda ]; then
  lora=(--size 7b --objective adpo --lora-r 16 --batch 2 --seq 512 --steps 4 --dtype bfloat16)
  run adpo-7b-lora "$pack/adpo" bench step --json "${device[@]}" "${lora[@]}"
  [ -z "$peers" ] || run adpo-7b-lora-torch "$python" "$pack/peer_step.py" "${peer[@]}" "${lora[@]/--lora-r/--lora}" ${liger:+--liger}
fi
finish "every number is right"
