"""What XLA makes of the Pallas kernels for an H100, on a machine that has no GPU: registers, spills, instructions.

    python -m pip install jax-cuda13-plugin jax-cuda13-pjrt triton      # as old as jax; triton brings nvdisasm
    python benchmarks/gpu_code.py                                       # every kernel: some minutes of one core
    python benchmarks/gpu_code.py --only "gradient 5" --sass runs/sass  # machine code kept
    python benchmarks/gpu_code.py --check                               # fails where one spills; no disassembler

The CUDA plugin compiles each kernel for the description of an H100, as it would beside one, and the machine code is
disassembled. Nothing runs: it tells what a loop must cost, not how fast it is. A multiprocessor starts 64 FP64 or 128
FP32 lane operations a clock: a warp's FP64 instruction every other clock on each of its four schedulers.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # of the driver, which need not be here

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxland.core.pallas.dense import choose
from jaxland.core.pallas.dense.programs import call
from jaxland.core.pallas.whole import WholeQuench
from jaxland.core.pallas.whole.fleet import WholeBand, WholeHops
from jaxland.core.solvers.band import ElasticBand
from jaxland.core.solvers.quench import Start, Walk

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
runtime_version: { major: 12 minor: 8 patch: 0 }
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
ELF = b"\x7fELF\x02"
RIEGELI = bytes.fromhex("83af70d10d884a3f")
KINDS = {
    "FP64": r"D(?:FMA|MUL|ADD|SETP|MNMX)",
    "FP32": r"F(?:FMA|MUL|ADD|SETP|MNMX)",
    "fused": r"[DF]FMA",
    "special": r"MUFU",
    "shuffles": r"SHFL",
    "barriers": r"BAR|WARPSYNC",
    "loads": r"LDG",
    "spills": r"LDL|STL",
    "calls": r"CALL",
}
NO_SPILLS = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}
BACK = re.compile(r"\bBRA\b.*`\((\.L_\w+)\)")
OPERATION = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?\s*(\w+)")


@dataclass(frozen=True)
class Loop:
    """Lines of machine code that are repeated: instructions of each kind of ``KINDS``, and of all kinds."""

    first: int
    last: int
    counts: dict[str, int]
    instructions: int

    @property
    def arithmetic(self) -> int:
        """Operations of floats."""
        return self.counts["FP64"] + self.counts["FP32"]


@dataclass(frozen=True)
class Code:
    """Machine code of one kernel.

    Attributes:
        registers: of a thread; stack: bytes of a thread; spills: instructions that move registers to it and back.
        warps: that a multiprocessor's registers hold at once.
        loops: without a loop inside, most arithmetic first: the loop over points, then those of BFGS.
        sass: disassembled.
    """

    name: str
    registers: int
    stack: int
    spills: int
    warps: int
    loops: list[Loop]
    sass: str


@dataclass(frozen=True)
class Case:
    """A function with one kernel of ours, its arguments, warps of a program and points in a turn of its loop."""

    function: Callable
    arguments: tuple
    warps: int = 1
    points: int = 1


def lower_and_compile(function: Callable, *arguments: jax.ShapeDtypeStruct, **options: Any) -> Any:
    """The function compiled for one H100; ``options`` are XLA's."""
    device = topologies.get_topology_desc("one", "cuda", target_config=H100, topology="1x1x1").devices[0]
    mesh = Mesh(np.array([device]), ("device",))
    here = NamedSharding(mesh, PartitionSpec())
    given = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), arguments)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        lowered = jax.jit(function).trace(*given).lower(lowering_platforms=("cuda",))
    return lowered.compile({"xla_gpu_autotune_level": 0, **options})


