"""A Slurm cluster of this machine alone, with daemons, keys and ports of its own, for tests."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol")
CPUS = 2
CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/d
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=100000
ReturnToService=2
MpiDefault=none
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """What keeps such a cluster from being started here, or None."""
    if os.getuid():
        return "a Slurm cluster for tests is started by root"
    if lacking := [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]:
        return f"{', '.join(lacking)} not found; on Debian: apt-get install slurm-wlm munge"
    return None


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Start it, point SLURM_CONF there, and end all of its processes."""
    folder.chmod(0o755)
    for name in ("ctld", "d"):
        (folder / name).mkdir()
    key, conf, host = folder / "munge.key", folder / "slurm.conf", socket.gethostname().partition(".")[0]
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    conf.write_text(CONF.format(host=host, folder=folder, ports=_free_ports(), cpus=CPUS))
    os.environ["SLURM_CONF"] = str(conf)
    files = (f"--{what}-file={folder}/munged.{what}" for what in ("pid", "log", "seed"))
    try:
        _start("munged", "--force", f"--socket={folder}/munge.sock", f"--key-file={key}", *files)
        _start("slurmctld", "-f", str(conf))
        _start("slurmd", "-f", str(conf))
        end = time.monotonic() + 60
        while "idle" not in run("sinfo", "--noheader", "--format=%T", check=False):
            assert time.monotonic() < end, (folder / "ctld.log").read_text()[-2000:]
            time.sleep(0.2)
        yield
    finally:
        for name in ("d.pid", "ctld.pid", "munged.pid"):
            with suppress(OSError, ValueError, psutil.Error):
                daemon = psutil.Process(int((folder / name).read_text()))
                daemon.send_signal(signal.SIGTERM)
                daemon.wait(30)
        del os.environ["SLURM_CONF"]


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout.strip()


def queue() -> list[str]:
    """The tasks that are in the queue, each as ID|STATE."""
    return run("squeue", "--noheader", "--array", "--format=%F_%K|%T").splitlines()


def _start(name: str, *arguments: str) -> None:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert found is not None
    subprocess.run([found, *arguments], check=True, capture_output=True)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
