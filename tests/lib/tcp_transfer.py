#!/usr/bin/env python3
"""One TCP connection that carries known bytes; the receiver compares each.

  tcp_transfer.py receive ADDRESS PORT          prints READY, then {"received": n, "right": true, "seconds": x}
  tcp_transfer.py send ADDRESS PORT BYTES [SOURCE]
"""
import hashlib
import json
import socket
import sys
import time

BLOCK = b"".join(hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(8192))  # 256 KiB that never repeat within


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def receive(address: str, port: int) -> dict:
    server = socket.socket(family(address), socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(1)
    print("READY", flush=True)
    server.settimeout(20)
    connection, _ = server.accept()
    connection.settimeout(20)
    got, right, start = 0, True, time.monotonic()
    while data := connection.recv(1 << 18):
        at = got % len(BLOCK)
        right = right and data == (BLOCK + BLOCK)[at:at + len(data)]
        got += len(data)
    return {"received": got, "right": right, "seconds": time.monotonic() - start}


def send(address: str, port: int, count: int, source: str | None) -> None:
    out = socket.create_connection((address, port), timeout=20, source_address=(source, 0) if source else None)
    sent = 0
    while sent < count:
        piece = BLOCK[:count - sent]
        out.sendall(piece)
        sent += len(piece)
    out.shutdown(socket.SHUT_WR)
    out.recv(1)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] if len(sys.argv) > 5 else None)
    else:
        print(json.dumps(receive(sys.argv[2], int(sys.argv[3]))))
