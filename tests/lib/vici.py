"""strongSwan's control protocol (vici), as its README describes it: requests, streamed answers and events over one socket.

A message is a dict of str, list of str and dict; values are sent as UTF-8 or as given bytes.
"""
import select
import socket
import struct
import time

CMD_REQUEST, CMD_RESPONSE, CMD_UNKNOWN, EVENT_REGISTER, EVENT_UNREGISTER, EVENT_CONFIRM, EVENT_UNKNOWN, EVENT = range(8)
SECTION_START, SECTION_END, KEY_VALUE, LIST_START, LIST_ITEM, LIST_END = range(1, 7)


class ViciRefused(AssertionError):
    """`success` was "no"; `answer` is the whole message."""

    def __init__(self, command: str, answer: dict):
        super().__init__(f"{command}: {answer.get('errmsg', answer)}")
        self.answer = answer


def _name(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _value(value) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    return struct.pack("!H", len(data)) + data


def pack(message: dict) -> bytes:
    out = b""
    for key, value in message.items():
        if isinstance(value, dict):
            out += bytes([SECTION_START]) + _name(key) + pack(value) + bytes([SECTION_END])
        elif isinstance(value, (list, tuple)):
            out += bytes([LIST_START]) + _name(key) + b"".join(bytes([LIST_ITEM]) + _value(one) for one in value) + bytes([LIST_END])
        else:
            out += bytes([KEY_VALUE]) + _name(key) + _value(value)
    return out


def unpack(data: bytes) -> dict:
    at = 0

    def name() -> str:
        nonlocal at
        length = data[at]
        at += 1 + length
        return data[at - length:at].decode()

    def value() -> str:
        nonlocal at
        length = struct.unpack_from("!H", data, at)[0]
        at += 2 + length
        return data[at - length:at].decode(errors="replace")

    stack: list[dict] = [{}]
    items: list[str] = []
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == SECTION_START:
            section: dict = {}
            stack[-1][name()] = section
            stack.append(section)
        elif kind == SECTION_END:
            stack.pop()
        elif kind == KEY_VALUE:
            key = name()
            stack[-1][key] = value()
        elif kind == LIST_START:
            items = stack[-1][name()] = []
        elif kind == LIST_ITEM:
            items.append(value())
        elif kind != LIST_END:
            raise ValueError(f"vici element {kind}")
    return stack[0]


class Vici:
    """One connection. `events()` of a connection that registered for some; do not mix with requests on the same one."""

    def __init__(self, connected: socket.socket):
        self._socket = connected

    @staticmethod
    def at(path) -> "Vici":
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.connect(str(path))
        return Vici(made)

    def __enter__(self) -> "Vici":
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def _send(self, kind: int, name: str, message: dict | None = None) -> None:
        body = bytes([kind]) + _name(name) + pack(message or {})
        self._socket.sendall(struct.pack("!I", len(body)) + body)

    def _exactly(self, count: int, deadline: float) -> bytes:
        got = b""
        while len(got) < count:
            if not select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("charon says nothing")
            piece = self._socket.recv(count - len(got))
            if not piece:
                raise ConnectionError("charon closed its control socket")
            got += piece
        return got

    def _receive(self, seconds: float) -> tuple[int, str, dict]:
        deadline = time.monotonic() + seconds
        packet = self._exactly(struct.unpack("!I", self._exactly(4, deadline))[0], deadline)
        kind = packet[0]
        if kind == EVENT:
            length = packet[1]
            return kind, packet[2:2 + length].decode(), unpack(packet[2 + length:])
        return kind, "", unpack(packet[1:]) if kind == CMD_RESPONSE else {}

    def request(self, command: str, message: dict | None = None, seconds: float = 30) -> dict:
        """The answer; ViciRefused when charon says no."""
        self._send(CMD_REQUEST, command, message)
        kind, _, answer = self._receive(seconds)
        if kind != CMD_RESPONSE:
            raise ViciRefused(command, {"errmsg": "unknown command"})
        if answer.get("success") == "no":
            raise ViciRefused(command, answer)
        return answer

    def streamed(self, command: str, event: str, message: dict | None = None, seconds: float = 30) -> list[dict]:
        """What a command reports by events before its answer."""
        self.register(event)
        self._send(CMD_REQUEST, command, message)
        found = []
        while True:
            kind, name, answer = self._receive(seconds)
            if kind == EVENT:
                found += [answer] if name == event else []
                continue
            self._send(EVENT_UNREGISTER, event)
            while self._receive(seconds)[0] == EVENT:
                pass
            if answer.get("success") == "no":
                raise ViciRefused(command, answer)
            return found

    def register(self, *events: str) -> None:
        for event in events:
            self._send(EVENT_REGISTER, event)
            kind = self._receive(10)[0]
            if kind != EVENT_CONFIRM:
                raise ViciRefused("register", {"errmsg": f"no event {event}"})

    def next_event(self, seconds: float) -> tuple[str, dict] | None:
        """(name, message), or None after `seconds`."""
        try:
            kind, name, message = self._receive(seconds)
        except TimeoutError:
            return None
        return (name, message) if kind == EVENT else None
