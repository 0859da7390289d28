#!/usr/bin/env bash
# Cancel the Slurm jobs that a stopped Snakemake has left in a study's folder, and wait until they have ended.
# Usage: profiles/slurm/cancel.sh [FOLDER]. The default is the current folder.
set -euo pipefail
folder=$(cd "${1:-.}" && pwd -P)

jobs_of_folder() {
    squeue --me --noheader --format '%A %Z' | while read -r job place; do
        [ "$place" != "$folder" ] || echo "$job"
    done
}

jobs=$(jobs_of_folder)
if [ -z "$jobs" ]; then
    echo "No Slurm job of yours is left in $folder."
    exit
fi
echo "Cancelling" $jobs
scancel $jobs
# No time limit: on a node that does not answer, a job may still run and write files.
while left=$(jobs_of_folder) && [ -n "$left" ]; do
    [ "$left" = "${told:-}" ] || echo "Waiting for the end of" $left
    told=$left
    sleep 1
done
echo "The last one has ended."
