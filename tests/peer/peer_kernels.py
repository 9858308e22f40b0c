#!/usr/bin/env python3
"""The counterparts of `adpo bench kernels` in PyTorch, and with --liger in Liger: the same shapes, the same JSON keys.

needs: torch (and for --liger: liger-kernel, on a GPU). Times are medians of samples of many calls, by CUDA events on a GPU.
usage: peer_kernels.py [--size 7m|15m|110m|1b|7b] [--tokens N] [--seq N] [--dtype float32|bfloat16] [--device cuda|cpu] [--liger]
`share` is of the rate at which this device copies, or multiplies matrices, in this run.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

from peer_step import SIZES

SAMPLE, SAMPLES = 0.05, 7  # seconds per sample; samples


def timed(run, device):
    """Seconds per call."""
    def sample(calls):
        if device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(calls):
                run()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end) / 1e3 / calls
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls
    sample(1)
    calls = min(10_000, max(1, int(SAMPLE / max(sample(2), 1e-7)) + 1))
    return statistics.median(sample(calls) for _ in range(SAMPLES))


def backward(make):
    """A call that computes gradients only: the graph is built once and kept."""
    inputs, output = make()
    grad = torch.randn_like(output)
    return lambda: torch.autograd.grad(output, inputs, grad, retain_graph=True)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def cases(size, tokens, seq, dtype, device, liger):
    """(kernel, pass, shape, bytes, flops, call)"""
    hidden, _, heads, kv_heads, ffn, vocab = SIZES[size]
    width, rows = min(seq, tokens), max(1, tokens // seq)
    n, dim, item = rows * width, hidden // heads, torch.finfo(dtype).bits // 8

    def new(*shape, grad=False, kind=dtype):
        return torch.randn(*shape, device=device, dtype=kind).requires_grad_(grad)

    def norm(x, w):
        if liger:
            from liger_kernel.ops.rms_norm import LigerRMSNormFunction
            return LigerRMSNormFunction.apply(x, w, 1e-5)
        return F.rms_norm(x, (hidden,), w, 1e-5)

    def gate(g, u):
        if liger:
            from liger_kernel.ops.swiglu import LigerSiLUMulFunction
            return LigerSiLUMulFunction.apply(g, u)
        return F.silu(g) * u

    def nll(h, w, t):
        if liger:
            from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction
            return LigerFusedLinearCrossEntropyFunction.apply(h, w, t)[0]
        return F.cross_entropy((h @ w.T).float(), t)

    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)

    x, w = new(n, ffn), new(ffn, hidden)
    yield "copy", "forward", f"{n} × {ffn}", 2 * n * ffn * item, None, lambda: x * 1.0
    h = new(n, hidden)
    yield "linear", "forward", f"{n} × {hidden} × {ffn}", None, 2 * n * hidden * ffn, lambda: h @ w.T
    scale = new(hidden)
    yield "rms_norm", "forward", f"{n} × {hidden}", 2 * n * hidden * item, None, lambda: norm(h, scale)

    def graph():
        a, b = new(n, hidden, grad=True), new(hidden, grad=True)
        return (a, b), norm(a, b)
    yield "rms_norm", "backward", f"{n} × {hidden}", 3 * n * hidden * item, None, backward(graph)

    shape = f"{rows} × {width} × {heads}/{kv_heads} × {dim}"
    q, cos, sin = new(rows, heads, width, dim), new(rows, 1, width, dim), new(rows, 1, width, dim)
    yield "rope", "forward", shape, 2 * n * heads * dim * item, None, lambda: rotate(q, cos, sin)
    g, u = new(n, ffn), new(n, ffn)
    yield "swiglu", "forward", f"{n} × {ffn}", 3 * n * ffn * item, None, lambda: gate(g, u)

    def graph():
        a, b = new(n, ffn, grad=True), new(n, ffn, grad=True)
        return (a, b), gate(a, b)
    yield "swiglu", "backward", f"{n} × {ffn}", 5 * n * ffn * item, None, backward(graph)

    k, v = new(rows, kv_heads, width, dim), new(rows, kv_heads, width, dim)
    pairs = 2 * rows * heads * ((width + 1) // 2) * width * dim
    yield "attention", "forward", shape, None, 2 * pairs, lambda: attend(q, k, v)

    def graph():
        a, b, c = new(rows, heads, width, dim, grad=True), new(*k.shape, grad=True), new(*v.shape, grad=True)
        return (a, b, c), attend(a, b, c)
    yield "attention", "backward", shape, None, 5 * pairs, backward(graph)
    last = new(rows, heads, 1, dim)
    yield ("attention_cached", "forward", shape, 2 * n * kv_heads * dim * item, None,
           lambda: F.scaled_dot_product_attention(last, k, v, enable_gqa=heads != kv_heads))

    ids, table = torch.randint(vocab, (n,), device=device), new(vocab, hidden, grad=True)
    shape = f"{n} of {vocab} × {hidden}"
    yield "embedding", "forward", shape, 2 * n * hidden * item, None, lambda: F.embedding(ids, table.detach())
    yield "embedding", "backward", shape, (n + vocab) * hidden * item, None, backward(lambda: ((table,), F.embedding(ids, table)))
    product = 2 * n * vocab * hidden
    yield "token_log_probs", "forward", shape, None, product, lambda: nll(h, table.detach(), ids)

    inputs = (new(n, hidden, grad=True), table)
    if liger:
        # It computes the gradients in its forward pass: both passes are timed as one, of three products.
        yield ("token_log_probs", "forward and backward", shape, None, 3 * product,
               lambda: torch.autograd.grad(nll(*inputs, ids), inputs))
    else:
        yield "token_log_probs", "backward", shape, None, 2 * product, backward(lambda: (inputs, nll(*inputs, ids)))

    weight = torch.nn.Parameter(new(vocab, hidden, kind=torch.float32))
    weight.grad = torch.randn_like(weight)
    optimizer = torch.optim.AdamW([weight], lr=1e-3, fused=True)
    shape = f"{vocab} × {hidden}"
    yield "adamw", "forward", shape, vocab * hidden * 28, None, optimizer.step
    yield "sum_of_squares", "forward", shape, vocab * hidden * item, None, lambda: torch.linalg.vector_norm(table.detach())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--size", default="7m", choices=SIZES)
    p.add_argument("--tokens", type=int, default=1024)
    p.add_argument("--seq", type=int, default=256)
    p.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    p.add_argument("--device", default="cuda")
    p.add_argument("--liger", action="store_true")
    a = p.parse_args()
    torch.manual_seed(0)
    device = torch.device(a.device)
    peer, limits = "liger" if a.liger else "torch", {}
    for kernel, way, shape, moved, flops, call in cases(a.size, a.tokens, a.seq, getattr(torch, a.dtype), device, a.liger):
        seconds = timed(call, device)
        rate = (moved or flops) / seconds
        share = rate / limits.setdefault(moved is None, rate)
        print(json.dumps({
            "what": "kernel", "peer": peer, "torch": torch.__version__, "kernel": kernel, "pass": way, "shape": shape, "dtype": a.dtype,
            "median_s": seconds, "gb_per_s": rate / 1e9 if moved else None, "tflop_per_s": rate / 1e12 if flops else None, "share": share,
        }, ensure_ascii=False), flush=True)


main()
