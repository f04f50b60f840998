"""PATHSAMPLE databases (Wales group's Fortran suite), read and written.

    min.data    E  ln(product of positive Hessian eigenvalues)  point-group order  Ix Iy Iz
    ts.data     E  ln(product)  order  min1  min2  Ix Iy Iz                        (min1, min2 count from 1)
    points.min, points.ts   headerless little-endian float64, one record of N numbers per line of the data files
    min.A, min.B            how many minima, then their numbers from 1: products A and reactants B

``order`` is (order of the symmetry group) / (orbit size). Moments of inertia are those of a cluster of atoms of mass
1; a network has none: 1.0 is written.
"""

from jaxland.landscape.interchange.pathsample.database import PathsampleDatabase, moments_of_inertia
from jaxland.landscape.interchange.pathsample.reading import read
from jaxland.landscape.interchange.pathsample.seal import SEAL
from jaxland.landscape.interchange.pathsample.writing import write

__all__ = ["SEAL", "PathsampleDatabase", "moments_of_inertia", "read", "write"]
