"""Loss, gradient and Hessian-vector product of small dense networks, a thread a network.

Every thread of a program holds one network (or, for wide layers, a group of its hidden units) in registers: weights,
and one running sum per weight. It goes through the points one by one; a point's inputs are one address for all
threads, read once and broadcast. Nothing is reduced across threads while points are visited, so the loop has no
barrier, and no shuffle where a network is one thread's. Thousands of networks fill a GPU; where there are fewer, the
points are split over several programs whose sums XLA adds.

shape.py     what a program serves and holds; weights as rows
point.py     one point, in registers
programs.py  all points
kernel.py    the energy of a problem
"""

from jaxland.core.pallas.dense.kernel import dense_kernel
from jaxland.core.pallas.dense.shape import Shape, choose

__all__ = ["Shape", "choose", "dense_kernel"]
