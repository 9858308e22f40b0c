"""Runs the CUDA C++ of attention on matrix instructions, in bf16, on the CPU, and holds it against its definition in f64.

    cargo run --profile gpu -p adpo-model --features wgpu,_source --example cuda_sources -- target/cuda
    python tests/cuda/emulator/emulate.py target/cuda target/emulator

Then it leaves out each barrier in turn: a kernel that is still right does not need it, or the emulator does not see why. Fails
if a kernel is wrong, or a barrier is not missed that is not in REDUNDANT.
"""

import concurrent.futures
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
KERNELS = {"forward": "attention_matrix", "by_query": "attention_matrix_by_query", "by_key": "attention_matrix_by_key"}
# Orders of the threads that are tried until a missing barrier shows.
SEEDS = range(1, 6)
# (kernel, number of the barrier in its source) and why nobody misses it.
REDUNDANT = {
    ("forward", 12): "the first of `write`: the weights are written by then, so nobody reads the strip of scores",
    ("by_query", 5): "the first of `write`: likewise, the slopes",
    ("by_key", 6): "the first of the first `write`: the block has met since",
}


def convert(kernel, source):
    """The kernel as C++ of its own namespace, its barriers numbered, and how many there are."""
    source = re.sub(r"^(#include|typedef (un)?signed).*$", "", source, flags=re.M)
    source = re.sub(r"extern __shared__ __align__\(\d+\) char (\w+)\[\];", r"char* const \1 = emulator::shared;", source)
    source = re.sub(r'extern "C" __global__ void __launch_bounds__\(\d+\)\s+\w+\(', "void KERNEL(", source)
    numbers = iter(range(len(source)))
    place = {"threads": "at_block", "warp": "at_warp"}
    source, barriers = re.subn(
        r"__sync(threads|warp)\(\);", lambda found: f"emulator::barrier(emulator::{place[found[1]]}, {next(numbers)});", source
    )
    return f"namespace {kernel} {{\n{source}\n}}\n", barriers


def build(sources, target, dim):
    """(the program, the number of barriers of each kernel)."""
    text, barriers = "#include <cuda_bf16.h>\n#include <mma.h>\n", {}
    for kernel, name in KERNELS.items():
        converted, barriers[kernel] = convert(kernel, (sources / f"{name}_{dim}_bf16.cu").read_text())
        text += converted
    text += f"const size_t DIM = {dim};\n" + (HERE / "attention.cpp").read_text()
    program = target / f"attention_{dim}"
    program.with_suffix(".cpp").write_text(text)
    # The kernels' integers are as wide as CUDA's, and they say nothing twice: no warnings.
    options = ["-std=c++17", "-O1", "-w", f"-I{HERE / 'include'}", "-o", program, program.with_suffix(".cpp")]
    subprocess.run(["c++", *options], check=True)
    return program, barriers


def run(program, kernel, seed, barrier=-1):
    """(whether the kernel is right, what the program says)."""
    done = subprocess.run([program, kernel, str(seed), str(barrier)], capture_output=True, text=True, timeout=600)
    return done.returncode == 0, done.stdout.strip() or f"ended by signal {-done.returncode}"


def missed(program, kernel, barrier):
    return any(not run(program, kernel, seed, barrier)[0] for seed in SEEDS)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sources, target = map(pathlib.Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    bad = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for dim in (64, 128):
            program, barriers = build(sources, target, dim)
            for kernel in KERNELS:
                good, says = run(program, kernel, SEEDS[0])
                print(f"{kernel}, head size {dim}: {says}", flush=True)
                if not good:
                    bad.append(f"{kernel} is wrong at head size {dim}")
            if bad or dim != 64:
                continue
            each = [(kernel, number) for kernel, count in barriers.items() for number in range(count)]
            for barrier, found in zip(each, pool.map(lambda barrier: missed(program, *barrier), each)):
                if found == (barrier in REDUNDANT):
                    is_missed = "is missed" if found else "is not missed"
                    bad.append(f"{barrier[0]}: barrier {barrier[1]} {is_missed}, against what REDUNDANT says")
            print(f"{len(each)} barriers, all missed but", *(f"{kernel}'s {number}, {why}" for (kernel, number), why in REDUNDANT.items()), sep="\n  ")
    print("\n".join(bad), file=sys.stderr)
    sys.exit(bool(bad))


main()
