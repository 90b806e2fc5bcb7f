"""Prepares a cache with the nodes of a SLURM cluster: jobs are submitted as work waits, and ended when none is left.

    pip install -c recipes/constraints.txt -e ".[cluster]" dask-jobqueue==0.9.0
    python recipes/cluster/slurm.py --max-jobs 20 --walltime 04:00:00 --pairs songs --vocals voices --output cache

Run it on the login node, or in a small job that lasts as long as the whole work, in a terminal that stays (tmux). What
is no option of this script goes to `vrtool prepare`. Needed: the virtual environment, the libraries and the cache on a
disk that all nodes see under the same path, and a network between the nodes and the login node (--interface names it
where there are several). A job has one worker process per core, with 1 GB each: preparing a pair of ten minutes took
0.2 GB. A job that reaches its walltime is followed by another, and Ctrl-C keeps what is finished: the same command
goes on.

`--show-job` prints the job script and submits nothing: look at it first. Tested with one node of SLURM 22.05.
"""

from __future__ import annotations

import argparse
import signal
import sys

from dask_jobqueue import SLURMCluster

from vrtool.cli import main as vrtool

GIGABYTES_PER_CORE = 1
MINUTES_TO_FINISH = 5
"""What a worker leaves of its job's walltime unused: it hands its tracks on, in place of being killed with them."""


def main() -> None:
    """Start the scheduler here, let SLURM start the workers, prepare, and end them all."""
    # Importing dask_jobqueue has made Ctrl-C an exit with code 0, of which vrtool would not hear.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments, words = _parser().parse_known_args()
    with _cluster(arguments) as cluster:
        if arguments.show_job:
            print(cluster.job_script())
            return
        cluster.adapt(minimum_jobs=1, maximum_jobs=arguments.max_jobs)
        print("waiting for SLURM to start the first job (squeue --me shows it)", flush=True)
        cluster.wait_for_workers(1)
        sys.argv = ["vrtool", "prepare", *words, "--scheduler", cluster.scheduler_address]
        vrtool()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Prepare a cache on SLURM; other options go to vrtool prepare.", allow_abbrev=False
    )
    parser.add_argument("--max-jobs", type=int, required=True, help="how many jobs may run at once")
    parser.add_argument("--walltime", required=True, metavar="HH:MM:SS", help="of each job")
    parser.add_argument("--cores", type=int, default=8, help="of each job (8)")
    parser.add_argument("--memory", help=f"of each job ({GIGABYTES_PER_CORE}GB for each core)")
    parser.add_argument("--partition", help="of SLURM")
    parser.add_argument("--account", help="of SLURM")
    parser.add_argument("--interface", help="network that nodes and login node share, such as ib0")
    parser.add_argument("--show-job", action="store_true", help="print the job script and end")
    return parser


def _cluster(arguments: argparse.Namespace) -> SLURMCluster:
    hours, minutes, _ = (int(part) for part in arguments.walltime.split(":"))
    lifetime_minutes = 60 * hours + minutes - MINUTES_TO_FINISH
    return SLURMCluster(
        cores=arguments.cores,
        processes=arguments.cores,  # decoding holds Python's lock: threads of one process would wait for each other
        memory=arguments.memory or f"{GIGABYTES_PER_CORE * arguments.cores}GB",
        walltime=arguments.walltime,
        queue=arguments.partition,
        account=arguments.account,
        interface=arguments.interface,
        job_name="vrtool",
        log_directory="slurm-logs",
        local_directory="${TMPDIR:-/tmp}",  # the node's own disk, as its shell knows it
        worker_extra_args=["--no-dashboard", "--lifetime", f"{lifetime_minutes}m"],
        scheduler_options={"dashboard": False},
    )


if __name__ == "__main__":
    main()
