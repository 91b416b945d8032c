"""Whatever happens to a file on disk, loading it works or raises one typed line; never anything else."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from deepforward.data import load
from deepforward.errors import DeepforwardError


def write_idx(folder):
    for part, size in (("train", 8), ("t10k", 4)):
        images = b"\0\0\x08\x03" + b"".join(n.to_bytes(4) for n in (size, 3, 3)) + bytes(range(9)) * size
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + size.to_bytes(4) + bytes([0, 1]) * (size // 2))
    return f"idx:{folder}"


def write_npz(folder):
    np.savez_compressed(folder / "a.npz", x=np.eye(12), y=np.arange(12) % 2)
    return f"npz:{folder / 'a.npz'}"


def write_csv(folder):
    (folder / "t.csv").write_text("x,y\n" + "".join(f"{i}.5,{'ab'[i % 2]}\n" for i in range(12)))
    return f"table:{folder / 't.csv'}?target=y"


def write_parquet(folder):
    parquet.write_table(pyarrow.table({"x": np.arange(12.0), "y": np.arange(12) % 2}), folder / "t.parquet")
    return f"table:{folder / 't.parquet'}?target=y"


def write_images(folder):
    for name, suffix in (("cat", "png"), ("dog", "jpg"), ("yak", "tif"), ("emu", "gif")):
        (folder / name).mkdir()
        for number in range(2):
            Image.new("RGB", (9, 8), (number, 50, 60)).save(folder / name / f"{number}.{suffix}")
    return f"folder:{folder}?test=0.5"


@pytest.mark.parametrize("write", [write_idx, write_npz, write_csv, write_parquet, write_images])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_survived(tmp_path_factory, write, data):
    folder = tmp_path_factory.mktemp("damaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
        spec = write(folder)
        assert load(spec)
        path = data.draw(
            st.sampled_from(sorted(path for path in folder.rglob("*.*") if path.is_file() and ".cache" not in str(path)))
        )
        content = bytearray(path.read_bytes())
        for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)):
            content[place] = value
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            load(spec)
        except DeepforwardError as error:
            assert "\n" not in str(error)
