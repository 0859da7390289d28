#!/usr/bin/env bash
# Ends the Slurm of tests/slurm/up.sh with all its jobs, and takes its configuration away: while one is there and no daemon
# answers, every start of Snakemake takes 10 s longer. Its logs stay in $HISTOTRANSFER_SLURM.
set -euo pipefail
state=${HISTOTRANSFER_SLURM:-/tmp/histotransfer-slurm}

end() {
    [ -s "$1" ] || return 0
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid"
}

if [ "$(readlink /etc/slurm/slurm.conf)" = "$state/slurm.conf" ]; then
    timeout 10 scancel --user "$(id -un)" 2>/dev/null || true
    for _ in $(seq 50); do
        [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break
        sleep 0.2
    done
    rm /etc/slurm/slurm.conf /etc/slurm/gres.conf
    rmdir --ignore-fail-on-non-empty /etc/slurm
fi
end "$state/run/slurmd.pid"
end "$state/run/slurmctld.pid"
end /run/munge/histotransfer.pid
