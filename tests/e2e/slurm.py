"""A real SLURM of two nodes on loopback, where it is installed (Debian: slurmctld slurmd slurm-client munge)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.e2e.processes import free_port, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
#: Without cgroups and accounting, as a container allows it.
CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=60
JobRequeue=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def is_installed():
    """Whether SLURM can be started here."""
    return os.geteuid() == 0 and all(shutil.which(program) for program in PROGRAMS)


def _processes_with(word):
    """Those that have a word such as `NAME=value` in their environment."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)


def _parent(process):
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _name(process):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


class Slurm:
    """Within the context there is a SLURM; `environment` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self):
        for name in ("state", "spooln1", "spooln2"):
            (self.folder / name).mkdir()
        key = self.folder / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = os.uname().nodename.partition(".")[0]
        content = CONFIG.format(host=host, folder=self.folder, ports=[free_port() for _ in range(3)])
        (self.folder / "slurm.conf").write_text(content)
        names = {"key-file": "key", "socket": "munge.sock", "pid-file": "munged.pid", "seed-file": "seed"}
        places = [f"--{option}={self.folder}/{name}" for option, name in names.items()]
        self._start("munged", "--foreground", "--force", *places)
        wait_until((self.folder / "munge.sock").exists)
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D", "-N", "n1")
        self._start("slurmd", "-D", "-N", "n2")
        wait_until(lambda: self.command("sinfo", "-h", "-o", "%T %D") == "idle 2", 60)
        return self

    def __exit__(self, *_error):
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait(30)

    def _start(self, *command):
        with (self.folder / f"{len(self.daemons)}.{command[0]}.log").open("wb") as log:
            self.daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | self.environment))

    def lose(self, node):
        """Kill a node's daemon and its jobs, as a loss of power does, and have the controller know at once."""
        [daemon] = [daemon for daemon in self.daemons if node in daemon.args]
        jobs = list(_processes_with(f"SLURMD_NODENAME={node}"))
        # Those that start jobs would tell the controller of their end.
        starters = [parent for parent in map(_parent, jobs) if _name(parent) == "slurmstepd"]
        for number in (daemon.pid, *starters, *jobs):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")

    def let_waiting_jobs_start(self):
        """How many jobs there are still; those that were put back, and wait for two minutes, may start."""
        jobs = self.command("squeue", "-h", "-r", "-o", "%i %T %r").splitlines()
        for job, _, reason in map(str.split, jobs):
            if reason == "BeginTime":
                self.command("scontrol", "update", f"JobId={job}", "StartTime=now")
        return len(jobs)

    def command(self, *words):
        """The output of one of SLURM's commands."""
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ | self.environment, timeout=60)
        return done.stdout.strip()
