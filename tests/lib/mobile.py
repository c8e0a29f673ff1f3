"""A strongSwan at the right gateway that moves."""


class Mobile:
    """strongSwan has a second address, and leaves the first one."""

    AWAY = {4: "192.0.2.22", 6: "2001:db8:ff::22"}

    def __init__(self, world, family: int):
        self.world, self.family = world, family
        self.home, self.away = world.outer(2, family), self.AWAY[family]
        self.mask = "24" if family == 4 else "64"

    def add(self, address: str, **options) -> None:
        self.world.n2.ip("address", "add", f"{address}/{self.mask}", "dev", "out0", *(["nodad"] if self.family == 6 else []), **options)

    def __enter__(self):
        self.world.n2.sysctl("net.ipv4.conf.out0.promote_secondaries", 1)
        self.add(self.away)
        return self

    def leave(self):
        self.world.n2.ip("address", "del", f"{self.home}/{self.mask}", "dev", "out0")

    def come_back(self):
        self.add(self.home, check=False)
        self.world.n2.ip("address", "del", f"{self.away}/{self.mask}", "dev", "out0", check=False)

    def __exit__(self, *_):
        self.come_back()
