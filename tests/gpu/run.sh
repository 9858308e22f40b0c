#!/usr/bin/env bash
# Everything that is to be known of a CUDA machine, from a prebuilt `adpo` (no Rust needed there):
# kernels beside the CPU, kernels timed, the same in PyTorch and Liger, whole training steps beside the peer's.
#
# usage: tests/gpu/run.sh ADPO [OUT]      ADPO built by `cargo build --release -p adpo-cli --features cuda`; OUT is gpu-results
# needs: an NVIDIA GPU with its driver; Python with torch, transformers and liger-kernel (PYTHON, default python3).
set -uo pipefail

adpo=$(realpath "${1:?usage: tests/gpu/run.sh ADPO [OUT]}")
out=${2:-gpu-results}
python=${PYTHON:-python3}
peer=$(cd "$(dirname "$0")/../peer" && pwd)
mkdir -p "$out"
failed=0

# CubeCL compiles by NVRTC and wants CUDA's headers. Without a toolkit, torch's own wheels have both.
if [ -z "${CUDA_PATH:-}" ] && [ ! -e /usr/local/cuda ]; then
  wheels=$("$python" -c 'import nvidia; print(list(nvidia.__path__)[0])') || { echo "no CUDA toolkit, and no torch with CUDA in $python"; exit 1; }
  headers=$(find "$wheels" -name cuda_fp16.h -path '*/include/*' | head -1)
  library=$(find "$wheels" -name 'libnvrtc.so.*' | head -1)
  [ -n "$headers" ] && [ -n "$library" ] || { echo "neither a CUDA toolkit nor NVRTC and its headers below $wheels"; exit 1; }
  CUDA_PATH=$(dirname "$(dirname "$headers")")
  export CUDA_PATH LD_LIBRARY_PATH="$(dirname "$library")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi

# run NAME COMMAND...: the command's JSON lines go to OUT/NAME.jsonl, what it says besides to OUT/NAME.log.
run() {
  local name=$1
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  if "$@" >"$out/$name.jsonl" 2>"$out/$name.log"; then tail -25 "$out/$name.log"; else
    failed=$((failed + 1))
    tail -5 "$out/$name.log"
    echo "FAILED: $name"
  fi
}

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.memory --format=csv | tee "$out/hardware.txt"

for dtype in float32 bfloat16; do
  for size in 1b 7b; do
    shape=(--size "$size" --tokens 8192 --seq 2048 --dtype "$dtype")
    run "kernels-$size-$dtype" "$adpo" bench kernels --json --device cuda "${shape[@]}"
    run "kernels-$size-$dtype-torch" "$python" "$peer/peer_kernels.py" --device cuda "${shape[@]}"
    run "kernels-$size-$dtype-liger" "$python" "$peer/peer_kernels.py" --device cuda "${shape[@]}" --liger
  done
done
# Models are f32 in adpo. 7b does not fit a GPU of 80 GB so: 27 GB each for weights, gradients and both moments.
for size in 110m 1b; do
  step=(--size "$size" --objective adpo --batch 4 --seq 512 --steps 10)
  run "step-$size" "$adpo" bench step --json --device cuda "${step[@]}"
  run "step-$size-torch" "$python" "$peer/peer_step.py" --device cuda --dtype float32 "${step[@]}"
  run "step-$size-torch-bfloat16" "$python" "$peer/peer_step.py" --device cuda --dtype bfloat16 "${step[@]}"
  run "step-$size-liger-bfloat16" "$python" "$peer/peer_step.py" --device cuda --dtype bfloat16 --liger "${step[@]}"
done

printf '\nresults are in %s; %d commands failed\n' "$out" "$failed"
[ "$failed" = 0 ]
