"""Prints, a line of JSON a job, what each job of a study would ask for if all of it ran again, and what it took.

Run by a test in a process of its own: FOLDER SNAKEFILE CONFIGFILE. Memory in MB, times as they are asked for (minutes)
and were measured (seconds).
"""

import csv
import json
import sys
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

folder, snakefile, configfile = map(Path, sys.argv[1:])
with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    loaded = api.workflow(
        resource_settings=ResourceSettings(cores=2),
        config_settings=ConfigSettings(configfiles=[configfile]),
        snakefile=snakefile,
        workdir=folder,
    )
    loaded.dag(DAGSettings(forceall=True))
    workflow = loaded._workflow
    workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
    workflow._build_dag()
    for job in workflow.dag.jobs:
        if job.output:
            took = [{}]
            if job.benchmark and Path(job.benchmark).is_file():
                with open(job.benchmark, newline="") as file:
                    took = list(csv.DictReader(file, delimiter="\t"))
            said = {name: job.resources.get(name) for name in ("mem_mb", "runtime", "gpu")}
            print(json.dumps({"rule": job.rule.name, **said, "rss": took[0].get("max_rss"), "s": took[0].get("s")}))
