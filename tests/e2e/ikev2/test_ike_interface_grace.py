"""IF-20: a protected interface goes and comes under its SAs, with strongSwan as the peer: within the grace the same SPIs go on, behind it
new ones are negotiated. What is protected never leaves in clear."""
import contextlib

import pytest

import ike_wire
import lab
import traffic
from balance import assert_balanced, settled_excess
from ike_documents import ike_sas
from ike_pairs import SwanLab
from lab import OUT4
from netns import wait_until

FAR = "10.2.0.0/16"


class Grace(SwanLab):
    def __init__(self, scratch, seconds: int):
        scratch.mkdir(exist_ok=True)
        super().__init__(scratch, flows=("map4",), dataplane={"interface_grace_s": seconds})
        self.peer.load(self.connection(2))

    def delete(self) -> None:
        self.n1.ip("link", "del", "out0")
        wait_until(lambda: "out0 does not exist" in self.left.dataplane()["state"], 5, "the node misses it")

    def make(self) -> None:
        """Another device of that name; the node gives it its address, the route is ours to restore."""
        self.veth(self.n1, "out0", self.w, "w1")
        self.w.ip("link", "set", "w1", "master", "br0")
        self.serves()

    def rename(self, old: str, new: str) -> None:
        self.n1.ip_batch(f"link set {old} down", f"link set {old} name {new}", f"link set {new} up")

    def serves(self) -> None:
        wait_until(lambda: f"{OUT4[1]}/24" in self.n1.ip("address", "show", "out0"), 5, "out0 has its address")
        self.n1.ip("route", "replace", FAR, "via", OUT4[2])
        wait_until(lambda: self.left.dataplane()["state"] == "running", 5, "the node runs")

    def spis(self) -> set[str]:
        return {sa["spi"] for one in self.left.show("crypto", "ipsec", "sa")["interfaces"] for flow in one["flows"] for sa in flow["sas"]}

    def up(self) -> set[str]:
        traffic.ping_until(self.hA, lab.host(2, "map4"), 20, source=lab.host(1, "map4"))
        assert len(spis := self.spis()) == 2
        wait_until(lambda: len(self.theirs()) == 1, 10, "strongSwan has let go of what was rekeyed")
        return spis

    def theirs(self) -> list[tuple]:
        return [(sa["uniqueid"], child["uniqueid"]) for sa in self.peer.established() for child in sa["child-sas"]]

    def carries(self) -> None:
        """Both ways, and every packet is accounted for: by the worker since ever, by the kernel's hooks since the device is there,
        whose verdicts on another one went with it."""
        before = settled_excess(self.left)
        assert before["worker"] == 0
        self.ping_both(count=10)
        assert_balanced(self.left, since=before)

    @contextlib.contextmanager
    def protected(self):
        """Nothing crosses W in clear meanwhile; the Wire is filled in at the end."""
        found: list[ike_wire.Wire] = []
        with self.capture() as capture:
            yield found
            found.append(ike_wire.read(capture.frames(), (OUT4[1], OUT4[2])))
        found[0].assert_nothing_clear()


@pytest.fixture(scope="module")
def patient(module_scratch):
    with Grace(module_scratch / "patient", 30) as made:
        yield made


@pytest.fixture(scope="module")
def short(module_scratch):
    with Grace(module_scratch / "short", 1) as made:
        yield made


@pytest.fixture(scope="module")
def other(module_scratch):
    with Grace(module_scratch / "other", 1) as made:
        yield made


