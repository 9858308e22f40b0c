#!/usr/bin/env python3
"""`adpo bench` beside peer_step.py, alternating, and the ratio of their medians.

needs: torch and transformers in the Python that runs this; a release build of adpo.
usage: compare.py [--adpo target/release/adpo] [--rounds 3] [--steps 10] [--batch N] [--threads 2] [--rows FILE] [CASE ...]
A case is, SIZE a name or the config.json of a Llama,
  SIZE:OBJECTIVE        4 x 128 random ids per role; the peer's have no prompt in common, so ours shares none either
  SIZE:OBJECTIVE:lora   the same on LoRA adapters of rank 16; the peer's are PEFT's
  SIZE:OBJECTIVE:rows   the rows of --rows, four in each step, the same for both; ours computes each prompt once (but with
                        --no-share-prompts); `adpo bench rows` makes such a file of any preferences
  SIZE:generate         64 new tokens at batch 8
--batch N takes the place of 4, and of 8.
Without any: 7m:adpo 7m:sft 15m:adpo 7m:generate, and with --rows 7m:adpo:rows. Each round runs one side and then the other;
the table gives the median over rounds of each side's own median, their ratio, and the range of the rounds' ratios. A step's
ratio is of times, generation's of tokens per second. Peak memory is the larger of the rounds' resident sets.
"""
import argparse, json, os, statistics, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))


def run(command, threads):
    """The JSON line a bench prints, and its peak resident memory in MiB."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return json.loads(output.strip().splitlines()[-1]), usage.ru_maxrss / 1024


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("cases", nargs="*")
    p.add_argument("--no-share-prompts", action="store_true", help="also on --rows")
    p.add_argument("--adpo", default="target/release/adpo"); p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=10); p.add_argument("--threads", type=int, default=2); p.add_argument("--rows"); p.add_argument("--batch", type=int)
    a = p.parse_args()
    cases = a.cases or ["7m:adpo", "7m:sft", "15m:adpo", "7m:generate"] + (["7m:adpo:rows"] if a.rows else [])
    if any("rows" in case.split(":")[2:] for case in cases) != bool(a.rows): p.error("a case `SIZE:OBJECTIVE:rows` needs --rows FILE, and --rows such a case")
    print("| case | adpo | peer | ratio | rounds | MiB adpo | MiB peer |\n|---|---|---|---|---|---|---|")
    for case in cases:
        size, what, *more = case.split(":")
        rows, lora = "rows" in more, "lora" in more
        peer = [sys.executable, os.path.join(HERE, "peer_step.py"), "--size", size, "--threads", str(a.threads), "--seq", "128"]
        if what == "generate":
            batch = str(a.batch or 8)
            ours = [a.adpo, "bench", "sample", "--json", "--size", size, "--batch", batch, "--seq", "128", "--generate", "64"]
            peer += ["--batch", batch, "--generate", "64"]
            key = "new_tokens_per_s"
        else:
            options = ["--objective", what, "--batch", str(a.batch or 4), "--steps", str(a.steps)] + (["--rows", a.rows] if rows else [])
            ours = [a.adpo, "bench", "step", "--json", "--size", size, "--seq", "128"] + options + (["--no-share-prompts"] if a.no_share_prompts or not rows else [])
            peer += options + (["--lora", "16"] if lora else [])
            ours += ["--lora-r", "16"] if lora else []
            key = "median_s"
        rounds = [(run(ours, a.threads), run(peer, a.threads)) for _ in range(a.rounds)]
        x, y = ([r[i][0][key] for r in rounds] for i in (0, 1))
        ratios = sorted(b / c for b, c in zip(x, y))
        middle = statistics.median(x), statistics.median(y)
        memory = [max(r[i][1] for r in rounds) for i in (0, 1)]
        print(f"| {case} | {middle[0]:.3f} | {middle[1]:.3f} | {middle[0] / middle[1]:.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} | {memory[0]:.0f} | {memory[1]:.0f} |", flush=True)


main()
