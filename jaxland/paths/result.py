"""A relaxed path as data, and its file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxland.paths.profile import Profile
from jaxland.runs import read_npz, write_npz
from jaxland.showing import brief

KIND = "jaxland-path-1-result"


@dataclass(frozen=True, eq=False)
class MinimumEnergyPath:
    """A relaxed path and the straight line it started from.

    Attributes:
        images: flat parameters [K, N], both ends included.
        profile, straight: values along the path, and along the straight line between the ends.
        history: one row per cycle: steps, learning rate, images, highest energy, barrier, force, length, seconds.
        status: "finished", "time limit" or "interrupted"; the path is usable in each case.
        steps: taken in all.
        gradients: gradients of single images taken in all.
        seconds: of this call.
        settings: the ``PathSettings`` as facts.
    """

    images: Float[np.ndarray, "K N"]
    profile: Profile
    straight: Profile
    history: pd.DataFrame
    status: str
    steps: int
    gradients: int
    seconds: float
    settings: dict[str, Any]

    __repr__ = brief

    @property
    def saddle(self) -> Float[np.ndarray, " N"]:
        """The highest point of the path: an image or a point between two."""
        at = self.profile.peak
        probes = int(np.argmax(self.profile.image[1:]))
        segment, within = divmod(at, probes + 1)
        if within == 0:
            return self.images[segment]
        t = self.images.dtype.type(within / (probes + 1))
        return self.images[segment] + t * (self.images[segment + 1] - self.images[segment])

    def barriers(self) -> pd.DataFrame:
        """Barrier of every measure along the path and along the straight line, with the values at the ends."""
        rows = []
        for name in self.profile.measures():
            values, line = getattr(self.profile, name), getattr(self.straight, name)
            rows.append(
                {
                    "measure": name,
                    "start": values[0],
                    "end": values[-1],
                    "highest": values.max(),
                    "barrier": self.profile.barrier(name),
                    "straight barrier": float(line.max() - max(line[0], line[-1])),
                }
            )
        return pd.DataFrame(rows)

    def to_pandas(self) -> pd.DataFrame:
        """The profile, one row per point."""
        return self.profile.to_pandas()

    def _repr_html_(self) -> str:
        head = f"<p>{self.status} after {self.steps} steps, {len(self.images)} images</p>"
        return head + self.barriers().to_html(index=False)

    def save(self, path: str | Path) -> Path:
        """Write everything to an npz file, without pickle."""
        arrays: dict[str, Any] = {"images": self.images}
        for name, profile in (("profile", self.profile), ("straight", self.straight)):
            arrays |= {f"{name}.{k}": v for k, v in asdict(profile).items() if v is not None}
        head = {
            "history": self.history.to_dict("list"),
            **{k: getattr(self, k) for k in ("status", "steps", "gradients", "seconds", "settings")},
        }
        return write_npz(path, KIND, head, arrays)


def load_path(path: str | Path) -> MinimumEnergyPath:
    """Read what ``MinimumEnergyPath.save`` wrote.

    Raises:
        StoreError: missing, damaged, or another kind of file.
    """
    head, arrays = read_npz(path, KIND, sealed=False)

    def profile(name: str) -> Profile:
        found: dict[str, Any] = {k: arrays.get(f"{name}.{k}") for k in Profile.__dataclass_fields__}
        return Profile(**{**found, "length": float(arrays[f"{name}.length"])})

    history = pd.DataFrame(head.pop("history"))
    return MinimumEnergyPath(
        images=arrays["images"],
        profile=profile("profile"),
        straight=profile("straight"),
        history=history,
        **head,
    )
