"""A name server of a test's own, and the files by which a node in a namespace finds it. Run as a program it answers on 127.0.0.1:53.

Records are read from a file at each question: {"vpn.example.net": ["192.0.2.2", "2001:db8:ff::2"], "slow.example.net": "silent"}. A name that
is not there is nobody's (NXDOMAIN); to one that is "silent" nothing is said.
"""
import ipaddress
import json
import os
import pathlib
import shutil
import socket
import struct
import sys

from netns import Namespace, wait_until

A, AAAA = 1, 28


class NameServer:
    """In `where`. The files of /etc/netns/NAME are gone when the lab is."""

    def __init__(self, where: Namespace, hosts: str = ""):
        self.where, self.records = where, where.lab.scratch / f"{where.label}-names.json"
        self._log = where.lab.scratch / f"{where.label}-questions"
        self.say({})
        self._etc = pathlib.Path("/etc/netns") / where.name
        self._etc.mkdir(parents=True)
        where.lab.callback(shutil.rmtree, self._etc)
        (self._etc / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")
        (self._etc / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        self.process = where.spawn(sys.executable, __file__, self.records, self._log, name=f"{where.label}-name-server")
        wait_until(self._log.exists, 5, "the name server answers")

    def say(self, records: dict) -> None:
        fresh = self.records.with_suffix(".new")
        fresh.write_text(json.dumps(records))
        fresh.rename(self.records)

    def questions(self, name: str) -> int:
        """How often it was asked about `name`."""
        return self._log.read_text().splitlines().count(name)


def answer(question: bytes, records: dict) -> tuple[str, bytes | None]:
    """RFC 1035 §4.1: the name that is asked for, and what is said about it."""
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode())
        at += 1 + question[at]
    name, kind = ".".join(labels).lower(), struct.unpack_from(">H", question, at + 1)[0]
    known = records.get(name)
    if known == "silent":
        return name, None
    addresses = [ipaddress.ip_address(one) for one in known or []]
    chosen = [one for one in addresses if one.version == (6 if kind == AAAA else 4)] if kind in (A, AAAA) else []
    code = 0 if known is not None else 3
    header = question[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(chosen), 0, 0)
    rows = b"".join(struct.pack(">HHHIH", 0xC00C, kind, 1, 0, len(one.packed)) + one.packed for one in chosen)
    return name, header + question[12:at + 5] + rows


def main(records: str, log: str) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    with open(log, "a", buffering=1) as asked:
        while True:
            question, client = server.recvfrom(2048)
            name, said = answer(question, json.loads(pathlib.Path(records).read_text()))
            asked.write(name + "\n")
            if said is not None:
                server.sendto(said, client)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main(*sys.argv[1:])
