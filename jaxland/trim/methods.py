"""The methods by name: a record each, of how it asks the model and what may be expected of its answer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TypedDict

from jaxland.errors import ArgumentError, ProblemError
from jaxland.options import whole_number
from jaxland.trim import coalitions, gradients, interpreters
from jaxland.trim.play import Play, Scores


class Options(TypedDict, total=False):
    """Options of the methods; each has its own defaults and takes only some: see ``METHODS[name].options``."""

    nodes: int
    rule: str
    samples: int
    noise: float
    permutations: int
    window: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    mode: str
    seed: int


@dataclass(frozen=True)
class Method:
    """One way of asking.

    Attributes:
        name: what it is called.
        run: the function of a ``Play`` and the method's own options.
        aliases: other names.
        gradient: whether it differentiates the model; traced: whether it needs a model that JAX can trace.
        tokens: whether it follows whole numbers that choose rows of a table, where it is traced.
        background: whether it draws baselines from a background.
        complete: whether attributions add up to f(x0) - f(baseline), up to numerical error.
        cure: what to do where they do not, a format of the options.
        note: a sentence for the result.
    """

    name: str
    run: Callable[..., Scores]
    aliases: tuple[str, ...] = ()
    gradient: bool = False
    traced: bool = False
    tokens: bool = False
    background: bool = False
    complete: bool = False
    cure: str = "use float64: sums of many large terms lose digits"
    note: str = ""

    @property
    def options(self) -> Options:
        """Its options and their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}  # type: ignore[return-value]

    def check(self, options: Options) -> None:
        """Refuse an option of other methods.

        Raises:
            ArgumentError: naming the options there are.
        """
        accepted = list(self.options)
        unknown = sorted(set(options) - set(accepted))
        if unknown:
            known = f"its options are {', '.join(accepted)}" if accepted else "it has none"
            raise ArgumentError(f"method {self.name!r} has no option {unknown[0]!r}; {known}")
        for name, value in options.items():
            default = self.options[name]  # type: ignore[literal-required]
            if name in ("nodes", "samples", "permutations", "seed") and (default is not None or value is not None):
                whole_number(name, value, int(name in ("nodes", "permutations")))
            if isinstance(default, float) and not (isinstance(value, Real) and math.isfinite(value)):
                raise ArgumentError(f"{name} must be a finite number, got {value!r}")

    def __call__(self, play: Play, options: Options) -> Scores:
        """Attribute.

        Raises:
            ProblemError: it needs a model that JAX can trace.
        """
        if self.traced and not play.traceable:
            raise ProblemError(
                f"method {self.name!r} needs a model that JAX can differentiate; {play.name} is a black box. Use "
                "ablation, occlusion, shapley, shapley_sampling or kernel_shap"
            )
        return self.run(play, **options)


def _all(*methods: Method) -> dict[str, Method]:
    return {method.name: method for method in methods}


METHODS = _all(
    Method("input_times_gradient", gradients.input_times_gradient, ("ixg",), gradient=True, traced=True),
    Method("saliency", gradients.saliency, gradient=True, traced=True),
    Method("smoothgrad", gradients.smoothgrad, gradient=True, traced=True),
    Method(
        "integrated_gradients",
        gradients.integrated_gradients,
        ("ig",),
        gradient=True,
        traced=True,
        complete=True,
        cure="raise nodes (now {nodes}); kinks of a ReLU network need more than smooth networks",
    ),
    Method(
        "expected_gradients",
        gradients.expected_gradients,
        ("gradient_shap",),
        gradient=True,
        traced=True,
        background=True,
        complete=True,
        cure="raise samples (now {samples}); the gap is the sampling error",
    ),
    Method("occlusion", coalitions.occlusion),
    Method("ablation", coalitions.ablation, ("feature_ablation",)),
    Method("shapley", coalitions.shapley, complete=True),
    Method("shapley_sampling", coalitions.shapley_sampling, complete=True),
    Method("kernel_shap", coalitions.kernel_shap, complete=True),
    Method(
        "deeplift",
        interpreters.deeplift,
        gradient=True,
        traced=True,
        complete=True,
        cure="use integrated_gradients: the secant rule is only complete where every step has a single input",
    ),
    Method(
        "contextual_decomposition",
        interpreters.contextual_decomposition,
        ("cd",),
        traced=True,
        tokens=True,
        note="each score is one split of the input in two; they need not add up, the gap is their interaction",
    ),
)
_BY_NAME = {name: method for method in METHODS.values() for name in (method.name, *method.aliases)}


def find(name: str) -> Method:
    """A method by name or alias.

    Raises:
        ArgumentError: there is none.

    >>> find("ig").name
    'integrated_gradients'
    """
    if name not in _BY_NAME:
        raise ArgumentError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    return _BY_NAME[name]
