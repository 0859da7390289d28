"""Faults that meet a job as it finishes a file: it is killed, held, or its file is cut or late."""

from __future__ import annotations

import os

#: Python imports this first, in each process of the run. It meets a file where the writer has just finished it and not
#: yet renamed it; nothing of it is in the workflow.
AT_RENAMING = """
import os, signal, subprocess, sys, time

targets, fate = os.environ.get("FAULT_TARGETS", ""), os.environ.get("FAULT")
if targets:
    rename, targets = os.replace, tuple(targets.split(os.pathsep))

    def replace(source, destination, **options):
        if not os.fspath(destination).endswith(targets):
            return rename(source, destination, **options)
        if fate == "late":
            # as where another machine's disk shows it after two seconds
            hidden = f"{destination}.late"
            rename(source, hidden)
            later = "import os, sys, time; time.sleep(2); os.rename(*sys.argv[1:])"
            subprocess.Popen([sys.executable, "-S", "-c", later, hidden, destination], start_new_session=True)
            return
        if fate == "half written":
            os.truncate(source, os.path.getsize(source) // 2)
        if fate == "just renamed":
            rename(source, destination, **options)
        if fate != "held":
            os.kill(os.getpid(), signal.SIGKILL)
        while os.path.exists(os.environ["FAULT_HOLD"]):
            time.sleep(0.05)
        return rename(source, destination, **options)

    os.replace = replace
"""


def write_faults(folder):
    """Write what Python imports first; return the function that gives the environment in which targets meet a fate."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(AT_RENAMING, "utf-8")

    def environment(fate, *targets, **more):
        named = os.pathsep.join(f"/{target}" for target in targets)
        return {"PYTHONPATH": str(folder), "FAULT_TARGETS": named, "FAULT": fate, **more}

    return environment
