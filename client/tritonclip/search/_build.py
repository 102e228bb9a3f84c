"""Making the store's ANN index, with its recall measured."""

from dataclasses import dataclass

from tritonclip.search._store import Store


@dataclass(frozen=True)
class BuildReport:
    """What was built in how many seconds, and how many of the ten nearest rows it finds, over so many queries."""

    kind: str
    parameters: dict[str, int]
    seconds: float
    recall: float
    queries: int
    rows: int


def build(store: Store) -> BuildReport:
    """Build it with parameters chosen by the number of rows, and measure recall@10 against exact search."""
    raise NotImplementedError
