"""What the jobs of a finished study would ask a cluster for, beside what they took."""

from __future__ import annotations

import json
import subprocess
import sys

import yaml
from repository import ROOT

#: Megabytes that Snakemake itself takes beside a job.
SNAKEMAKE = 370


def asked_and_took(study, tmp_path):
    """Return what each job of a finished study would ask for, and check that it took less."""
    overlay = tmp_path / "study.yaml"
    overlay.write_text(yaml.safe_dump(study.config), "utf-8")
    script = ROOT / "tests/asked_resources.py"
    command = [sys.executable, script, study.folder, study.workflow / "Snakefile", overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    jobs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(jobs) > 50, done.stderr
    for job in jobs:
        if job["rss"] not in (None, "NA", "-"):
            assert job["mem_mb"] >= SNAKEMAKE + 1.0486 * float(job["rss"]), job
            assert job["runtime"] * 60 > 2 * float(job["s"]), job
    return jobs
