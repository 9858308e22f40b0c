#!/usr/bin/env bash
# Everything that a machine with a GPU needs, in one archive: it may lack Rust and a network. There: unpack it and run `adpo-gpu/run.sh`.
#
# usage: tests/gpu/pack.sh [ARCHIVE]      ARCHIVE is target/adpo-gpu.tar.xz
# BACKEND=wgpu packs what rehearses the same on Mesa's lavapipe, or on any GPU that Vulkan reaches.
set -euo pipefail
cd "$(dirname "$0")/../.."

backend=${BACKEND:-cuda}
archive=${1:-target/adpo-gpu.tar.xz}
pack=target/adpo-gpu
rm -rf "$pack" && mkdir -p "$pack/fixtures"

# The profile of CI's GPU tests builds faster, and a rehearsal needs no speed. One selection of crates, so that Burn is built once.
profile=release
[ "$backend" = cuda ] || profile=gpu
build=(--profile $profile -p adpo-cli -p adpo-model --features "adpo-cli/$backend,adpo-model/$backend")
cargo build "${build[@]}"
tests=$(cargo test "${build[@]}" --test kernels --test gpu --no-run --message-format json-render-diagnostics | grep -o '"executable":"[^"]*"' | cut -d'"' -f4)
cp "target/$profile/adpo" "$pack/"
for test in $tests; do
  name=$(basename "$test")
  cp "$test" "$pack/test-${name%-*}"
done
strip "$pack/adpo" "$pack"/test-*

echo "$backend" >"$pack/backend"
git describe --always --dirty >"$pack/commit"
cp -r tests/fixtures/llama2-mha tests/fixtures/llama3-gqa-tied-sharded-bf16 "$pack/fixtures/"
cp tests/gpu/run.sh tests/gpu/smollm2-135m.json tests/peer/peer_kernels.py tests/peer/peer_step.py "$pack/"
# The programs have most of their code in common: a dictionary that reaches from one into the next.
tar -C target -cf - adpo-gpu | xz --lzma2=preset=3,dict=256MiB >"$archive"
ls -l "$archive"
