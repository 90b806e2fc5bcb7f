#!/bin/bash
# Trains on a SLURM cluster whose jobs may be pre-empted, may reach their time limit and may lose a node.
#
# 1. On the login node, in the folder of vrtool, a virtual environment on a disk that all nodes see:
#        python3 -m venv .venv && .venv/bin/pip install -c recipes/constraints.txt torch==2.13.0 -e .
# 2. The cache and the folder of the run on such a disk too. Below, their paths (SHARED_CACHE, SHARED_RUN), the
#    partition (PARTITION), how many nodes of how many GPUs, and the recipe. A step is made of accumulate_batches
#    passes, which the processes share: there must be at least as many passes as GPUs.
# 3. From the same folder:
#        sbatch recipes/cloud/slurm.sh
#
# Each node first copies the cache to its own disk, unless that has it already. Before the time limit and on pre-emption
# the processes finish their step and save a checkpoint; the job then waits in the queue again and goes on from there,
# as it does after a node is lost. `scancel JOB` ends it for good; submitted once more, it goes on with SHARED_RUN.
#
# Tested with one node of SLURM 22.05 and a stand-in for torchrun: the time limit, scancel, and a pre-emption with
# PreemptMode=REQUEUE and a GraceTime, which has to suffice for a step and its checkpoint.
#
#SBATCH --job-name=vrtool
#SBATCH --partition=PARTITION
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=vrtool-%j.log
# Two minutes before the time limit the processes on the nodes are told, as they are on pre-emption.
#SBATCH --signal=TERM@120

set -euo pipefail

export RECIPE=recipes/ancestor.toml
export CACHE=SHARED_CACHE
export RUN=SHARED_RUN
export PASSES=8 # of a step: at least one for each GPU

export PATH="$PWD/.venv/bin:$PATH"
export OMP_NUM_THREADS=1                  # each GPU has its own process, and that its own loader workers
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100 # seconds in which a step and its checkpoint have to be done

export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # which srun does not take over from sbatch by itself

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
ENDPOINT="${hosts[0]}:$((20000 + SLURM_JOB_ID % 10000))"
ID="vrtool-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"
export ENDPOINT ID

# The manifest is part of every cache and changes with it.
copy_cache() {
    cmp --silent "$CACHE/manifest.json" "$(local_cache)/manifest.json" || {
        rm -rf "$(local_cache)" "$(local_cache).partial" &&
            cp -R "$CACHE" "$(local_cache).partial" &&
            mv "$(local_cache).partial" "$(local_cache)"
    }
}

local_cache() {
    echo "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/vrtool-cache-$USER"
}

train() {
    torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node gpu \
        --rdzv-backend c10d --rdzv-endpoint "$ENDPOINT" --rdzv-id "$ID" --max-restarts 10 \
        -m vrtool train "$RECIPE" --cache "$(local_cache)" --output "$RUN" --auto-resume \
        --set training.accumulate_batches="$PASSES"
}

# SLURM signals every process of a node but this script: the node's shell tells it with exit code 75.
on_this_node() {
    local is_stopping=false code=0
    trap 'is_stopping=true' TERM
    "$1" || code=$?
    if $is_stopping && [ "$code" -ne 0 ]; then code=75; fi
    exit "$code"
}
export -f copy_cache local_cache train on_this_node

code=0
{ srun bash -c "on_this_node copy_cache" && srun bash -c "on_this_node train"; } || code=$?
if [ "$code" -eq 75 ]; then
    echo "stopped on request; the job waits to go on"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
