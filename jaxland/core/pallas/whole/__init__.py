"""Whole solvers in one program: small dense networks from start to rest without a visit of the host.

The arithmetic of ``core.solvers``, pass by pass: judge the trial, mend the model, propose the next. A launch advances
every network by a bounded number of passes, so that what has ended can be retired and refilled and the host can stop
it; a warp whose networks have all ended leaves at once, and the scheduler gives its place away. Vectors of a network
are rows [N, networks] in device memory, so that a warp reads whole cache lines; weights and sums over points are in
registers while points are visited.

threads.py  which thread reads and writes what; a network's weights by thread
program.py  what all quasi-Newton programs share: evaluation, judgement, next step, launch
bfgs.py     full inverse Hessian estimate
lbfgs.py    limited memory
band.py     elastic bands
hops.py     basin hopping
fleet.py    programs for ``core.solvers.fleet``, and which of them is taken
"""

from jaxland.core.pallas.whole.fleet import WholeBand, WholeHops, WholeQuench, chosen, chosen_band, chosen_hops

__all__ = ["WholeBand", "WholeHops", "WholeQuench", "chosen", "chosen_band", "chosen_hops"]
