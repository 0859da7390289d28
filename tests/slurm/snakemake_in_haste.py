"""Snakemake as it is, but that it asks every two seconds what became of its Slurm jobs.

Its plugin waits ten seconds longer after each answer in which nothing has ended, which is kind to a cluster of many
users, and would be most of the time that these tests take.
"""

import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda executor: 2.0, lambda executor, seconds: None)
sys.exit(main())