def test_deleted_and_made_again_within_the_grace(patient):
    """Under load: the same SPIs with strongSwan's, in show and on the wire, no negotiation, numbers go on, packets balance."""
    spis, theirs = patient.up(), patient.theirs()
    index = patient.n1.ifindex("out0")
    with patient.protected() as seen:
        stream = traffic.Stream(patient.hA, patient.hB, lab.host(2, "map4"), count=3000, rate=500, quiet=6)
        patient.delete()
        assert patient.spis() == spis and len(ike_sas(patient.left)) == 1, "they wait"
        patient.make()
        assert patient.n1.ifindex("out0") != index
        traffic.ping_until(patient.hA, lab.host(2, "map4"), 10, source=lab.host(1, "map4"))
        stream.finish()
        patient.carries()
        assert patient.spis() == spis and patient.theirs() == theirs
    assert seen[0].spis() == {int(spi, 16) for spi in spis} and not seen[0].ike and not seen[0].repeated
    assert "interface out0 is gone: its SAs are kept for 30 s" in patient.left.process.log()
    assert "interface out0 is back after" in patient.left.process.log()


def test_a_rekey_after_the_return(patient):
    """The next pair is of the new device as well, whoever begins."""
    before = patient.up()
    patient.delete()
    patient.make()
    assert patient.up() == before
    patient.peer.rekey(child="c")
    wait_until(lambda: len(patient.spis()) == 2 and not patient.spis() & before, 8, "new SAs")
    patient.carries()


def test_link_flap(patient):
    """Down and up: nothing is negotiated."""
    spis, theirs = patient.up(), patient.theirs()
    with patient.protected() as seen:
        for _ in range(3):
            patient.n1.ip("link", "set", "out0", "down")
            wait_until(lambda: next(one for one in patient.left.dataplane()["devices"] if one["name"] == "out0")["admin"] == "down", 5, "seen")
            patient.n1.ip("link", "set", "out0", "up")
            patient.serves()
        patient.up()
        patient.carries()
        assert patient.spis() == spis and patient.theirs() == theirs
    assert not seen[0].ike


def test_renamed_and_back(patient):
    """Under its other name the device carries the same SAs; and when it has its own again."""
    spis, theirs = patient.up(), patient.theirs()
    with patient.protected() as seen:
        patient.rename("out0", "wan9")
        wait_until(lambda: "interface out0 has another name now: wan9" in patient.left.dataplane()["state"], 5, "the node follows it")
        patient.n1.ip("route", "replace", FAR, "via", OUT4[2])
        patient.up()
        patient.carries()
        assert patient.spis() == spis
        patient.rename("wan9", "out0")
        patient.serves()
        patient.up()
        patient.carries()
        assert patient.spis() == spis and patient.theirs() == theirs
    assert not seen[0].ike


def test_a_return_behind_the_grace(short):
    """Its SAs are deleted, which the log says; when it is back there are new ones."""
    before = short.up()
    with short.protected():
        short.delete()
        wait_until(lambda: not short.spis(), 5, "the grace is over")
        wait_until(lambda: "interface out0 has been gone for 1 s: its SAs are deleted" in short.left.process.log(), 3, "said")
        assert not ike_sas(short.left)
        short.make()
        assert not short.up() & before
        short.carries()


def test_another_name_behind_the_grace(other):
    """The way to the peer is still there: it is told. What is protected stays in, though the route leads out, until the name is back."""
    other.up()
    known = len(other.peer.established())
    assert known >= 1
    with other.protected():
        other.rename("out0", "wan9")
        other.n1.ip("route", "replace", f"{FAR}", "via", OUT4[2])
        wait_until(lambda: not other.theirs(), 8, "strongSwan was told")
        wait_until(lambda: not other.spis(), 3, "nothing is left here")
        assert other.ping("map4", 3, wait=1) == 0
        other.rename("wan9", "out0")
        other.serves()
        other.up()


def test_no_grace(short):
    """0: they go with the interface. And the opposite is refused: there is no endless one."""
    document = short.document()
    document["dataplane"]["interface_grace_s"] = 0
    short.left.apply(document)
    before = short.up()
    short.delete()
    wait_until(lambda: not short.spis(), 3, "they are gone")
    short.make()
    assert not short.up() & before
    document["dataplane"]["interface_grace_s"] = 3601
    assert "/dataplane/interface_grace_s" in short.left.apply(document, check=False).stderr
