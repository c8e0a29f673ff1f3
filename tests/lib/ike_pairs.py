"""Labs in which Postern negotiates: with strongSwan at the right gateway (SwanLab), or with itself (PosternPair)."""
import json
import os
import pathlib
import signal

import ike_documents
import traffic
import lab
from ike_lab import PSK, IkeLab
from ike_documents import ike_sas, wait_down, wait_up
from lab import OUT4, OUT6
from netns import wait_until
from node import child_pids, gone
from strongswan import Connection


class SwanLab(IkeLab):
    """Postern (`left`) at N1 and strongSwan (`peer`) at N2, neither with an SA. `right` is for StrongSwan, the rest for the document."""

    def __init__(self, scratch: pathlib.Path, nat: str | None = None, right: dict | None = None, start: bool = True, **document):
        super().__init__(scratch, nat)
        self._options = document
        try:
            self.left = self.node(1, self.document())
            self.peer = self.swan(2, **(right or {}))
            if start:
                self.peer.start()
                self.left.start()
        except BaseException:
            self.close()
            raise

    def document(self, **options) -> dict:
        if self.nat_side:
            options = {"flows": ("map4",), "own4": self.own4(1), "local_id": OUT4[1], **options}
        return ike_documents.gateway_document(1, **{**self._options, **options})

    def configure(self, swan: dict | None = None, **document) -> Connection:
        """Both sides afresh: strongSwan's connection "net" (IPv4 map flow unless `swan` says otherwise) and Postern's document."""
        self.apply(**document)
        words = {"proposals": document.get("ike"), "esp_proposals": document.get("esp"), "psk": document.get("psk")}
        words = {key: [value] if key != "psk" and isinstance(value, str) else value for key, value in words.items() if value}
        return self.peer.load(self.connection(2, **{**words, **(swan or {})}))

    def apply(self, **document) -> None:
        """The node's document; every SA that was up is gone afterwards on both sides."""
        self.down()
        self.left.apply(self.document(**document))

    def up(self, by: str, flow: str = "map4", name: str = "net", count: int = 1) -> dict:
        """Set up by "postern" (with a packet from hA) or by "strongswan"; strongSwan's view of the IKE SA."""
        if by == "strongswan":
            self.peer.initiate(name)
        else:
            assert self.ping(flow, 1, wait=5) == 1, f"the first packet was lost\n{self.left.process.log()[-3000:]}\n{self.peer.log()[-3000:]}"
        self.peer.wait_child(count)
        wait_up(self.left, count)
        return self.peer.established(name)[0]

    def down(self) -> None:
        """Nothing is left of what earlier tests set up."""
        for sa in self.peer.sas():
            self.peer.terminate(check=False, ike_id=sa["uniqueid"], force="yes")
        if ike_sas(self.left):
            self.left.postern("clear", "crypto", "session")
        wait_down(self.left)
        self.peer.wait_none()

    def deep_buffers(self) -> None:
        """Queues between the programs hold a second of a stream: on a busy machine none of them loses a packet for want of a
        CPU, and what is lost all the same is the fault of what is tested. Again after a start of posternd or charon."""
        self.peer.deep_buffers()
        self.tap_queue(20000)

    def tap_queue(self, packets: int) -> None:
        """Of the steer TAP; 4096 is as posternd makes it (loader/devices.hpp)."""
        self.n1.ip("link", "set", f"pn-{self.left.name}", "txqueuelen", str(packets))

    def losses(self) -> dict:
        """Where packets were lost, as far as anybody counted them: to be printed beside a stream that lost some."""
        view = self.left.dataplane()
        found = {f"{row['reason']}": row["kernel"] + row["worker"] for row in view["drops"] if row["kernel"] + row["worker"]}
        for device in view["devices"]:
            found |= {f"{device['name']} {key}": queue[key] for queue in device["queues"]
                      for key in ("kernel_rx_dropped", "kernel_rx_ring_full", "kernel_rx_fill_empty", "tx_refused") if queue.get(key)}
        for where in (self.hA, self.n1, self.n2, self.hB):
            for line in where.run("nstat", "-az", "UdpRcvbufErrors", "UdpSndbufErrors", "Udp6RcvbufErrors").stdout.splitlines()[1:]:
                name, count, _ = line.split()
                found |= {f"{where.label} {name}": int(count)} if int(count) else {}
            for link in json.loads(where.ip("-j", "-s", "link", "show")):
                for way in ("rx", "tx"):
                    found |= {f"{where.label} {link['ifname']} {way}": link["stats64"][way]["dropped"]} if link["stats64"][way]["dropped"] else {}
        return found

    def kill_ike(self) -> int:
        """kill -9 of the node's IKE daemon; its pid."""
        pid = ike_pid(self.left)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gone(pid), 5, "postern-ike is gone")
        return pid


def ike_pid(node) -> int:
    """Of the node's running postern-ike."""
    def running() -> list[int]:
        return [pid for pid in child_pids(node.name)
                if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"postern-ike")]

    return wait_until(running, 5, "postern-ike runs")[0]


class PosternPair(IkeLab):
    """Both gateways negotiate with each other, SAs up."""

    def __init__(self, scratch: pathlib.Path, start: bool = True, flows: tuple[str, ...] = ("map4",), **document):
        super().__init__(scratch)
        try:
            self.n2.ip("route", "add", "10.1.0.0/16", "via", OUT4[1])
            self.n2.ip6("route", "add", "2001:db8:1::/64", "via", OUT6[1])
            self.left, self.right = (self.node(side, ike_documents.gateway_document(side, flows=flows, **document)) for side in (1, 2))
            if start:
                self.right.start()
                self.left.start()
                for flow in flows:
                    traffic.ping_until(self.hA, lab.host(2, flow), source=lab.host(1, flow))
        except BaseException:
            self.close()
            raise


__all__ = ["PSK", "PosternPair", "SwanLab", "ike_pid", "ike_sas", "wait_down", "wait_up"]
