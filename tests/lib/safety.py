"""What may never happen, not even once. A test that meets it has no second try (scripts/test.d/stages.py), whatever else it is about; one that only waited
too long on a busy machine has."""


class Unsafe(AssertionError):
    """A packet in clear that is to be protected, a sequence number used twice, a key where it can be read, a packet that went nowhere or is lost where
    none may be."""


def never(found, words: str) -> None:
    """`found`: a collection of what must not be there; `words`: what it would be."""
    if found:
        first = next(iter(found))
        raise Unsafe(f"{len(found)} {words}, the first: {first.summary() if hasattr(first, 'summary') else first}")


class Watched:
    """Of what was seen on a wire: `clear`, IP packets that should not be readable, and `repeated`, (SPI, sequence number) used more than once."""
    clear: list
    repeated: list

    def assert_nothing_clear(self) -> None:
        never(self.clear, "clear packets")

    def assert_safe(self) -> None:
        self.assert_nothing_clear()
        never(self.repeated, "sequence numbers used twice")
