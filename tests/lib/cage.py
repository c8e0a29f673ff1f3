"""What a node's processes may still do, as the kernel says: capabilities, system call filters, users."""
import pathlib
import re

from netns import wait_until
from node import TOP, Node, child_pids

# linux/capability.h
NUMBERS = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETPCAP": 8,
           "CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_IPC_LOCK": 14, "CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24,
           "CAP_PERFMON": 38, "CAP_BPF": 39}
KEPT = re.findall(r"\bCAP_[A-Z_]+", re.search(r"kept = \{(.*?)\}", (TOP / "loader/privileges.cpp").read_text(), re.S)[1])


def threads(pid: int) -> list[dict[str, str]]:
    """The status of each thread: capabilities and filters are a thread's own."""
    return [dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]


def faults(statuses: list[dict[str, str]], capabilities: int) -> list[str]:
    """What is open that should be shut. `capabilities`: the most that may be there; with none, the process is nobody's."""
    found = []
    for status in statuses:
        who = f"{status['Name']} thread {status['Pid']}"
        found += [f"{who}: {name} {status[name]}" for name in ("CapInh", "CapAmb", "CapPrm", "CapEff", "CapBnd")
                  if int(status[name], 16) & ~(capabilities if name in ("CapPrm", "CapEff", "CapBnd") else 0)]
        found += [f"{who}: {name} {status[name]}" for name, value in (("Seccomp", "2"), ("NoNewPrivs", "1")) if status[name] != value]
        if not capabilities and "0" in status["Uid"].split():
            found.append(f"{who}: uid {status['Uid']}")
    return found


def pids(node: Node) -> dict[str, int]:
    """By program. Children that the node does not need do not run."""
    names = {pid: pathlib.PurePath(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()).name for pid in child_pids(node.name)}
    return {"posternd": node.process.pid, **{name: pid for pid, name in names.items()}}


def assert_caged(node: Node, *children: str) -> None:
    """These children run, and of each process every thread has what it may have and no more."""
    wait_until(lambda: set(children) <= set(pids(node)), 5, f"{children} run")
    for name, pid in pids(node).items():
        kept = sum(1 << NUMBERS[one] for one in KEPT) if name == "posternd" else 0
        assert not (found := faults(threads(pid), kept)), found
