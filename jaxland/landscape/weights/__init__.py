"""Interpret a landscape: conserved weights, attribution, values per minimum.

After Niroomand & Wales (2023), "Physics-Inspired Interpretability of Machine Learning Models": the minima of a group
of the disconnectivity graph are aligned by the symmetry of the network; a weight is *conserved* if its standard
deviation over the group is below n. Conserved weights that are not simply switched off by the regulariser (*live*)
tell which inputs drive the decisions of every network of the group.

Definitions used throughout, for a group of k minima aligned to its lowest one:

- std_j: standard deviation (divisor k - 1) of weight j over the group; mean_j: its mean; relative std: their ratio.
- conserved: std_j < n (``threshold``, 0.01).
- live: rms_j > max(3 n, 0.05 r), rms_j being the root mean square of weight j over the group, r that of all weights
  of its layer (biases left out); a weight that is not live is dead: about 0 in every minimum.
- spread: geometric mean of std over the live weights, compared with that of random groups. It needs no threshold:
  where weights are large, no std may be below n although the group agrees far better than chance.
- null: the same numbers for ``draws`` random groups of the same size (at most ``null_members``) of *other* minima,
  each aligned to its own lowest member and then brought to the frame of the tested group. p = (1 + number of random
  groups that do as well) / (1 + draws); q after Benjamini & Hochberg (1995).
"""
