#!/usr/bin/env python3
"""A numbered UDP stream. Packet n carries `payload(n, size)`, which a reader of a capture can check byte by byte.

  udp_stream.py send ADDRESS PORT COUNT RATE SIZE    prints {"sent": n}
  udp_stream.py receive ADDRESS PORT QUIET_SECONDS   prints READY, then {"received": n, "distinct": n, "wrong": n, "largest_gap_s": x}
"""
import json
import signal
import socket
import sys
import time

MAGIC = b"postern-stream:"
HEADER = len(MAGIC) + 8
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python 3.11 does not name it


def payload(number: int, size: int) -> bytes:
    head = MAGIC + number.to_bytes(8, "big")
    filler = bytes((number + i) & 0xFF for i in range(256))
    return (head + filler * (size // 256 + 1))[:max(size, HEADER)]


def number_of(data: bytes) -> int | None:
    """The packet's number when every byte of it is as sent."""
    if len(data) < HEADER or not data.startswith(MAGIC):
        return None
    number = int.from_bytes(data[len(MAGIC):HEADER], "big")
    return number if data == payload(number, len(data)) else None


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def send(address: str, port: int, count: int, rate: float, size: int) -> dict:
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    out = socket.socket(family(address), socket.SOCK_DGRAM)
    out.connect((address, port))
    start = time.perf_counter()
    sent = 0
    while sent < count and not stop:
        due = min(count, int((time.perf_counter() - start) * rate) + 1)
        while sent < due:
            try:
                out.send(payload(sent, size))
            except (ConnectionRefusedError, OSError):
                pass  # an ICMP error about an earlier packet; this one was offered all the same
            sent += 1
        time.sleep(0.0005)
    return {"sent": sent, "seconds": time.perf_counter() - start}


def receive(address: str, port: int, quiet: float) -> dict:
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    sock = socket.socket(family(address), socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    sock.bind((address, port))
    sock.settimeout(0.1)
    print("READY", flush=True)
    seen, received, wrong, gap, last = set(), 0, 0, 0.0, None
    while not stop and not (last and time.monotonic() - last > quiet):
        try:
            data = sock.recv(65535)
        except TimeoutError:
            continue
        now = time.monotonic()
        gap, last, received = max(gap, now - last if last else 0.0), now, received + 1
        number = number_of(data)
        if number is None:
            wrong += 1
        else:
            seen.add(number)
    return {"received": received, "distinct": len(seen), "wrong": wrong, "largest_gap_s": gap}


if __name__ == "__main__":
    if sys.argv[1] == "send":
        print(json.dumps(send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]))))
    else:
        print(json.dumps(receive(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
