import argparse
import dataclasses
import sys

from histotransfer.planning import plan

parser = argparse.ArgumentParser(description="What a study will take: processor and GPU hours, disk, jobs, shards.")
parser.add_argument("--slides", type=int, nargs="+", default=[100, 1000, 10_000, 100_000], help="one row each")
parser.add_argument("--tiles", type=int, default=5000, help="kept tiles of a slide (default 5000)")
parser.add_argument("--networks", nargs="+", default=["ResNet50"], help="architectures of the table of networks")
parser.add_argument("--gpus", type=int, default=0, help="GPUs that extract at a time; 0: processors do")
parser.add_argument(
    "--gpu-tiles-s", nargs="+", default=[], metavar="RATE or NETWORK=RATE", help="tiles a second of one GPU, your own"
)
parser.add_argument("--cores", type=int, default=16, help="processors at a time (default 16)")
parser.add_argument("--threads", type=int, default=8, help="of an extraction on processors (default 8)")
parser.add_argument("--seeds", type=int, default=1, help="seeds of the study (default 1)")
parser.add_argument("--train-tiles", default="10000", help="tiles that a classifier learns from at the most, or all")
parser.add_argument("--slurm", action="store_true", help="count what jobs of Slurm cost")
parser.add_argument("--measure", action="store_true", help="measure this machine first, some 20 s a network")
given = parser.parse_args()
try:
    asked = plan.checked(
        plan.Asked(
            slides=min(given.slides),
            tiles=given.tiles,
            networks=tuple(given.networks),
            gpus=given.gpus,
            gpu_tiles_s=plan.gpu_rates(given.gpu_tiles_s, given.networks),
            threads=given.threads,
            cores=given.cores,
            seeds=given.seeds,
            train_tiles=plan.train_tiles(given.train_tiles),
            slurm=given.slurm,
        )
    )
except ValueError as error:
    sys.exit(str(error))
known = plan.measured_here(asked.networks) if given.measure else plan.Rates()
plans = {slides: plan.plan(dataclasses.replace(asked, slides=slides), known) for slides in given.slides}
print(plan.in_words(asked, plans, known))
