"""What Snakemake itself takes to plan a study of 1,000 slides, against as many trivial jobs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import measuring
from measuring import Row

WORKFLOW = Path(__file__).resolve().parents[1]
N = 1000
CONFIG = """
study: {name: big, datasets: [big], methods: [mobilenetv2+svm], splits: [by-patient], seeds: [1]}
datasets: {big: {kind: slides, sheet: slides.tsv, tiling: demo, tasks: [tissue]}}
"""
TRIVIAL = """
rule all:
    input: expand("r/{last}/{{i}}", i=range({n}))
"""


def rows(folder: Path, repetitions: int) -> Iterator[Row]:
    """Yield the dry run against shell jobs, and for comparison against script jobs with log and benchmark."""
    ours = folder / "planning"
    (ours / "scans").mkdir(parents=True, exist_ok=True)
    lines = ["image\tpath\tpatient\tlabel"]
    for k in range(N):
        (ours / f"scans/s{k:04d}.tif").touch()
        lines.append(f"s{k:04d}\tscans/s{k:04d}.tif\tp{k // 2:03d}\t{('fibrous', 'glandular', 'lymphoid')[k // 2 % 3]}")
    (ours / "slides.tsv").write_text("\n".join(lines) + "\n")
    (ours / "big.yaml").write_text(CONFIG)
    command = ("--snakefile", str(WORKFLOW / "Snakefile"), "--configfile", "big.yaml")
    jobs = int(re.search(r"^total\s+(\d+)", _plan(ours, *command), re.MULTILINE)[1])
    chain = round(jobs / N)
    for word, body in (("shell", 'shell: "touch {output}"'), ("script", _SCRIPT)):
        trivial = folder / f"trivial-{word}"
        _write_trivial(trivial, chain, body)
        ratio = measuring.ratios(
            lambda: _plan(ours, *command),
            lambda trivial=trivial: _plan(trivial),
            repetitions,
            clock=lambda work: measuring.processor_seconds(work, children=True),
        )
        what = f"dry run of 1,000 slides ({jobs:,} jobs), against {chain * N:,} trivial {word} jobs"
        # the bar is about the plainest jobs; the second row shows what script, log and benchmark cost by themselves
        yield Row(what, *ratio, bar=1.5, at_least=False, note="" if word == "shell" else "for comparison")


_SCRIPT = 'log: "logs/{name}/{{i}}"\n    benchmark: "benchmarks/{name}/{{i}}"\n    script: "touch.py"'


def _write_trivial(folder: Path, chain: int, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "touch.py").write_text('open(snakemake.output[0], "w").close()\n')
    text = TRIVIAL.format(last=f"s{chain - 1}", n=N)
    for k in range(chain):
        before = f'    input: "r/s{k - 1}/{{i}}"\n' if k else ""
        filled = body.replace("{name}", f"s{k}").replace("{{", "{").replace("}}", "}")
        text += f'\nrule s{k}:\n{before}    output: "r/s{k}/{{i}}"\n    {filled}\n'
    (folder / "Snakefile").write_text(text)


def _plan(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "2", *arguments]
    done = subprocess.run([*command, "--directory", str(folder)], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout + done.stderr
