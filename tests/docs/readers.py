"""What a reader of a page has at hand before its first block of Python: the names that its text speaks of."""

BOARD = """
import jax, numpy as np
from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.landscape import explore, level_cut, network, values_per_minimum
from jaxland.report.disconnectivity import disconnectivity_graph
jax.config.update("jax_enable_x64", True)
split = load("checkerboard").split(0.3, seed=0, scale="standardise")
x, y = split.train.x, split.train.y
problem = Problem.from_model(mlp((2, 4, 2)), x, y, l2=1e-4)
landscape = explore(problem, store="runs/credit/landscape.db", minima=30)
cut, auc = level_cut(landscape), values_per_minimum(landscape, split.test)["AUC"]
"""
NETWORK = """
import jax, numpy as np
from jaxland import Problem, mlp
jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
x, xt = rng.normal(size=(300, 30)), rng.normal(size=(20, 30))
y, yt = (x[:, 0] * x[:, 1] > 0).astype(int), (xt[:, 0] * xt[:, 1] > 0).astype(int)
def minimum(problem, seed=0):
    from scipy.optimize import minimize
    def both(w):
        return float(problem.energy(w)), np.asarray(problem.gradient(w), float)
    start = np.random.default_rng(seed).normal(size=problem.size)
    return minimize(both, start, jac=True, method="L-BFGS-B", options={"maxiter": 3000, "gtol": 1e-9}).x
"""
# By page; the blocks of a page follow each other, each knows what those before it made.
PRELUDES = {
    "README.md": "",
    "tutorial.md": "",
    "hessian.md": NETWORK
    + """
trained = Problem.from_model(mlp((30, 5, 2)), x, y, l2=1e-3)
params = np.array([minimum(trained, k) for k in range(2)])
w, occupation = params[0], np.array([0.7, 0.3])
""",
    "interchange.md": BOARD,
    "landscape.md": """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
auc = None
""",
    "large_networks.md": NETWORK
    + """
from flax import nnx
class Net(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(30, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)
    def __call__(self, x):
        return self.last(jax.numpy.tanh(self.first(x)))
network = Net(nnx.Rngs(0))
from jaxland import from_nnx
for_minima = Problem.from_model(from_nnx(network), x, y, l2=1e-3)
w_a, w_b = minimum(for_minima, 0), minimum(for_minima, 1)
w = w_a
""",
    "models.md": """
import jax
from jaxland import mlp
model = mlp((13, 3, 3))
params = model.params
""",
    "mutual_information.md": """
import numpy as np, pandas as pd
rng = np.random.default_rng(0)
z = rng.normal(size=(300, 2))
x, y = z[:, 0], z[:, 0] + rng.normal(size=300)
latents = pd.DataFrame(z + 0.3 * rng.normal(size=z.shape), columns=["z1", "z2"])
factors = pd.DataFrame({"size": z[:, 0], "kind": np.where(z[:, 1] > 0, "round", "square")})
""",
    "search.md": """
import numpy as np
def explore(*given, **options):  # of the block for many workers, whose problem is the reader's
    return None
""",
    "thermodynamics.md": BOARD,
    "trim.md": """
import jax, jax.numpy as jnp, numpy as np
from jaxland import mlp
rng = np.random.default_rng(0)
x = rng.normal(size=(12, 100))
model = mlp((100, 4, 2))
f = lambda v: jnp.tanh(v @ jnp.ones((100, 3)))
relevant = np.arange(100) < 50
parts = np.stack([relevant, ~relevant])
""",
    "why.md": BOARD,
}
