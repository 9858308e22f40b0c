"""Kills runs of `adpo run` at random moments, lets them go on, and compares what they leave with a run that nobody killed.

Usage: python kills.py ADPO [KILLS] [SEED], where ADPO is the built program. The run has all stages, three seeds and a sweep of `--set`, on
the two-layer model of the fixtures. Each folder is killed KILLS_EACH times on its way, so that the moments spread over the whole run. At
the end its files have the same names and bytes as those of the run that nobody killed: timings and the time of the report aside, which
are a clock's. Exit status 1 where they have not; the folder is then kept.
"""

import collections
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KILLS_EACH = 10
RECIPE = """
name = "killed"
seeds = [1, 2, 3]
base = {{ checkpoint = '{base}' }}
encoding = {{ max_length = 200 }}
[sft]
sources = [{{ id = "embedded:dialogues", buckets = [0, 1], limit = 60, unmarked_toxic_share = 0.2 }}]
rehearsal = {{ samples = 1, draw = {{ max_new_tokens = 8 }} }}
train = {{ learning_rate = 1e-3, batch_size = 8, save_steps = 2, save_total_limit = 2 }}
[sample]
sources = [{{ id = "embedded:dialogues", buckets = [2], limit = 132 }}]
temperatures = [0.7, 0.7, 0.7, 0.7, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5]
draw = {{ max_new_tokens = 2 }}
[annotate]
judge = "embedded"
rule = {{ margin = 0.0, toxic_threshold = 0.2 }}
[preference]
train = {{ learning_rate = 1e-3, batch_size = 4, save_steps = 3, save_total_limit = 2 }}
[[policies]]
name = "adpo"
objective.adpo = {{}}
[[policies]]
name = "both"
pairs = "rejected_and_toxic"
objective.dpo = {{ beta = 0.3 }}
[evaluate]
sources = [{{ id = "embedded:dialogues", buckets = [3], limit = 20 }}]
judge = "embedded"
audit = ["sft"]
audit_limit = 4
draw = {{ max_new_tokens = 16 }}
"""
# A report names the time at which it was made, and a page has the report in it.
CLOCK = re.compile(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


class Runs:
    def __init__(self, adpo: str, root: Path) -> None:
        self.root, self.temporary = root, root / "temporary"
        self.temporary.mkdir()
        recipe = root / "recipe.toml"
        base = Path(__file__).resolve().parents[1] / "fixtures" / "llama2-mha"
        recipe.write_text(RECIPE.format(base=base))
        self.command = [adpo, "run", str(recipe), "--set", "policies.both.beta=0.1,0.3", "--tensorboard", "--run-dir"]

    def start(self, folder: Path) -> subprocess.Popen:
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        return subprocess.Popen(
            [*self.command, str(folder)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def finish(self, folder: Path) -> float:
        """Seconds of work."""
        run, before = self.start(folder), work_of_children()
        _, told = run.communicate()
        if run.returncode != 0:
            raise SystemExit(f"{folder} does not go on after {run.returncode}:\n{told}")
        return work_of_children() - before

    def killed(self, folder: Path, work: float, pause: float) -> bool:
        """Kills the run a moment after so many seconds of its work; whether it was still going on then."""
        run = self.start(folder)
        while run.poll() is None:
            if seconds_of_work(run.pid) >= work:
                time.sleep(pause)
                run.kill()  # SIGKILL: no destructor, no flush.
                break
            time.sleep(0.001)
        _, told = run.communicate()
        if run.returncode > 0:
            raise SystemExit(f"{folder} does not go on after {run.returncode}:\n{told}")
        return run.returncode < 0


# Moments are counted in a process's own work and not by the clock, so that they spread over the run however busy the machine is.
def seconds_of_work(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def stage_at_work(folder: Path) -> str:
    """The kind of the stage that a kill has left unfinished."""
    for started in sorted(folder.glob("seed-*/**/inputs.json")):
        if not started.with_name("manifest.json").exists():
            stage = started.parent.relative_to(folder).parts[1]
            inside = any(started.parent.rglob(".step-*.tmp")) or any(started.parent.rglob(".model.tmp"))
            return stage + (", while it wrote a folder" if inside else "")
    return "between stages"


def is_temporary(path: Path) -> bool:
    return ".tmp" in path.name


def contents(folder: Path) -> dict[str, bytes]:
    files = {}
    for path in sorted(folder.rglob("*")):
        # TensorBoard's files have the time in their names.
        name = re.sub(r"(events\.out\.tfevents)\.\d+", r"\1", str(path.relative_to(folder)))
        if path.is_dir():
            files[name + "/"] = b""
        elif path.name == "timings.jsonl" or path.name.startswith("events.out."):
            files[name + (" once more" if name in files else "")] = b""
        else:
            files[name] = CLOCK.sub(b"", path.read_bytes())
    return files


def differences(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    missing = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    extra = [f"{name} is left over" for name in found.keys() - wanted.keys()]
    other = [f"{name} differs" for name in wanted.keys() & found.keys() if found[name] != wanted[name]]
    return sorted(missing + extra + other)


def main() -> None:
    adpo, kills, seed = sys.argv[1], int((sys.argv[2:] or ["200"])[0]), int((sys.argv[3:] or ["1"])[0])
    draw = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="adpo-kills-"))
    runs = Runs(os.path.abspath(adpo), root)
    length = runs.finish(root / "whole")
    wanted = contents(root / "whole")
    print(f"a run takes {length:.1f} s of CPU time and leaves {len(wanted)} files and folders", flush=True)
    stages, half_written, done, folders = collections.Counter(), 0, 0, 0
    while done < kills:
        folders += 1
        folder = root / f"killed-{folders}"
        for _ in range(min(KILLS_EACH, kills - done)):
            if not runs.killed(folder, draw.uniform(0, 2 * length / (KILLS_EACH + 1)), draw.uniform(0, 0.02)):
                break
            done += 1
            stages[stage_at_work(folder)] += 1
            half_written += any(map(is_temporary, folder.rglob("*")))
        runs.finish(folder)
        wrong = differences(contents(folder), wanted)
        wrong += [f"{path} is left in the folder of temporary files" for path in runs.temporary.iterdir()]
        if wrong:
            raise SystemExit(f"{folder}, after {done} kills, seed {seed}:\n" + "\n".join(wrong))
        shutil.rmtree(folder)
    shutil.rmtree(root)
    where = ", ".join(f"{stage}: {count}" for stage, count in stages.most_common())
    print(f"{done} kills in {folders} folders, {half_written} of them with something half written: all ended equal ({where})")


main()
