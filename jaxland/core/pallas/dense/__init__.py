"""Loss, gradient and Hessian-vector product of small dense networks, a thread a network.

Every thread of a program holds one network (or, for wide layers, a group of its hidden units) in registers: weights,
and one running sum per weight. It goes through the points one by one; a point's inputs are one address for all threads,
read once and broadcast. Nothing is reduced across threads while points are visited, so the loop has no barrier, and no
shuffle where a network is one thread's. Thousands of networks fill a GPU; where there are fewer, the points are split
over several programs whose sums XLA adds.

Networks run along the last axis: weights are [rows, groups, networks], so that a warp reads whole cache lines.
"""
