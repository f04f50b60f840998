"""Unite searches of one problem that knew nothing of each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jaxland.landscape.store import Store


def absorb(store: Store, sources: Iterable[str | Path]) -> dict[Path, tuple[int, int]]:
    """Take the points of other stores of the same problem into one, known again modulo symmetry.

    A source that was taken in already, unchanged, changes nothing; sources are taken in an order of their own, so
    that neither their order nor repetition matters. Hits add up.

    Args:
        store: open for writing.
        sources: paths of stores.

    Returns:
        New minima and transition states by source.

    Raises:
        StoreError: a source is damaged, or of another problem.
    """
    opened = {}
    for path in dict.fromkeys(Path(source) for source in sources):
        with Store(path, store.problem, store.tolerances) as source:
            points = (source.points_in(store.scale, 0), source.points_in(store.scale, 1))
            opened[path] = (source.seal, *points, source.minima.hits, source.saddles.hits, source.ends)
    news = {path: (0, 0) for path in opened}
    for path in sorted(opened, key=lambda path: opened[path][0]):
        seal, minima, saddles, hits, saddle_hits, ends = opened[path]
        taken = store.get("absorbed", [])
        if seal in taken or seal == store.seal:
            continue
        with store.transaction():
            numbers, new_minima = store.add_minima(minima, -1, hits)
            _, new_saddles = store.add_saddles(saddles, numbers[ends], -1, saddle_hits)
            store.put("absorbed", [*taken, seal])
        news[path] = int(new_minima.sum()), int(new_saddles.sum())
    return news
