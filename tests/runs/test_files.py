"""Files are whole or not there; an npz keeps every bit, and no damage to it goes unseen."""

import io
import json
import os
import stat
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxland.errors import StoreError
from jaxland.runs import pack_npz, read_npz, replacing, unpack_npz, whole, write_npz, write_whole

KIND = "jaxland-test-1"
ARRAYS = {
    "a": np.arange(6.0).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(7),
    "flags": np.array([True, False]),
    "short": np.array([1.5, -2.0, 3.0e38], ml_dtypes.bfloat16),
}


def same(found):
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes() and found[name].flags.writeable


def test_an_npz_keeps_every_bit(tmp_path):
    head = {"z": 1, "a": [1, 2.5, None, "x"], "number": np.float64(0.1), "array": np.arange(2)}
    path = write_npz(tmp_path / "deep" / "er" / "x.npz", KIND, head, ARRAYS)
    found, arrays = read_npz(path, KIND)
    assert found == {"z": 1, "a": [1, 2.5, None, "x"], "number": 0.1, "array": [0, 1]} and list(found) == list(head)
    same(arrays)
    assert pack_npz(KIND, head, ARRAYS) == path.read_bytes()
    same(unpack_npz(path.read_bytes(), KIND, "it")[1])
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["a"], ARRAYS["a"])
    assert os.listdir(path.parent) == ["x.npz"]


@given(st.data())
def test_no_damage_goes_unseen(data):
    good = pack_npz(KIND, {"k": 1}, {"a": np.arange(5.0)})
    bad = bytearray(good)
    how, at = data.draw(st.sampled_from(["flip", "cut", "insert"])), data.draw(st.integers(0, len(good) - 1))
    if how == "flip":
        bad[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del bad[at:]
    else:
        bad[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    with pytest.raises(StoreError, match="it is damaged"):
        unpack_npz(bytes(bad), KIND, "it")


def test_what_is_no_such_file_is_refused(tmp_path):
    path = write_npz(tmp_path / "x.npz", KIND, {}, {})
    with pytest.raises(StoreError, match=r"no other written by this jaxland \(jaxland-other-1\)"):
        read_npz(path, "jaxland-other-1")
    with pytest.raises(StoreError, match="holds 'jaxland-test-1', not 'jaxland-other-1'"):
        read_npz(path, "jaxland-other-1", sealed=False)
    with pytest.raises(StoreError, match="does not exist"):
        read_npz(tmp_path / "none.npz", KIND)
    with pytest.raises(StoreError, match=r"already holds x\.npz"):
        write_npz(path, KIND, {}, {}, force=False)
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        write_npz(tmp_path / "y.npz", KIND, {"a": object()}, {})
    np.savez(tmp_path / "pickle.npz", header=np.array(json.dumps({"kind": KIND, "bfloat16": [], "head": {}})))
    with (tmp_path / "compressed.npz").open("wb") as file:
        np.savez_compressed(file, header=np.zeros(3, np.uint8))
    for name in ("pickle.npz", "compressed.npz"):
        with pytest.raises(StoreError, match="damaged"):
            read_npz(tmp_path / name, KIND)
    with pytest.raises(StoreError, match="not stored as jaxland stores it"):
        read_npz(tmp_path / "compressed.npz", KIND, sealed=False)
    assert sorted(os.listdir(tmp_path)) == ["compressed.npz", "pickle.npz", "x.npz"]


def test_checkpoints_curvatures_and_models_of_0_2_0_are_read(tmp_path):
    """As that version wrote them: the header a string, beside a format or within a head; no seal."""
    path, a = tmp_path / "old.npz", np.arange(3.0)
    np.savez(path, header=np.array(json.dumps({"kind": KIND, "bfloat16": ["b"], "head": {"x": 1}})), a=a,
             b=np.array([16256], np.uint16))  # fmt: skip
    head, arrays = read_npz(path, KIND, sealed=False)
    assert head == {"x": 1} and arrays["a"].tolist() == a.tolist()
    assert arrays["b"].dtype == ml_dtypes.bfloat16 and arrays["b"].astype(float).tolist() == [1.0]
    np.savez(path, header=np.array(json.dumps({"format": KIND, "kind": "hessian"})), a=a)
    assert read_npz(path, KIND, sealed=False)[0] == {"kind": "hessian"}


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = write_whole(tmp_path / "x.txt", "before")
    for error in (OSError(28, "No space left on device"), RuntimeError("mine"), StoreError("refused")):
        with pytest.raises(StoreError if isinstance(error, OSError) else RuntimeError), whole(path) as file:
            file.write(b"half")
            raise error
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["x.txt"]
    with pytest.raises(StoreError, match=r"x\.txt.under cannot be written"):
        write_whole(path / "under", b"")
    write_whole(path, "größer")
    assert path.read_bytes() == "größer".encode()
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_set_of_files_comes_as_one(tmp_path):
    folder = tmp_path / "set"
    with pytest.raises(ValueError, match="mine"), replacing(folder, ["a", "b"]):
        raise ValueError("mine")
    assert not folder.exists()
    with replacing(folder, ["a", "b"]) as scratch:
        for name in ("a", "b"):
            (scratch / name).write_text(name)
    with pytest.raises(StoreError, match="already holds a, b"), replacing(folder, ["a", "b"]):
        pass
    (folder / "old").touch()
    with replacing(folder, ["a"], force=True, stale=["old"]) as scratch:
        (scratch / "a").write_text("new")
    assert sorted(os.listdir(folder)) == ["a", "b"] and (folder / "a").read_text() == "new"


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = write_npz(tmp_path / "x.npz", KIND, {"k": 0}, {"a": np.zeros(3)})
    code = f"""
import numpy as np, os, signal
from jaxland.runs import whole
with whole({str(path)!r}) as file:
    file.write(b"half a file")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert read_npz(path, KIND)[0] == {"k": 0}


def test_writing_files_needs_no_jax(tmp_path):
    code = f"""
import sys
from jaxland.runs import write_npz, read_npz, stoppable
write_npz({str(tmp_path / "x.npz")!r}, "jaxland-test-1", {{}}, {{"a": [1.0]}})
read_npz({str(tmp_path / "x.npz")!r}, "jaxland-test-1")
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bytes_are_the_same_on_every_run():
    one = pack_npz(KIND, {"a": 1}, ARRAYS)
    assert one == pack_npz(KIND, {"a": 1}, ARRAYS)
    assert np.load(io.BytesIO(one), allow_pickle=False)["a"].shape == (2, 3)
