"""Compiles CUDA C++ for an H100 with NVRTC, without a GPU or a driver, and reports what each kernel takes.

    pip install -r tests/cuda/requirements.txt
    cargo run --profile gpu -p adpo-model --features wgpu,_source --example cuda_sources -- target/cuda
    python tests/cuda/nvrtc.py target/cuda

Options are those of cubecl-cuda 0.11.3. Fails if a kernel does not compile, spills registers or needs more than an H100 has.
"""

import argparse
import ctypes
import pathlib
import re
import sys

try:
    import nvidia
except ImportError:
    sys.exit("pip install -r tests/cuda/requirements.txt")

ARCHITECTURE = "sm_90a"
SHARED_LIMIT = 227 * 1024  # bytes per block


class Nvrtc:
    """The little of NVRTC's C interface that is needed."""

    def __init__(self):
        roots = [pathlib.Path(path) for path in nvidia.__path__]
        library = [path for root in roots for path in sorted(root.glob("*/lib/libnvrtc.so.*"))]
        headers = [path.parent for root in roots for path in sorted(root.glob("*/include/cuda_fp16.h"))]
        if not library or not headers:
            sys.exit("pip install -r tests/cuda/requirements.txt")
        self.library = ctypes.CDLL(str(library[0]))
        includes = [headers[0], headers[0] / "cccl"]
        self.options = [f"--gpu-architecture={ARCHITECTURE}", "-lineinfo", "--ptxas-options=-v"]
        self.options += [f"--include-path={path}" for path in includes]

    def version(self):
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def compile(self, source, name):
        """(whether it compiled, what NVRTC and ptxas have to say)."""
        program = ctypes.c_void_p()
        if self.library.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None) != 0:
            return False, "nvrtcCreateProgram failed"
        options = (ctypes.c_char_p * len(self.options))(*(option.encode() for option in self.options))
        result = self.library.nvrtcCompileProgram(program, len(options), options)
        size = ctypes.c_size_t()
        self.library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self.library.nvrtcGetProgramLog(program, log)
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return result == 0, log.value.decode(errors="replace")


def shared_memory(source):
    """Bytes of shared memory: CubeCL lays its arrays out in one block that the launch reserves."""
    block = re.search(r"extern __shared__ \S+ char (\w+)\[\]", source)
    if not block:
        return 0
    arrays = re.findall(r"array<(\w+?)(?:_(\d+))?, (\d+)>[^;=]*= reinterpret_cast<[^;]*&" + block[1] + r"\[(\d+)\]", source)
    widths = {"float": 4, "uint32_t": 4, "int32_t": 4, "__half": 2, "__nv_bfloat16": 2}
    return max((int(start) + widths[kind] * int(vector or 1) * int(length) for kind, vector, length, start in arrays), default=0)


def number(pattern, log):
    found = re.search(pattern, log)
    return int(found[1]) if found else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="with the .cu files")
    files = sorted(parser.parse_args().folder.glob("*.cu"))
    if not files:
        sys.exit("no .cu files there")
    nvrtc = Nvrtc()
    print(f"NVRTC {nvrtc.version()}, {ARCHITECTURE}")
    print(f"{'kernel':<36} {'registers':>9} {'spilled, bytes':>14} {'shared, bytes':>13}")
    bad = []
    for file in files:
        source = file.read_text()
        compiled, log = nvrtc.compile(source.encode(), file.name)
        registers = number(r"Used (\d+) registers", log)
        spilled = number(r"(\d+) bytes spill stores", log)
        shared = shared_memory(source)
        if not compiled or registers is None or spilled is None:
            bad.append(f"{file.name} does not compile:\n{log}")
            continue
        print(f"{file.stem:<36} {registers:>9} {spilled:>14} {shared:>13}")
        if spilled:
            bad.append(f"{file.name} spills {spilled} bytes")
        if shared > SHARED_LIMIT:
            bad.append(f"{file.name} needs {shared} bytes of shared memory, of {SHARED_LIMIT}")
    print("\n".join(bad), file=sys.stderr)
    print(f"{len(files) - len(bad)} passed, {len(bad)} failed")
    sys.exit(bool(bad))


main()
