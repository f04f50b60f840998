#!/bin/sh
# All that a lent GPU is asked, within ten minutes: the device benchmark (six at most), then the tests that need one.
#   sh benchmarks/on_a_gpu.sh FOLDER [options of bench_device.py]
# Figures (device.json) and logs go to the folder; PYTHON names the interpreter.
out="${1:-runs/gpu}"
[ $# -gt 0 ] && shift
python="${PYTHON:-python3}"
here="$(dirname "$0")/.."
mkdir -p "$out"
export PYTHONPATH="$here" JAX_COMPILATION_CACHE_DIR="${TMPDIR:-/tmp}/jaxland-programs"
timeout 365 "$python" "$here/benchmarks/bench_device.py" --json "$out/device.json" "$@" > "$out/device.log" 2>&1
tail -n 80 "$out/device.log"
JAXLAND_TEST_GPU=1 timeout 200 "$python" -m pytest -q -p no:cacheprovider --durations=20 \
    "$here/tests/core/pallas/test_on_gpu.py" > "$out/tests.log" 2>&1
tail -n 40 "$out/tests.log"
