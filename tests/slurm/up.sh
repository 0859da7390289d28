#!/usr/bin/env bash
# A real Slurm of one node on this machine, for tests/test_slurm.py. Needs root on Debian; installs Slurm if it is not there.
# The node is said to have more processors and memory than it has, so that a small machine takes every job of a small study,
# and two GPUs that are links to /dev/null. Nothing here needs systemd, cgroups or an accounting database.
# tests/slurm/down.sh ends it. Both keep what they write in $HISTOTRANSFER_SLURM, by default /tmp/histotransfer-slurm.
set -euo pipefail
state=${HISTOTRANSFER_SLURM:-/tmp/histotransfer-slurm}
packages="slurmctld slurmd slurm-client munge"

refuse() {
    echo "No Slurm was started: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || refuse "it needs root, to install $packages and to start jobs."
if ! command -v slurmctld slurmd squeue munged >/dev/null; then
    command -v apt-get >/dev/null || refuse "it needs Debian or Ubuntu, or the programs of these packages: $packages."
    installing="apt-get install -y -qq --no-install-recommends $packages"
    export DEBIAN_FRONTEND=noninteractive
    { $installing || { apt-get update -qq && $installing; }; } >/dev/null || refuse "apt-get could not install $packages."
fi
if [ -e /etc/slurm/slurm.conf ]; then
    [ "$(readlink /etc/slurm/slurm.conf)" = "$state/slurm.conf" ] || refuse "/etc/slurm/slurm.conf is of another Slurm."
    "$(dirname "$0")/down.sh"
fi

host=$(hostname -s)
rm -rf "$state"
mkdir -p "$state"/{controller,node,log,run}
for number in 0 1; do
    ln -s /dev/null "$state/gpu$number"
done
cat >"$state/slurm.conf" <<END
ClusterName=histotransfer
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16917
SlurmdPort=16918
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/node
SlurmctldPidFile=$state/run/slurmctld.pid
SlurmdPidFile=$state/run/slurmd.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/slurmd.log
# no cgroups: processes are found by their parents, and memory is looked at each second
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
# no database: what became of a job is asked from the controller, which keeps it for an hour
AccountingStorageType=accounting_storage/none
MinJobAge=3600
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
GresTypes=gpu
MpiDefault=none
SwitchType=switch/none
# in haste, where a cluster takes its time
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=5,sched_min_interval=0
KillWait=2
BatchStartTimeout=1
OverTimeLimit=0
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes=$host Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes=$host MaxTime=1-00:00:00 State=UP
END
printf 'AutoDetect=off\nName=gpu File=%s/gpu[0-1]\n' "$state" >"$state/gres.conf"
# Slurm looks there even in a job in which all its variables are taken away, as Snakemake's plugin does
mkdir -p /etc/slurm
ln -s "$state/slurm.conf" /etc/slurm/slurm.conf
ln -s "$state/gres.conf" /etc/slurm/gres.conf

[ -s /etc/munge/munge.key ] || mungekey --create
if ! pgrep -x munged >/dev/null; then
    install -d -o munge -g munge -m 755 /run/munge
    runuser -u munge -- munged --pid-file=/run/munge/histotransfer.pid
fi
slurmctld
slurmd
for _ in $(seq 100); do
    if timeout 5 sinfo --noheader --format %T 2>/dev/null | grep -q idle; then
        sinfo --format '%P %T %c processors %m MB %G'
        exit
    fi
    sleep 0.2
done
tail -n 5 "$state"/log/*.log >&2
"$(dirname "$0")/down.sh"
refuse "it did not become idle in 20 s; the last lines of its logs are above."
