"""strongSwan as the independent IKEv2 peer: charon-systemd with userspace ESP (kernel-libipsec) inside one network namespace.

Its ESP is tunnel mode in UDP on port 4500 always, because kernel-libipsec cannot send protocol 50; so it pretends to be behind
a NAT. Several may run side by side: configuration, control socket and log of each are files of its lab's scratch directory.
"""
import contextlib
import ctypes
import dataclasses
import os
import pathlib
import re
import signal
import socket

from netns import Lab, Namespace, Process, wait_until
from node import NotifySocket
from vici import Vici, ViciRefused

CHARON = "/usr/sbin/charon-systemd"
# openssl is the cipher of the packets as well: strongSwan's own software AES-GCM is ten times slower.
PLUGINS = "random nonce openssl kdf hmac sha1 sha2 curve25519 chapoly kernel-libipsec kernel-netlink socket-default vici counters"
SO_RCVBUFFORCE = 33
_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438


def settings(values: dict, depth: int = 1) -> str:
    """strongswan.conf's syntax."""
    pad = "  " * depth
    lines = []
    for key, value in values.items():
        lines.append(f"{pad}{key} {{\n{settings(value, depth + 1)}{pad}}}\n" if isinstance(value, dict) else f"{pad}{key} = {value}\n")
    return "".join(lines)


@dataclasses.dataclass
class Connection:
    """One connection as `load-conn` takes it: an IKE SA and its children. `more` and `child` override or add keys."""
    name: str
    local: str                       # outer address
    remote: str | list[str]
    local_ts: list[str]
    remote_ts: list[str]
    psk: str = "a key that both know"
    proposals: list[str] = dataclasses.field(default_factory=lambda: ["aes128-sha256-modp2048"])
    esp_proposals: list[str] = dataclasses.field(default_factory=lambda: ["aes128-sha256"])
    local_id: str | None = None
    remote_id: str | None = None
    more: dict = dataclasses.field(default_factory=dict)
    child: dict = dataclasses.field(default_factory=dict)
    children: dict[str, dict] | None = None  # instead of the one child "c"

    def message(self) -> dict:
        remote = self.remote if isinstance(self.remote, list) else [self.remote]
        one = {"mode": "tunnel", "local_ts": self.local_ts, "remote_ts": self.remote_ts, "esp_proposals": self.esp_proposals,
               "start_action": "none", "close_action": "none", "dpd_action": "clear", "rekey_time": "0", "life_time": "0", **self.child}
        children = {"c": one} if self.children is None else {name: {**one, **child} for name, child in self.children.items()}
        return {self.name: {
            "version": "2", "local_addrs": [self.local], "remote_addrs": remote, "proposals": self.proposals, "mobike": "no",
            "rekey_time": "0", "reauth_time": "0", "unique": "replace", "encap": "yes",
            "local": {"auth": "psk", "id": self.local_id or self.local},
            "remote": {"auth": "psk", "id": self.remote_id or ("%any" if "%any" in remote else remote[0])},
            "children": children, **self.more}}


