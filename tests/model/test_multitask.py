"""A saved model is whole: what is loaded again says the same, here and in plain transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from muppet_dag.errors import MuppetError
from muppet_dag.mixture.batch import Tokens, collate
from muppet_dag.model.multitask import MultiTaskModel, copy_tokenizer, load, saved_heads
from muppet_dag.model.spec import HeadSpec

SPECS = (
    HeadSpec("sst2", "classification", 2),
    HeadSpec("stsb", "regression"),
    HeadSpec("commonsense", "ranking"),
    HeadSpec("mrc", "span"),
)
TASK = {"sst2": "sst2", "stsb": "stsb", "commonsense": "arc_easy", "mrc": "squad"}


def inputs(bench, head: str, base: str) -> dict[str, torch.Tensor]:
    tokens = Tokens(bench.tokens(TASK[head], base).path, "train")
    return collate("x", tokens, range(6)).tensors()


def say(model: MultiTaskModel, bench, head: str, base: str) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        return model.logits(head, inputs(bench, head, base))


@pytest.fixture(scope="module", params=["tiny-bert", "tiny-bart"])
def saved(bench, request, tmp_path_factory) -> tuple[str, MultiTaskModel, Path]:
    """A model whose weights were all moved away from where they start, and its folder."""
    model = load(bench.base(request.param).path, SPECS, seed=5)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder)
    copy_tokenizer(bench.base(request.param).path, folder)
    return request.param, model, folder


@pytest.mark.parametrize("head", TASK)
def test_a_model_loaded_again_gives_the_same_logits(bench, saved, head):
    base, model, folder = saved
    again = load(folder, saved_heads(folder), seed=99)
    assert saved_heads(folder) == list(SPECS)
    assert torch.equal(say(model, bench, head, base), say(again, bench, head, base))


def test_transformers_loads_the_encoder_with_equal_weights(saved):
    from transformers import AutoModel

    _, model, folder = saved
    ours = model.backbone.base_model.state_dict()
    theirs = AutoModel.from_pretrained(folder).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_transformers_loads_the_tokenizer(saved):
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(saved[2])("the house")["input_ids"]
    assert len(ids) == 4


def test_a_saved_encoder_decoder_generates_in_transformers(bench, saved):
    from transformers import BartForConditionalGeneration

    base, model, folder = saved
    if base == "tiny-bert":
        pytest.skip("an encoder")
    theirs, info = BartForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    batch = inputs(bench, "sst2", base)
    ids = batch["input_ids"][None, : int(batch["lengths"][0])]
    model.eval()
    both = [m.generate(ids, max_new_tokens=5, do_sample=False) for m in (model.backbone, theirs)]
    assert torch.equal(*both)


def test_no_pickle_is_written(saved):
    kinds = {path.suffix for path in saved[2].rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json"}


def test_a_head_is_re_used_only_where_name_kind_and_size_agree(saved):
    _, model, folder = saved
    specs = [HeadSpec("sst2", "classification", 3), HeadSpec("other", "classification", 2),
              HeadSpec("stsb", "regression"), HeadSpec("mrc", "ranking")]  # fmt: skip
    loaded = load(folder, specs)
    same = torch.equal(loaded.heads["stsb"].dense.weight, model.heads["stsb"].dense.weight)
    assert same
    assert loaded.heads["sst2"].projection.out_features == 3
    for name in ("sst2", "other", "mrc"):
        old = model.heads["sst2" if name == "other" else name]
        if hasattr(old, "dense"):
            assert not torch.equal(loaded.heads[name].dense.weight, old.dense.weight)


def test_a_plain_pretrained_model_has_no_heads(bench):
    assert saved_heads(bench.base("tiny-bert").path) == []


def test_another_task_does_not_change_a_heads_first_weights(bench):
    folder = bench.base("tiny-bert").path
    alone = load(folder, SPECS[:1], seed=2).heads["sst2"].state_dict()
    beside = load(folder, tuple(reversed(SPECS)), seed=2).heads["sst2"].state_dict()
    assert all(torch.equal(alone[name], beside[name]) for name in alone)


def test_fresh_heads_depend_on_seed_and_name(bench):
    folder = bench.base("tiny-bert").path
    twins = [HeadSpec("one", "classification", 2), HeadSpec("two", "classification", 2)]
    models = [load(folder, twins, seed=seed).heads for seed in (1, 1, 2)]
    first = [heads["one"].dense.weight for heads in models]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], models[0]["two"].dense.weight)


def test_weights_that_a_file_may_lack_are_the_same_each_time(bench, tmp_path):
    """RoBERTa's published weights have no pooler."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bench.base("tiny-bert").path, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("pooler.")}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(load(folder, SPECS).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_encoder_refuses_to_generate(bench):
    with pytest.raises(MuppetError, match="bert cannot generate"):
        load(bench.base("tiny-bert").path, [HeadSpec("summarization", "generation")])


def test_missing_backbone_weights_are_named(bench, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bench.base("tiny-bert").path, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    lost = next(name for name in tensors if "layer.1.attention" in name)
    del tensors[lost]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MuppetError, match=r"are missing from model\.safetensors"):
        load(folder, SPECS)


def test_dropout_is_what_is_asked_for(bench):
    for base in ("tiny-bert", "tiny-bart"):
        model = load(bench.base(base).path, SPECS, dropout=0.0)
        model.train()
        once, again = (model.logits("sst2", inputs(bench, "sst2", base)) for _ in range(2))
        assert torch.equal(once, again)
        model = load(bench.base(base).path, SPECS, dropout=0.5)
        model.train()
        once, again = (model.logits("sst2", inputs(bench, "sst2", base)) for _ in range(2))
        assert not torch.equal(once, again)


def test_padding_does_not_change_what_a_model_says(bench, saved):
    base, model, _ = saved
    tokens = Tokens(bench.tokens("sst2", base).path, "train")
    lengths = collate("x", tokens, range(len(tokens))).lengths
    short, wide = int(lengths.argmin()), int(lengths.argmax())
    model.eval()
    with torch.inference_mode():
        alone, beside = (
            model.logits("sst2", collate("x", tokens, rows).tensors())[0]
            for rows in ([short], [short, wide])
        )
    torch.testing.assert_close(alone, beside, rtol=0, atol=1e-5)


def test_a_gathered_state_is_written_like_the_models_own(saved, tmp_path):
    """Gathering copies weights that are one, such as BART's words in and out."""
    _, model, folder = saved
    gathered = {name: value.clone() for name, value in model.state_dict().items()}
    other = load(folder, SPECS)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.save(tmp_path, gathered)
    files = [path.name for path in folder.glob("*.safetensors")]
    assert len(files) == 2
    for name in files:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_frozen_pooler_is_all_that_is_not_trained(saved):
    base, model, _ = saved
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    pooler = {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}
    assert frozen == (pooler if base == "tiny-bert" else set())


def test_head_specs_are_plain_json(saved):
    specs = json.loads((saved[2] / "heads.json").read_text())
    assert {"name": "sst2", "kind": "classification", "classes": 2} in specs