def _number(text: bytes, at: int) -> tuple[int, int]:
    """A varint and where it ends."""
    value = shift = 0
    while True:
        value |= (text[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if text[at - 1] < 128:
            return value, at


def _unpacked(packed: bytes, at: int) -> bytes:
    """Snappy's raw format."""
    size, at = _number(packed, at)
    out = bytearray()
    while len(out) < size:
        tag, at = packed[at], at + 1
        length = tag >> 2
        if tag & 3 == 0:
            if length >= 60:
                more = length - 59
                length, at = int.from_bytes(packed[at : at + more], "little"), at + more
            out += packed[at : at + length + 1]
            at += length + 1
            continue
        if tag & 3 == 1:
            length, back, at = (length & 7) + 4, (tag >> 5) << 8 | packed[at], at + 1
        else:
            more = 2 if tag & 3 == 2 else 4
            length, back, at = length + 1, int.from_bytes(packed[at : at + more], "little"), at + more
        for _ in range(length):
            out.append(out[-back])
    return bytes(out)


def _records(text: bytes) -> bytes:
    """Records of the first Riegeli file in a text (a header a block of 64 KiB, snappy); older jax writes none."""
    if RIEGELI not in text:
        return text
    text = text[text.index(RIEGELI) :]
    text = b"".join(text[k + 24 : k + 65536] for k in range(0, len(text), 65536))
    at, out = 40, b""
    while at + 40 <= len(text):
        size, kind = struct.unpack_from("<8xQ8xB", text, at)
        chunk, at = text[at + 40 : at + 40 + size], at + 40 + size
        if kind != ord("r") or chunk[:1] != b"s":
            break
        sizes, begin = _number(chunk, 1)
        out += _unpacked(chunk, _number(chunk, begin + sizes)[1])
    return out


def cubins(compiled: Any) -> list[bytes]:
    """Machine code of every kernel of a program, as ELF files."""
    text = _records(_records(compiled.runtime_executable().serialize()))
    found = [_elf(ELF + piece) for piece in text.split(ELF)[1:]]
    if not found or not all(found):
        raise RuntimeError("no machine code found in what this jax writes")
    return found


def _elf(text: bytes) -> bytes:
    """The ELF file that begins here; empty where none does."""
    kind = struct.unpack_from("<H", text, 18)[0]
    programs, sections = struct.unpack_from("<QQ", text, 32)
    each, count, size, number = struct.unpack_from("<4H", text, 54)
    end = max(programs + each * count, sections + size * number)
    return text[:end] if kind == 190 and end <= len(text) else b""


def tool(name: str) -> str:
    """NVIDIA's disassembler on the path, or the one that triton brings."""
    found = shutil.which(name)
    if found is None:
        places = [Path(p) / "triton/backends/nvidia/bin" / name for p in sys.path]
        found = next((str(p) for p in places if p.exists()), None)
    if found is None:
        raise SystemExit(f"{name} is not here: python -m pip install triton (or NVIDIA's CUDA toolkit)")
    return found


def read(elf: bytes, warps: int = 1) -> Code:
    """Disassembled; ``warps`` of a program."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(elf)
        file.flush()
        run = [[tool("cuobjdump"), "-res-usage", file.name], [tool("nvdisasm"), "-c", file.name]]
        usage, sass = (subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in run)
    name = re.search(r"Function (\S+):", usage)
    registers, stack, shared = (int(re.search(rf"{k}:(\d+)", usage)[1]) for k in ("REG", "STACK", "SHARED"))  # type: ignore[index]
    programs = min(65536 // (-(-registers // 8) * 8 * 32 * warps), 32, 64 // warps, 232448 // (shared + 1024))
    lines = sass.splitlines()
    labels = {m[1]: k for k, line in enumerate(lines) if (m := re.match(r"(\.L_\w+):", line))}
    ends = [
        (labels[m[1]], k) for k, line in enumerate(lines) if (m := BACK.search(line)) and labels.get(m[1], k) < k - 1
    ]
    inner = [(a, b) for a, b in ends if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in ends)]
    loops = sorted((_loop(lines, *pair) for pair in inner), key=lambda found: -found.arithmetic)
    return Code(
        name=name[1] if name else "?",
        registers=registers,
        stack=stack,
        spills=_loop(lines, 0, len(lines)).counts["spills"],
        warps=programs * warps,
        loops=loops,
        sass=sass,
    )


def _loop(lines: list[str], first: int, last: int) -> Loop:
    body = [m[1] for line in lines[first : last + 1] if (m := OPERATION.match(line))]
    counts = {kind: sum(bool(re.fullmatch(pattern, op)) for op in body) for kind, pattern in KINDS.items()}
    return Loop(first, last, counts, len(body))


def code_of(case: Case) -> Code:
    """The one kernel of ours in a function."""
    programs = cubins(lower_and_compile(case.function, *case.arguments))
    (code,) = [read(elf, case.warps) for elf in programs if b"jaxland" in elf]
    return code


def dense_case(sizes: tuple[int, ...], dtype: str, product: bool = False, **of: Any) -> Case:
    """Gradient or product of 4,096 networks, 1,000 points."""
    kind, loss = of.pop("activation", "tanh"), of.pop("loss", "cross_entropy")
    shape = choose(sizes, kind, loss, 1e-5, np.dtype(dtype).itemsize)
    if isinstance(shape, str):
        raise ValueError(shape)
    w = jax.ShapeDtypeStruct((4096, shape.parameters), dtype)
    rows = sizes[0], 1 if loss == "cross_entropy" else sizes[-1]
    data = tuple(jax.ShapeDtypeStruct((k, 1000), dtype) for k in rows)
    if product:
        shape = shape.for_products(np.dtype(dtype).itemsize)
        return Case(lambda w, v, *data: call(shape, [w, v], data), (w, w, *data))
    return Case(lambda w, *data: call(shape, [w], data), (w, *data))


def quench_case(sizes: tuple[int, ...], dtype: str, history: int, jobs: int) -> Case:
    """Whole quenches of so many jobs, 1,000 points."""
    shape = choose(sizes, "tanh", "cross_entropy", 1e-5, np.dtype(dtype).itemsize)
    if isinstance(shape, str):
        raise ValueError(shape)
    program = WholeQuench.of(shape, 1000, jobs, tol=1e-6, limit=4000, history=history)
    lanes = 4 * program.shape.networks
    start = Start(*(jax.ShapeDtypeStruct(s, dtype) for s in ((lanes, shape.parameters), (lanes,))))
    state = jax.eval_shape(program.begin, start)
    data = tuple(jax.ShapeDtypeStruct((k, 1000), dtype) for k in (sizes[0], 1))
    made = program.shape
    return Case(
        lambda s, *data: program.advance(s, (data, None)),
        (state, *data),
        made.warps,
        made.ahead if dtype == "float64" else 1,
    )


def hops_case(sizes: tuple[int, ...], history: int, jobs: int) -> Case:
    """Walkers' hops from basin to basin, eight each, 1,000 points, in float64."""
    shape = choose(sizes, "tanh", "cross_entropy", 1e-5, 8)
    if isinstance(shape, str):
        raise ValueError(shape)
    program = WholeHops(WholeQuench.of(shape, 1000, jobs, tol=1e-6, limit=4000, history=history))
    lanes, size, made = 4 * program.shape.networks, shape.parameters, program.shape
    sizes_of = Walk((lanes, size), (lanes,), (lanes,), (lanes, 8, size), (lanes, 8))
    walk = Walk(*(jax.ShapeDtypeStruct(k, "float64") for k in sizes_of))
    data = tuple(jax.ShapeDtypeStruct((k, 1000), "float64") for k in (sizes[0], 1))
    state = jax.eval_shape(program.begin, walk)
    return Case(lambda s, *data: program.advance(s, (data, None)), (state, *data), made.warps, made.ahead)


def band_case(sizes: tuple[int, ...], jobs: int) -> Case:
    """Elastic bands of so many jobs, 1,000 points, in float64."""
    shape = choose(sizes, "tanh", "cross_entropy", 1e-5, 8)
    if isinstance(shape, str):
        raise ValueError(shape)
    program = WholeBand.of(shape, 1000, jobs, ElasticBand())
    pairs = jax.ShapeDtypeStruct((4 * program.shape.networks, 2, shape.parameters), "float64")
    data = tuple(jax.ShapeDtypeStruct((k, 1000), "float64") for k in (sizes[0], 1))
    made = program.shape
    state = jax.eval_shape(program.begin, pairs)
    return Case(lambda s, *data: program.advance(s, (data, None)), (state, *data), made.warps)


def cases() -> dict[str, Callable[[], Case]]:
    """Every kind of kernel by name."""
    made: dict[str, Callable[[], Case]] = {}
    for dtype in ("float64", "float32"):
        for h in (5, 10, 32, 64):
            made[f"gradient {h} {dtype}"] = lambda h=h, d=dtype: dense_case((2, h, 2), d)
        for h in (5, 10, 32, 64):
            made[f"product {h} {dtype}"] = lambda h=h, d=dtype: dense_case((2, h, 2), d, product=True)
    for kind in ("relu", "gelu"):
        made[f"gradient 5 float64 {kind}"] = lambda k=kind: dense_case((2, 5, 2), "float64", activation=k)
    made["gradient 4-7-1 float64 squared"] = lambda: dense_case((4, 7, 1), "float64", loss="squared_error")
    made["gradient 3-4-3 float64"] = lambda: dense_case((3, 4, 3), "float64")
    made["gradient 2-3-3-2 float64"] = lambda: dense_case((2, 3, 3, 2), "float64")
    made["product 2-3-3-2 float64"] = lambda: dense_case((2, 3, 3, 2), "float64", product=True)
    made["gradient 2-5-5-2 float32"] = lambda: dense_case((2, 5, 5, 2), "float32")
    for sizes, dtype, history, jobs in (
        ((2, 5, 2), "float64", 0, 200_000),
        ((2, 5, 2), "float64", 0, 1_000),
        ((2, 10, 2), "float64", 0, 200_000),
        ((2, 10, 2), "float64", 0, 1_000),
        ((2, 32, 2), "float64", 10, 20_000),
        ((23, 8, 2), "float64", 10, 20_000),
        ((23, 8, 2), "float64", 10, 100),
        ((23, 8, 2), "float32", 10, 20_000),
        ((23, 8, 2), "float64", 0, 20_000),
        ((30, 3, 2), "float64", 10, 20_000),
        ((30, 3, 2), "float64", 0, 20_000),
        ((2, 5, 2), "float32", 0, 200_000),
        ((2, 3, 3, 2), "float64", 0, 200_000),
    ):
        name = f"{'L-BFGS' if history else 'BFGS'} {'-'.join(map(str, sizes))} {dtype} {jobs}"
        made[name] = lambda s=sizes, d=dtype, m=history, j=jobs: quench_case(s, d, m, j)
    for sizes, history, jobs in (((2, 5, 2), 0, 200_000), ((2, 5, 2), 0, 1_000), ((23, 8, 2), 10, 1_000)):
        name = f"hops by {'L-BFGS' if history else 'BFGS'} {'-'.join(map(str, sizes))} float64 {jobs}"
        made[name] = lambda s=sizes, m=history, j=jobs: hops_case(s, m, j)
    for sizes, jobs in (((2, 5, 2), 50_000), ((2, 5, 2), 1_000), ((23, 8, 2), 1_000)):
        made[f"bands {'-'.join(map(str, sizes))} float64 {jobs}"] = lambda s=sizes, j=jobs: band_case(s, j)
    return made


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names that contain one of these, by commas")
    parser.add_argument("--loops", action="store_true", help="the loops of the solver too, not of the points alone")
    parser.add_argument("--check", action="store_true", help="only that each compiles without a spill")
    parser.add_argument("--sass", type=Path, help="folder for the machine code")
    chosen = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    failed = 0
    for name, make in cases().items():
        if not any(part in name for part in chosen.only.split(",")):
            continue
        try:
            case = make()
            if chosen.check:
                lower_and_compile(case.function, *case.arguments, **NO_SPILLS)
                print(f"{name}: compiles without a spill", flush=True)
                continue
            code = code_of(case)
        except Exception as error:  # the others go on
            print(f"{name}: {str(error).splitlines()[-1]}", flush=True)
            failed += 1
            continue
        print(f"{name}: {code.registers} registers, {code.warps} warps an SM, {code.spills} spills")
        for k, loop in enumerate(code.loops[: 8 if chosen.loops else 1]):
            mix = ", ".join(f"{kind} {count}" for kind, count in loop.counts.items() if count)
            points = f"{case.points} points a turn, " if k == 0 and case.points > 1 else ""
            print(
                f"    lines {loop.first} to {loop.last}: {points}{loop.instructions} instructions, {mix}", flush=True
            )
        if chosen.sass:
            chosen.sass.mkdir(parents=True, exist_ok=True)
            (chosen.sass / f"{name.replace(' ', '_')}.sass").write_text(code.sass)
    if failed:
        raise SystemExit(f"{failed} kernels failed")


if __name__ == "__main__":
    main()
