"""A scapy peer's end of a cable: raw Ethernet on one device of one namespace, from this process."""
import select
import socket
import time

from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from netns import Namespace

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
PACKET_OUTGOING = 4


class Wire:
    """Sends IP packets from `mac` to `peer_mac` and reads what arrives. With `answer_for`, it answers ARP and neighbour
    solicitations for those addresses while it waits: the peer resolves us like any host."""

    def __init__(self, where: Namespace, device: str, mac: str, peer_mac: str, answer_for: tuple[str, ...] = ()):
        self.mac, self.peer_mac, self._answer_for = mac, peer_mac, answer_for
        self._socket = where.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        self._socket.bind((device, ETH_P_ALL))

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()

    def send(self, packet) -> None:
        """`packet`: scapy IP or IPv6, or a whole Ether frame."""
        frame = packet if isinstance(packet, Ether) else Ether(src=self.mac, dst=self.peer_mac) / packet
        self._socket.send(bytes(frame))

    def send_bytes(self, packet: bytes, ethertype: int = 0x0800) -> None:
        """Bytes behind an Ethernet header, however broken they are."""
        self._socket.send(bytes(Ether(src=self.mac, dst=self.peer_mac, type=ethertype)) + packet)

    def frames(self, seconds: float):
        """Frames as they arrive, until `seconds` have passed; neighbour questions are answered and not shown."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return
            data, origin = self._socket.recvfrom(65535)
            if origin[2] == PACKET_OUTGOING:
                continue
            frame = Ether(data)
            if not self._answer(frame):
                yield frame

    def first(self, wanted, seconds: float = 5):
        """The first IP or IPv6 packet for which `wanted` holds, or None."""
        for frame in self.frames(seconds):
            packet = frame.payload
            if isinstance(packet, (IP, IPv6)) and wanted(packet):
                return packet
        return None

    def collect(self, wanted, seconds: float, count: int | None = None) -> list:
        """All wanted packets within `seconds`; returns early once `count` were seen."""
        found: list = []
        for frame in self.frames(seconds):
            if isinstance(frame.payload, (IP, IPv6)) and wanted(frame.payload):
                found.append(frame.payload)
                if count is not None and len(found) >= count:
                    break
        return found

    def drain(self) -> None:
        """Forgets what is queued."""
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(65535)

    def _answer(self, frame) -> bool:
        if frame.haslayer(ARP):
            question = frame[ARP]
            if question.op == 1 and question.pdst in self._answer_for:
                self.send(Ether(src=self.mac, dst=question.hwsrc) /
                          ARP(op=2, hwsrc=self.mac, psrc=question.pdst, hwdst=question.hwsrc, pdst=question.psrc))
            return True
        if frame.haslayer(ICMPv6ND_NS):
            target = frame[ICMPv6ND_NS].tgt
            if target in self._answer_for and frame[IPv6].src != "::":
                self.send(Ether(src=self.mac, dst=frame.src) / IPv6(src=target, dst=frame[IPv6].src, hlim=255) /
                          ICMPv6ND_NA(tgt=target, S=1, O=1, R=0) / ICMPv6NDOptDstLLAddr(lladdr=self.mac))
            return True
        return False
