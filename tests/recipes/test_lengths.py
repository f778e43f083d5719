"""The stride of a recipe is the stride of its windows, or the recipe is refused."""

from __future__ import annotations

import pytest

from muppet_dag.errors import BadConfig
from muppet_dag.recipes import ModelSection, load


def test_the_usual_lengths_for_squad_are_kept():
    assert ModelSection(max_length=384, stride=128).lengths == (384, 128, 128)


@pytest.mark.parametrize(("max_length", "stride"), [(512, 128), (256, 64), (2048, 128)])
def test_without_a_stride_short_windows_get_a_quarter(max_length, stride):
    assert ModelSection(max_length=max_length).lengths == (max_length, stride, 128)


def test_a_stride_that_windows_cannot_have_is_refused_with_the_largest(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text("[model]\nmax_length = 256\nstride = 128\n[mixture]\nsteps = 1\n")
    expected = r"model: stride 128: at most 85, a third of max_length 256; lower model\.stride"
    with pytest.raises(BadConfig, match=expected):
        load(path)
