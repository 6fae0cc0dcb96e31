#!/bin/bash
# The job of run 20261122-101500-7f3a of suite batch_size: a Ray node on each node of the allocation, and the run on them.
# Written by harness 0.1.0; docs/slurm.md says what it does, and how to find out what went wrong.
#SBATCH --job-name=batch_size
#SBATCH --chdir=/home/ada
#SBATCH --output=/home/ada/results/batch_size/20261122-101500-7f3a/slurm/job-%a.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --array=0-99%20
#SBATCH --signal=B:TERM@120
#SBATCH --no-requeue
#SBATCH --no-kill

run=/home/ada/results/batch_size/20261122-101500-7f3a
job="$run/slurm"
harness=(/opt/harness/bin/harness)
suite=suites/batch_size.py
options=(--results results --run 20261122-101500-7f3a --resume)
restart=${SLURM_RESTART_COUNT:-0}
shard=$SLURM_ARRAY_TASK_ID
id=${SLURM_ARRAY_JOB_ID}_$shard  # the last of an array has the whole one's as its own
log="$job/nodes-$shard.log"

say() { printf '%(%H:%M:%S)T job %s: %s\n' -1 "$id" "$*"; }

say "start $restart on $SLURM_JOB_NODELIST, this script on $SLURMD_NODENAME"
if [ ! -e "$job/job.json" ]; then
    say "$SLURMD_NODENAME does not see $job: the results folder has to be shared between the nodes (--results)"
    exit 2
elif [ ! -e "$suite" ]; then
    say "$SLURMD_NODENAME does not see $suite of $SLURM_SUBMIT_DIR: the suite has to be where all nodes see it"
    exit 2
fi

# Slurm's SIGTERM (the time limit is near, preemption, requeue, scancel) goes to the run, which saves and ends. --------
told=no driver=
terminate() {
    [ "$told" = no ] || return
    told=yes
    say "told to end (SIGTERM)"
    [ -z "$driver" ] || kill -TERM "$driver" 2>/dev/null
}
trap terminate TERM

# What Slurm granted, and a place of this job's own: several jobs may share a node. ------------------------------------
if ! command -v "${harness[0]}" >/dev/null; then
    say "there is no ${harness[0]} on $SLURMD_NODENAME: name one that all nodes see (--command, --container)"
    exit 2
fi
set -u
HARNESS_SLURM_JOB=$(scontrol show job -d -o "$id")
for _ in {1..6}; do  # a controller may be busy, or just be started anew
    addresses=$(scontrol show node -o "$SLURM_JOB_NODELIST") && break
    sleep 5
done
HARNESS_SLURM_ADDRESSES=$(sed -nE 's/^NodeName=([^ ]+) .* NodeAddr=([^ ]+) .*/\1=\2/p' <<<"$addresses" | tr '\n' ' ')
head=$(sed -nE "s/^NodeName=$SLURMD_NODENAME .* NodeAddr=([^ ]+) .*/\1/p" <<<"$addresses")
if [ -z "$head" ]; then
    say "Slurm does not tell where $SLURMD_NODENAME is: \`scontrol show node $SLURMD_NODENAME\` has to have a NodeAddr"
    exit 2
fi
HARNESS_SLURM_PORT=$((20000 + SLURM_JOB_ID % 10000))
while (exec 3<>"/dev/tcp/$head/$HARNESS_SLURM_PORT") 2>/dev/null; do
    HARNESS_SLURM_PORT=$((20000 + (HARNESS_SLURM_PORT + 1) % 10000))
done
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export HARNESS_SLURM_JOB HARNESS_SLURM_ADDRESSES HARNESS_SLURM_PORT RAY_AUTH_TOKEN
unset RAY_AUTH_TOKEN_PATH RAY_ADDRESS

# A Ray node on each node, which lives as long as this script holds the other end of its standard input. ---------------
start_node='
[ -e "$1/job.json" ] || { echo "harness: node $SLURMD_NODENAME: does not see $1: results have to be shared"; exit 2; }
shift
command -v "$1" >/dev/null || { echo "harness: node $SLURMD_NODENAME: there is no $1"; exit 2; }
exec "$@" node --slurm
'
[ ! -e "$log" ] || mv "$log" "$log.before"
exec 9> >(trap '' TERM; exec srun --no-kill --kill-on-bad-exit=0 --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
    --whole --mem=0 --cpu-bind=none --export=ALL --label bash -c "$start_node" node "$job" "${harness[@]}" >"$log" 2>&1)
nodes=$!

# A preemption tells the nodes alone, and they write so into their log; where all have ended, the run may not find out.
watch() {
    until sleep 1; grep -q "Slurm tells it to end" "$log"; do
        kill -0 "$nodes" || { sleep 15; kill -TERM "$driver"; return; }
    done
    kill -TERM $$
}

# The run. -------------------------------------------------------------------------------------------------------------
if [ "$told" = no ]; then
    "${harness[@]}" run "$suite" "${options[@]}" --shard "$shard/100" \
        --address "$head:$HARNESS_SLURM_PORT" --expect-nodes "$SLURM_JOB_NUM_NODES" \
        --expect-within 5m --nodes-log "$log" 9>&- &
    driver=$!
    [ "$told" = no ] || kill -TERM "$driver"
    watch 9>&- >/dev/null 2>&1 &
    watcher=$!
fi
code=75
while [ -n "$driver" ]; do  # a signal interrupts `wait`
    wait "$driver"
    code=$?
    kill -0 "$driver" 2>/dev/null || break
done
if [ "$code" = 143 ]; then  # of that signal, or of the run itself
    wait "$driver" 2>/dev/null
    again=$?
    [ "$again" = 127 ] || code=$again
    [ "$told$code" != yes143 ] || code=75  # it was told before it could listen: all is left
fi

# The end: the nodes go, and clean up. A second SIGTERM changes nothing. -----------------------------------------------
trap '' TERM
[ -z "$driver" ] || kill "$watcher" 2>/dev/null
exec 9>&-
for _ in {1..100}; do kill -0 "$nodes" 2>/dev/null || break; sleep 0.2; done
kill -KILL "$nodes" 2>/dev/null
say "the run ended with exit code $code"
exit "$code"
