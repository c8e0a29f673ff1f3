"""Network namespaces that clean up after themselves.

Everything a lab makes hangs on one `Lab`: namespaces (and with them every device inside) and processes. Leaving its context
ends the processes by their pids and deletes the namespaces, whatever happened. Nothing outside is touched.
"""
import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_counter = itertools.count(1)


class CommandFailed(AssertionError):
    pass


def wait_until(true_when, seconds: float, what: str, interval: float = 0.02, patience: float = 3):
    """Polls `true_when` until it returns something true; that value. An AssertionError after `patience` times the `seconds`
    that an idle machine takes at most: a busy one is not a fault of what is tested."""
    deadline = time.monotonic() + seconds * patience
    while True:
        value = true_when()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds * patience:g} s: {what}")
        time.sleep(interval)


def run(command: list, *, check: bool = True, timeout: float = 30, **options) -> subprocess.CompletedProcess:
    done = subprocess.run([os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in command],
                          capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode:
        raise CommandFailed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Process:
    """A child with both outputs in one file; `log()` reads it."""

    def __init__(self, command: list, log_path: pathlib.Path, **options):
        self.log_path = log_path
        self._log = log_path.open("ab")
        self.popen = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=self._log,
                                      stderr=subprocess.STDOUT, **options)
        self.pid = self.popen.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def running(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        if self.running():
            self.popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        return self.popen.wait(timeout)

    def end(self, grace: float = 5) -> None:
        """SIGTERM, and SIGKILL when that is not obeyed within `grace` seconds."""
        self.signal(signal.SIGTERM)
        try:
            self.popen.wait(grace)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._log.close()


class Namespace:
    """One namespace. `run` and `spawn` enter it with nsenter, which leaves /sys/fs/bpf visible (ip netns exec does not)."""

    def __init__(self, lab: "Lab", label: str):
        self.lab, self.label = lab, label
        self.name = f"{lab.prefix}{label}"
        run(["ip", "netns", "add", self.name])
        # No duplicate-address wait: an address is usable when `ip` returns. No router solicitations between the packets counted.
        self.sysctls({f"net.{name}": 0 for where in ("all", "default") for name in (
            f"ipv6.conf.{where}.accept_dad", f"ipv6.conf.{where}.accept_ra", f"ipv6.conf.{where}.router_solicitations",
            f"ipv6.conf.{where}.mldv2_unsolicited_report_interval", f"ipv4.conf.{where}.rp_filter")})
        self.ip("link", "set", "lo", "up")

    def enter(self, *command) -> list:
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *command]

    def run(self, *command, **options) -> subprocess.CompletedProcess:
        return run(self.enter(*command), **options)

    def ip(self, *words, **options) -> str:
        return run(["ip", "-n", self.name, *words], **options).stdout

    def ip6(self, *words, **options) -> str:
        return run(["ip", "-6", "-n", self.name, *words], **options).stdout

    def ip_batch(self, *commands: str, family: int = 4) -> None:
        """Several commands of ip(8) by one process, each a line without `ip`; a CommandFailed names the line of the first that fails.
        `family` matters where ip does not see it in an address (rule)."""
        run(["ip", *(["-6"] if family == 6 else []), "-n", self.name, "-batch", "-"], input="".join(f"{line}\n" for line in commands))

    def sysctl(self, name: str, value) -> None:
        self.sysctls({name: value})

    def sysctls(self, values: dict) -> None:
        """Names as sysctl(8) takes them: parts by dots, a dot within a part as a slash."""
        def write() -> None:
            for name, value in values.items():
                pathlib.Path("/proc/sys", name.translate({ord("."): "/", ord("/"): "."})).write_text(str(value))

        self.inside(write)

    def inside(self, function):
        """What `function` returns when a thread calls it in this namespace. Sockets it opens stay there; /proc/sys/net is the namespace's."""
        result: list = []

        def enter_and_call() -> None:
            try:
                with open(f"/run/netns/{self.name}") as there:
                    if _libc.setns(there.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                result.append((function(), None))
            except BaseException as error:
                result.append((None, error))

        # setns() moves one thread; a thread of its own keeps the others where they are.
        thread = threading.Thread(target=enter_and_call)
        thread.start()
        thread.join()
        value, error = result[0]
        if error:
            raise error
        return value

    def spawn(self, *command, name: str | None = None, **options) -> Process:
        return self.lab.spawn(self.enter(*command), name or f"{self.label}-{pathlib.Path(str(command[0])).name}", **options)

    def router(self) -> None:
        self.sysctls({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})

    def offloads_off(self, device: str) -> None:
        self.run("ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off")

    def mac(self, device: str) -> str:
        return self._link(device)["address"]

    def ifindex(self, device: str) -> int:
        return self._link(device)["ifindex"]

    def _link(self, device: str) -> dict:
        return json.loads(self.ip("-j", "link", "show", "dev", device))[0]

    def devices(self) -> list[str]:
        return [link["ifname"] for link in json.loads(self.ip("-j", "link", "show") or "[]")]

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace for the calling process."""
        return self.inside(lambda: socket.socket(family, kind, protocol))


class Lab(contextlib.ExitStack):
    """Owner of namespaces, processes and a scratch directory with unique names."""

    def __init__(self, scratch: pathlib.Path, prefix: str | None = None):
        super().__init__()
        self.number = next(_counter)
        self.prefix = prefix if prefix is not None else f"pst{os.getpid()}x{self.number}-"
        self.scratch = scratch
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._logs = itertools.count(1)
        self._kept = False
        self.judges: list = []  # called at the end of a lab that went well, while everything in it still runs

    def __exit__(self, kind, value, trace):
        """The judges first. What they raise is raised when everything is removed."""
        try:
            if kind is None:
                for judge in self.judges:
                    judge()
        except BaseException:
            self.close()
            raise
        return super().__exit__(kind, value, trace)

    def close(self) -> None:
        """Removes everything, unjudged: for a lab that did not come to be."""
        super().__exit__(None, None, None)

    def callback(self, callback, /, *words, **named):
        """As ExitStack's, unless keep() was called before the end."""
        return super().callback(lambda: None if self._kept else callback(*words, **named))

    def keep(self) -> None:
        """The lab outlives this object: nothing is ended or removed."""
        self._kept = True

    def namespace(self, label: str) -> Namespace:
        self.callback(self._remove, f"{self.prefix}{label}")
        return Namespace(self, label)

    @staticmethod
    def _remove(name: str) -> None:
        # A process that ends right now may still hold the namespace; its name goes at once all the same.
        run(["ip", "netns", "del", name], check=False)

    def spawn(self, command: list, name: str, **options) -> Process:
        process = Process(command, self.scratch / f"{next(self._logs):03}-{name}.log", **options)
        self.callback(process.end)
        return process

    def veth(self, left: Namespace, left_device: str, right: Namespace, right_device: str, mtu: int = 1500, queues: int = 1) -> None:
        """A cable: one veth end in each namespace, both up."""
        same = f"mtu {mtu} numrxqueues {queues} numtxqueues {queues}"
        left.ip_batch(f"link add {left_device} {same} type veth peer name {right_device} {same} netns {right.name}", f"link set {left_device} up")
        right.ip("link", "set", right_device, "up")

    def bridge(self, where: Namespace, name: str, ports: list[str]) -> None:
        where.ip_batch(f"link add {name} type bridge stp_state 0 mcast_snooping 0 forward_delay 0",
                       *(f"link set {port} master {name}" for port in ports), f"link set {name} up")