class Charon:
    """A running charon, wherever it runs: what its control socket can do. `control()` opens another connection."""

    def __init__(self, label: str):
        self.label = label
        self._vici: Vici | None = None
        self._loaded: dict[str, Connection] = {}

    def control(self) -> Vici:
        raise NotImplementedError

    def close(self) -> None:
        if self._vici is not None:
            self._vici.close()
            self._vici = None

    # -- configuration

    def load(self, connection: Connection) -> Connection:
        """Also loads its key, for the identities of this connection alone. Loading a name again replaces it."""
        message = connection.message()
        self._vici.request("load-conn", message)
        body = message[connection.name]
        owners = sorted({one for one in (body["local"]["id"], body["remote"]["id"]) if one != "%any"})
        self._vici.request("load-shared", {"id": f"psk-{connection.name}", "type": "IKE", "data": connection.psk, "owners": owners})
        self._loaded[connection.name] = connection
        return connection

    def unload(self, name: str) -> None:
        del self._loaded[name]
        self._vici.request("unload-conn", {"name": name})
        self._vici.request("unload-shared", {"id": f"psk-{name}"})

    # -- actions

    def initiate(self, connection: str | None = None, child: str | None = "c", seconds: float = 8, check: bool = True) -> bool:
        """Up within `seconds`, or False (ViciRefused with `check`)."""
        message = {"timeout": int(seconds * 1000), "loglevel": "-1"}
        message |= {"child": child} if child else {}
        message |= {"ike": connection} if connection else {}
        return self._ask("initiate", message, seconds + 5, check)

    def initiate_soon(self, connection: str, child: str = "c") -> None:
        """Only says so: returns at once."""
        self._vici.request("initiate", {"child": child, "ike": connection, "timeout": "-1"})

    def terminate(self, seconds: float = 8, check: bool = True, **what) -> bool:
        """`what`: ike=, child=, ike_id=, child_id=, force=."""
        message = {key.replace("_", "-"): value for key, value in what.items()}
        return self._ask("terminate", {**message, "timeout": int(seconds * 1000), "loglevel": "-1"}, seconds + 5, check)

    def terminate_soon(self, **what) -> None:
        """Only says so: returns at once."""
        self._vici.request("terminate", {**what, "timeout": "-1"})

    def rekey(self, **what) -> int:
        """ike= or child=; how many SAs it began with. Watch for the event."""
        return int(self._vici.request("rekey", what)["matches"])

    def _ask(self, command: str, message: dict, seconds: float, check: bool) -> bool:
        try:
            # A connection of its own: an exchange may take longer than other requests can wait.
            with self.control() as one:
                one.request(command, message, seconds)
            return True
        except ViciRefused:
            if check:
                raise
            return False

    # -- state

    def sas(self) -> list[dict]:
        """Every IKE SA: its name under "name", its children (dicts with "name") under "child-sas" as a list."""
        found = []
        for event in self._vici.streamed("list-sas", "list-sa"):
            for name, sa in event.items():
                children = [one for one in sa.get("child-sas", {}).values()]
                found.append({**sa, "connection": name, "child-sas": children})
        return found

    def established(self, connection: str | None = None) -> list[dict]:
        return [sa for sa in self.sas() if sa["state"] == "ESTABLISHED" and connection in (None, sa["connection"])]

    def children(self, connection: str | None = None) -> list[dict]:
        """Installed child SAs."""
        return [child for sa in self.sas() if connection in (None, sa["connection"]) for child in sa["child-sas"]
                if child["state"] in ("INSTALLED", "REKEYED")]

    def wait_child(self, count: int = 1, seconds: float = 8, connection: str | None = None) -> list[dict]:
        wait_until(lambda: len(self.children(connection)) == count, seconds, f"{count} child SAs at {self.label}, it has {self.sas()}")
        return self.children(connection)

    def wait_none(self, seconds: float = 8) -> None:
        wait_until(lambda: not self.sas(), seconds, f"{self.label} has no SA left")

    @contextlib.contextmanager
    def watching(self, *events: str):
        """A Vici that is registered for `events`: ike-updown, ike-rekey, child-updown, child-rekey."""
        with self.control() as one:
            one.register(*events)
            yield one

    def counters(self) -> dict[str, int]:
        """IKE messages by kind, of all connections."""
        return {key: int(value) for key, value in self._vici.request("get-counters")["counters"][""].items()}


