"""TRIM against captum: CPU milliseconds per input, one thread, batch 256, float32.

    python benchmarks/bench_trim.py            the table, with captum beside it where it is installed
    pytest benchmarks/bench_trim.py            pytest-benchmark

Both sides explain the same weights: the dense network 100-100-100-2 on the 51 frequencies of a signal (33 bands of
them for the perturbation methods), and a small convolutional network on 28x28 pixels in 49 patches.
"""

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import trim
from jaxland.models import Model, mlp

BATCH = 256


def dense_problem():
    rng = np.random.default_rng(0)
    model = mlp((100, 100, 100, 2), "relu", key=jax.random.key(0), dtype=jnp.float32)
    return model, rng.normal(size=(BATCH, 100)).astype(np.float32), rng.normal(size=(512, 100)).astype(np.float32)


def bands():
    """51 frequencies in 33 bands: the first 15 alone, the others in pairs."""
    return np.minimum(np.concatenate([np.arange(15), 15 + np.arange(36) // 2]), 32)


def conv_problem():
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 3, 1, 16), "b": (3, 3, 16, 32), "c": (7 * 7 * 32, 10)}
    params = {k: (rng.normal(size=s) / np.sqrt(np.prod(s[:-1]))).astype(np.float32) for k, s in shapes.items()}

    def apply(p, x):
        dims = ("NHWC", "HWIO", "NHWC")
        for k in ("a", "b"):
            x = jax.nn.relu(jax.lax.conv_general_dilated(x, p[k], (1, 1), "SAME", dimension_numbers=dims))
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        return x.reshape(len(x), -1) @ p["c"]

    return Model(apply, params), rng.normal(size=(BATCH, 28, 28, 1)).astype(np.float32)


def patches():
    line = np.arange(28) // 4
    return (line[:, None] * 7 + line)[..., None]


def ours():
    model, x, background = dense_problem()
    conv, images = conv_problem()
    rfft, pixels = trim.rfft(100), trim.identity((28, 28, 1))
    dense = {"f": model, "x": x, "transform": rfft, "target": 1, "warn": False}
    image = {"f": conv, "x": images, "transform": pixels, "target": 3, "warn": False}
    return {
        "MLP IG-50": lambda: trim.attribute(**dense, method="ig"),
        "MLP expected gradients-50": lambda: trim.attribute(**dense, method="gradient_shap", background=background),
        "MLP ablation, 33 bands": lambda: trim.attribute(**dense, method="ablation", groups=bands()),
        "MLP KernelSHAP-200, 33 bands": lambda: trim.attribute(**dense, method="kernel_shap", groups=bands()),
        "MLP CD, 33 bands": lambda: trim.attribute(**dense, method="cd", groups=bands()),
        "MLP CD acd, 33 bands": lambda: trim.attribute(**dense, method="cd", groups=bands(), mode="acd"),
        "CNN IG-50": lambda: trim.attribute(**image, method="ig"),
        "CNN expected gradients-50": lambda: trim.attribute(**image, method="gradient_shap", background=images[:64]),
        "CNN ablation, 49 patches": lambda: trim.attribute(**image, method="ablation", groups=patches()),
    }


def theirs():
    """The same in captum, inputs given as spectra where the transform is Fourier's."""
    torch = pytest.importorskip("torch")
    attr = pytest.importorskip("captum.attr")
    torch.set_num_threads(1)
    model, x, background = dense_problem()
    conv, images = conv_problem()
    layers = [(torch.tensor(np.asarray(p["w"])), torch.tensor(np.asarray(p["b"]))) for p in model.params]

    def dense(z):
        h = torch.fft.irfft(z, n=100)
        for k, (w, b) in enumerate(layers):
            h = h @ w + b
            h = torch.relu(h) if k < len(layers) - 1 else h
        return h

    class Convolutional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = [torch.tensor(conv.params[k].transpose(3, 2, 0, 1)) for k in ("a", "b")]
            self.last = torch.tensor(conv.params["c"])

        def forward(self, h):
            for w in self.w:
                h = torch.nn.functional.avg_pool2d(torch.relu(torch.nn.functional.conv2d(h, w, padding=1)), 2)
            return h.permute(0, 2, 3, 1).reshape(len(h), -1) @ self.last

    cnn = Convolutional()
    z, zb = torch.fft.rfft(torch.tensor(x)), torch.fft.rfft(torch.tensor(background))
    # captum works on real tensors: real and imaginary parts as one input.
    parts, zparts = torch.view_as_real(z).contiguous(), torch.view_as_real(zb).contiguous()
    f = lambda p: dense(torch.view_as_complex(p.contiguous()))  # noqa: E731
    mask = torch.tensor(bands())[None, :, None].expand(1, 51, 2)
    im = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    patch = torch.tensor(patches().transpose(2, 0, 1)[None])
    ig, shap = attr.IntegratedGradients(f), attr.GradientShap(f)
    ablate, kernel = attr.FeatureAblation(f), attr.KernelShap(f)

    def kernel_shap():
        rows = 4
        for i in range(rows):
            kernel.attribute(parts[i : i + 1], target=1, n_samples=200, feature_mask=mask, perturbations_per_eval=200)
        return rows

    def no_grad(call):
        def run():
            with torch.no_grad():
                call()

        return run

    return {
        "MLP IG-50": lambda: ig.attribute(parts, target=1, n_steps=50),
        "MLP IG-50 (internal batches)": lambda: ig.attribute(parts, target=1, n_steps=50, internal_batch_size=1024),
        "MLP expected gradients-50": lambda: shap.attribute(parts, zparts, n_samples=50, target=1),
        "MLP ablation, 33 bands": no_grad(
            lambda: ablate.attribute(parts, target=1, feature_mask=mask, perturbations_per_eval=33)
        ),
        "MLP KernelSHAP-200, 33 bands": kernel_shap,
        "CNN IG-50": lambda: attr.IntegratedGradients(cnn).attribute(im, target=3, n_steps=50),
        "CNN IG-50 (internal batches)": lambda: attr.IntegratedGradients(cnn).attribute(
            im, target=3, n_steps=50, internal_batch_size=256
        ),
        "CNN expected gradients-50": lambda: attr.GradientShap(cnn).attribute(im, im[:64], n_samples=50, target=3),
        "CNN ablation, 49 patches": no_grad(
            lambda: attr.FeatureAblation(cnn).attribute(im, target=3, feature_mask=patch)
        ),
    }


def cpu_ms(call, repeats):
    """Least CPU milliseconds per input over some repeats, after one call to compile."""
    call()
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        rows = call()
        best = min(best, (time.process_time() - start) / (rows if isinstance(rows, int) else BATCH))
    return 1e3 * best


@pytest.mark.parametrize("name", list(ours()))
def test_bench(benchmark, name):
    benchmark(ours()[name])


def memory(chunk):
    """Peak resident memory of integrated gradients, 50 nodes, 4,096 images, whatever chunk is asked for."""
    conv, images = conv_problem()
    many = np.tile(images, (16, 1, 1, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    result = trim.attribute(conv, many, method="ig", target=3, chunk=chunk, warn=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"chunk {chunk} asked, {result.play.chunk} used: peak {peak:.0f} MiB, of which {before:.0f} before")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--memory", type=int, metavar="CHUNK", help="peak memory of IG-50 on 4,096 images instead")
    args = parser.parse_args()
    if args.memory:
        return memory(args.memory)
    mine = {k: cpu_ms(v, args.repeats) for k, v in ours().items() if args.only in k}
    try:
        peer = {k: cpu_ms(v, args.repeats) for k, v in theirs().items() if args.only in k}
    except pytest.skip.Exception as error:
        print(f"captum not measured: {error}")
        peer = {}
    print(f"{'CPU ms per input':34s}{'jaxland':>10s}{'captum':>10s}{'ratio':>8s}")
    for name in dict.fromkeys([*mine, *peer]):
        a, b = mine.get(name, mine.get(name.split(" (")[0])), peer.get(name)
        right = f"{b:10.3f}{b / a:8.1f}" if b else f"{'-':>10s}{'-':>8s}"
        print(f"{name:34s}{a:10.3f}{right}")


if __name__ == "__main__":
    main()
