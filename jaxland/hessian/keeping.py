"""A curvature on disk: its facts, its parameters and whatever was computed of it."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxland.core.krylov import grown
from jaxland.errors import DataError, StoreError
from jaxland.hessian.curvature import FACTS, Curvature, Known
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem
from jaxland.problem.products import products_of
from jaxland.runs import probes, read_npz, write_npz

KIND = "jaxland-curvature-1"


def save(curvature: Curvature, path: str | Path) -> Path:
    """Write an npz without pickle.

    Raises:
        StoreError: the place cannot be written.
    """
    problem, known = curvature.problem, curvature.known
    head = {
        **{name: getattr(curvature, name) for name in FACTS},
        "n": curvature.n,
        "fingerprint": probes(problem, problem.w),
    }
    arrays: dict[str, np.ndarray] = {"w": np.asarray(problem.w)}
    if known.matrix is not None:
        arrays["matrix"] = known.matrix
    if known.eigen is not None:
        arrays["eigenvalues"], arrays["eigenvectors"] = known.eigen
    if known.krylov is not None:
        arrays |= _packed(known.krylov)
    return write_npz(path, KIND, head, arrays)


@in_precision
def load(path: str | Path, problem: Problem, *, mesh: Mesh | None = None) -> Curvature:
    """Read what ``Curvature.save`` wrote; ``problem`` must be the one it was computed for (at any parameters).

    Raises:
        DataError: the file is missing, damaged, or of another problem.
    """
    if not Path(path).exists():
        raise DataError(f"curvature file {path} does not exist")
    try:
        head, arrays = read_npz(path, KIND, sealed=False)
    except StoreError as error:
        raise DataError(f"{path} is not a curvature file written by jaxland ({error})") from error
    if arrays["w"].shape != (problem.size,) or head["n"] != problem.n:
        raise DataError(
            f"{path} belongs to a problem with {arrays['w'].size} parameters and {head['n']} rows, this one has "
            f"{problem.size} and {problem.n}"
        )
    products = products_of(problem, head["kind"], mesh)
    problem = problem.at(jnp.asarray(arrays["w"], problem.dtype))
    if not np.allclose(probes(problem, problem.w), head["fingerprint"], rtol=1e-5, atol=1e-12):
        raise DataError(f"{path} belongs to other data or another loss: the loss at its parameters differs")
    known = Known(
        matrix=arrays.get("matrix"),
        eigen=(arrays["eigenvalues"], arrays["eigenvectors"]) if "eigenvalues" in arrays else None,
        krylov=_unpacked(arrays) if "basis" in arrays else None,
    )
    facts = {name: head[name] for name in FACTS}
    facts["warnings"] = tuple(facts["warnings"])
    return Curvature(problem=problem, products=products, known=known, **facts)


def _packed(krylov: grown.Krylov) -> dict[str, np.ndarray]:
    return {
        "basis": np.concatenate([np.asarray(panel) for panel in krylov.panels]),
        "panel": np.array(krylov.panels[0].shape[0]),
        "projected": krylov.projected,
        "coupling": krylov.coupling,
        "query": np.asarray(krylov.query),
        "state": np.array([krylov.filled, int(krylov.exhausted), krylov.seed]),
    }


def _unpacked(arrays: dict[str, np.ndarray]) -> grown.Krylov:
    rows, basis = int(arrays["panel"]), arrays["basis"]
    filled, exhausted, seed = (int(v) for v in arrays["state"])
    return grown.Krylov(
        panels=tuple(jnp.asarray(basis[i : i + rows]) for i in range(0, len(basis), rows)),
        projected=arrays["projected"],
        coupling=arrays["coupling"],
        query=jnp.asarray(arrays["query"]),
        filled=filled,
        exhausted=bool(exhausted),
        seed=seed,
    )
