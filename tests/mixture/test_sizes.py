"""Sizes of token rows, and the shuffle that all random orders come from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.mixture.sizes import Sizes, shuffled


@given(st.integers(0, 300), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_shuffle_holds_every_number_once(count, key):
    assert sorted(shuffled(count, key).tolist()) == list(range(count))


def test_every_place_of_a_shuffle_is_as_likely():
    places = np.array([shuffled(5, "key", n) for n in range(4000)])
    for number in range(5):
        assert np.bincount(places[:, number]) == pytest.approx([800] * 5, abs=130)  # 5 sigma


def test_a_passage_that_is_kept_out_loses_all_its_windows(bench):
    artefact = bench.tokens("squad")
    tokens = pa.ipc.open_file(pa.memory_map(str(artefact.path / "train.arrow"))).read_all()
    example = tokens["example"].to_numpy()
    windows = np.bincount(example)
    assert windows.max() > 1
    without = np.array([0, int(windows.argmax())])
    left = Sizes.read(artefact.path, without=without)
    assert left.rows.tolist() == np.flatnonzero(~np.isin(example, without)).tolist()
    assert left.width.tolist() == tokens["width"].to_numpy()[left.rows].tolist()


def test_sizes_are_read_from_the_token_file(bench):
    artefact = bench.tokens("arc_easy")
    sizes = Sizes.read(artefact.path)
    assert len(sizes) == sizes.pool("rows") == artefact.facts["splits"]["train"]["rows"]
    assert sizes.pool("tokens") == artefact.facts["splits"]["train"]["tokens"]
    assert set(sizes.sequences.tolist()) <= {3, 4, 5}