class StrongSwan(Charon):
    """One charon. `options` go into its section of strongswan.conf; `log` is the level of its log by group; networks of `reach` are
    routed to it whether it has an SA for them or not."""

    def __init__(self, lab: Lab, namespace: Namespace, label: str = "swan", *, options: dict | None = None, log: dict | None = None,
                 plugins: str = PLUGINS, reach: tuple[str, ...] = ()):
        super().__init__(label)
        self.lab, self.namespace, self.reach = lab, namespace, reach
        self.home = lab.scratch / label
        self.home.mkdir(parents=True, exist_ok=True)
        self.process: Process | None = None
        # A socket's path is at most 107 bytes long, and pytest's directories are not short.
        self._socket = pathlib.Path(f"/run/{lab.prefix}{label}.vici")
        lab.callback(self._socket.unlink, missing_ok=True)
        self._log = self.home / "charon.log"
        self._write(options or {}, {"default": 1, **(log or {})}, plugins)
        lab.callback(self.close)

    def _write(self, options: dict, log: dict, plugins: str) -> None:
        own = {"load": plugins, "install_routes": "yes", "retransmit_timeout": 1, "retransmit_tries": 3, "retransmit_base": 1.4,
               "filelog": {"all": {"path": self._log, "flush_line": "yes", "append": "yes", "time_format": "%T", "time_add_ms": "yes", **log}},
               "syslog": {"daemon": {"default": -1}, "auth": {"default": -1}}, "journal": {"default": -1},
               "plugins": {"kernel-netlink": {"fwmark": "!0x42"}, "socket-default": {"fwmark": "0x42"},
                           "kernel-libipsec": {"allow_peer_ts": "yes"}, "vici": {"socket": f"unix://{self._socket}"}}}
        plugin_options = options.pop("plugins", {})
        own["plugins"].update(plugin_options)
        (self.home / "strongswan.conf").write_text(f"charon-systemd {{\n{settings({**own, **options})}}}\n")

    # -- life

    def start(self, seconds: float = 15) -> "StrongSwan":
        """Ready, with every connection loaded that was loaded before."""
        notify = NotifySocket(pathlib.Path(f"/run/{self.lab.prefix}{self.label}.notify"))
        self._log.touch()
        self.process = self.namespace.spawn(CHARON, name=f"charon-{self.label}",
                                            env={**os.environ, "STRONGSWAN_CONF": str(self.home / "strongswan.conf"),
                                                 "NOTIFY_SOCKET": str(notify.path)})
        try:
            notify.wait_ready(self.process, seconds)
        finally:
            notify.close()
        # charon routes into its TUN device as well, but a moment after it told the peer that the SA is up.
        self.namespace.ip_batch(*(f"route replace {network} dev ipsec0" for network in self.reach))
        self._vici = self.control()
        for connection in list(self._loaded.values()):
            self.load(connection)
        return self

    def kill(self) -> None:
        """As a power cut: nothing is said to the peer."""
        self.process.signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        """Deletes its SAs and ends."""
        self.process.signal(signal.SIGTERM)
        self._ended()

    def _ended(self) -> None:
        self.process.wait(15)
        self.close()
        # A killed charon's routes and rule would send the next one's own packets astray.
        self.namespace.ip("route", "flush", "table", "220", check=False)
        self.namespace.ip6("route", "flush", "table", "220", check=False)

    def control(self) -> Vici:
        return Vici.at(self._socket)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def mark(self) -> int:
        """A place in the log, for `said`."""
        return len(self.log())

    def said(self, pattern: str, since: int = 0, seconds: float = 5) -> re.Match:
        """Waits until the log says it."""
        try:
            return wait_until(lambda: re.search(pattern, self.log()[since:]), seconds, f"charon says {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.log()[since:][-3000:]}") from None

    def deep_buffers(self) -> None:
        """Its sockets and its TUN device get queues that hold a second of traffic: a packet lost later is not lost here."""
        pidfd = _libc.syscall(_PIDFD_OPEN, self.process.pid, 0)
        assert pidfd >= 0, os.strerror(ctypes.get_errno())
        for entry in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            # A descriptor of a control connection may be closed while we look.
            try:
                kind = os.readlink(entry)
            except FileNotFoundError:
                continue
            if not kind.startswith("socket:"):
                continue
            copy = _libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
            if copy < 0:
                continue
            with contextlib.suppress(OSError), socket.socket(fileno=copy) as one:
                if one.family in (socket.AF_INET, socket.AF_INET6):
                    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        os.close(pidfd)
        self.namespace.ip("link", "set", "ipsec0", "txqueuelen", "20000")
