#!/usr/bin/env bash
# Cancels the Slurm jobs that a Snakemake which is no more has left behind in a study's folder, and waits for their end.
# Usage: profiles/slurm/cancel.sh [FOLDER], by default the folder in which it is called.
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
# for ever, if a node does not answer: what runs there may still write
while left=$(jobs_of_folder) && [ -n "$left" ]; do
    [ "$left" = "${told:-}" ] || echo "Waiting for the end of" $left
    told=$left
    sleep 1
done
echo "The last one has ended."
