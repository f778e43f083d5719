"""Base models of every family: read as transformers reads them, trained, saved and loaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import passes
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from workbench import SMALL

from muppet_dag.errors import BadConfig
from muppet_dag.evaluation.predict import predict
from muppet_dag.model import suitable
from muppet_dag.model.base import fetch_base
from muppet_dag.model.layout import Layout, Text
from muppet_dag.model.multitask import MultiTaskModel, load, saved_heads
from muppet_dag.recipes import TrainingSection
from muppet_dag.training.__main__ import run
from muppet_dag.training.flops import Flops
from muppet_dag.training.group import Group

ALONE = Group(0, 1, torch.device("cpu"))
R3F = TrainingSection(regularizer="r3f", r3f_epsilon=0.05)
#: By type of model: its positions, of 64 (encoder and decoder).
ENCODERS = {
    "bert": 64, "albert": 64, "big_bird": 64, "distilbert": 64, "electra": 64, "modernbert": 64,
    "mobilebert": 64, "roformer": 64, "roberta": 62, "camembert": 62, "data2vec-text": 62,
    "longformer": 62, "mpnet": 62, "xlm-roberta": 62, "xlm-roberta-xl": 62,
    "roberta-prelayernorm": 62, "deberta": None, "deberta-v2": None,
}  # fmt: skip
DECODERS = {
    "bart": (64, 64), "bigbird_pegasus": (64, 64), "blenderbot": (64, 64), "led": (64, 64),
    "longt5": (None, None), "m2m_100": (None, None), "marian": (64, 64), "mbart": (64, 64),
    "mt5": (None, None), "mvp": (64, 64), "pegasus": (64, 64), "plbart": (64, 64),
    "prophetnet": (62, 62), "t5": (None, None), "umt5": (None, None),
}  # fmt: skip
SETTINGS = {"led": {"attention_window": 8}, "longformer": {"attention_window": 8},
            "modernbert": {"local_attention": 6, "num_hidden_layers": 4},
            "deberta": {"position_biased_input": False, "relative_attention": True},
            "deberta-v2": {"position_biased_input": False, "relative_attention": True,
                           "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Model folders by type, with a tokenizer of single words, made once."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = passes.make(root / kind, kind, **SETTINGS.get(kind, {}))
            write_tokenizer(made[kind])
        return made[kind]

    return folder


def write_tokenizer(folder: Path, words: int = passes.VOCABULARY, end: int = 3) -> None:
    vocabulary = {f"w{i}": i for i in range(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A w{end}", special_tokens=[(f"w{end}", end)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def text_of(inputs) -> Text:
    return Text.of([inputs], torch.device("cpu"))


#: What people name; the others take their turn in the slow suite.
FIRST = ("modernbert", "deberta-v2", "longformer", "t5", "pegasus", "mbart", "prophetnet")


def slow_but_first(kinds) -> list:
    marks = {kind: [] if kind in FIRST else [pytest.mark.slow] for kind in kinds}
    return [pytest.param(kind, marks=marks[kind]) for kind in kinds]


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_positions_are_counted_in_a_models_own_tables(kind):
    import transformers

    config = passes.tiny_config(kind, **SETTINGS.get(kind, {}))
    with torch.device("meta"):
        facts = suitable.positions(transformers.AutoModel.from_config(config))
    limits = (facts["positions"], facts.get("decoder_positions"))
    assert limits == (DECODERS[kind] if kind in DECODERS else (ENCODERS[kind], None))


@pytest.mark.parametrize("kind", slow_but_first([*ENCODERS, *DECODERS]))
def test_every_family_is_found_fit_trained_saved_and_loaded(folders, tmp_path, kind):
    (tmp_path / "base").mkdir()
    facts = fetch_base(str(folders(kind)), tmp_path / "base")
    decodes = kind in DECODERS
    assert facts["model_type"] == kind and facts["encoder_decoder"] is decodes
    limits = (facts["positions"], facts["decoder_positions"]) if decodes else facts["positions"]
    assert limits == (DECODERS | ENCODERS)[kind]

    specs = (*passes.SPECS, *((passes.GENERATION,) if decodes else ()))
    model = load(tmp_path / "base", specs, dropout=0.1, seed=1).train()
    assert Flops(model.backbone).encoder_layers == model.backbone.config.num_hidden_layers
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    slots, seen = passes.everything(decodes), []
    for step in range(4):
        torch.manual_seed(step)
        loss = sum(loss.mean() for loss, _ in model.losses(slots, R3F))
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        embeddings = model.backbone.get_input_embeddings().weight
        assert embeddings.grad is not None and embeddings.grad.abs().sum() > 0
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    assert seen[-1] < seen[0]

    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved", saved_heads(tmp_path / "saved"))
    for head, inputs in slots:
        logits = [each.eval().logits(head, inputs) for each in (model, again)]
        torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


def shifted(ids: torch.Tensor, start: int = 3) -> torch.Tensor:
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], 1)


def states_of_transformers(folder: Path, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """One sequence through transformers' base model, alone."""
    import transformers

    plain = transformers.AutoModel.from_pretrained(folder).to(dtype).eval()
    kwargs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if plain.config.is_encoder_decoder:
        kwargs |= {"decoder_input_ids": shifted(ids), "use_cache": False}
    elif plain.config.model_type == "longformer":
        kwargs["global_attention_mask"] = (torch.arange(ids.shape[1]) == 0).long()[None]
    return plain(**kwargs).last_hidden_state[0]


@pytest.mark.parametrize(
    "kind", slow_but_first(["modernbert", "deberta-v2", "longformer", "mpnet", *DECODERS])
)
def test_states_are_those_of_transformers(folders, kind):
    dtype = (
        torch.float32 if kind == "prophetnet" else torch.float64
    )  # it masks with float32's least
    model = passes.model(folders(kind), *passes.SPECS, spread=0.0).to(dtype).eval()
    inputs = passes.slot(4, 3) | {"second": passes.slot(4, 3)["lengths"]}
    states = model.reader.hidden_states(text_of(inputs))
    sizes = inputs["lengths"].tolist()
    for own, ids in zip(states.split(sizes), inputs["input_ids"].split(sizes), strict=True):
        expected = states_of_transformers(folders(kind), ids[None], dtype)
        torch.testing.assert_close(
            own, expected, rtol=0, atol=1e-5 if own.dtype == torch.float32 else 1e-8
        )


@pytest.mark.parametrize("kind", slow_but_first([k for k in DECODERS if k != "prophetnet"]))
def test_the_loss_of_generation_is_that_of_transformers(folders, kind):
    """ProphetNet's own is over n-grams. The target's last word is what mBART moves to the front."""
    model = passes.model(folders(kind), passes.GENERATION, spread=0.0).eval()
    inputs = passes.slot(1, 8)
    inputs["target"][-1] = 3
    plain = model.backbone(input_ids=inputs["input_ids"][None], labels=inputs["target"][None])
    logits = model.logits("summarization", inputs)
    loss = torch.nn.functional.cross_entropy(logits[0], inputs["target"])
    torch.testing.assert_close(loss, plain.loss, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["mbart", "pegasus", "bart", "t5"])
def test_noise_goes_on_what_is_looked_up(folders, tmp_path, kind):
    """As in fairseq's R3F: an embedding that is scaled later takes the noise along."""
    settings = {} if kind == "t5" else {"scale_embedding": True}
    folder = passes.make(tmp_path, kind, **settings)
    model = passes.model(folder, *passes.SPECS, spread=0.0).eval()
    inputs = passes.slot(1, 3)
    ids, noise = inputs["input_ids"], torch.zeros(len(inputs["input_ids"]), passes.HIDDEN).double()
    noise[2] = 0.1
    ids[2] = passes.VOCABULARY - 1
    ids[torch.arange(len(ids)) != 2] %= passes.VOCABULARY - 1
    noised = model.reader.hidden_states(text_of(inputs), noise)
    encoder = model.backbone.get_encoder()
    moved = encoder.get_input_embeddings()
    apart = moved.weight.detach().clone()  # the decoder's is left alone
    apart[passes.VOCABULARY - 1] += 0.1
    moved.weight = torch.nn.Parameter(apart)
    expected = model.reader.hidden_states(text_of(inputs))
    torch.testing.assert_close(noised, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "end", "start"), [("mbart", 37, 37), ("mbart", 3, passes.PAD),
                                                    ("t5", 3, passes.PAD)])  # fmt: skip
def test_what_a_decoder_begins_with_is_found(tmp_path, kind, end, start):
    """A language's code where the tokenizer ends a text with one (mBART), else padding (T5)."""
    folder = passes.make(tmp_path / "base", kind, decoder_start_token_id=None)
    write_tokenizer(folder, end=end)
    model = passes.model(folder, passes.GENERATION).float().eval()
    assert model.backbone.config.decoder_start_token_id == start
    ids = model.backbone.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False)
    assert ids[0, 0] == start
    inputs = passes.slot(2, 4)
    first = model.logits("summarization", inputs)[:, 0].argmax(-1)
    layout = Layout.of(inputs["lengths"], inputs["input_ids"])
    made = model.backbone.generate(
        layout.pad(inputs["input_ids"], passes.PAD), attention_mask=layout.mask.long(),
        max_new_tokens=1, min_new_tokens=0, do_sample=False, forced_eos_token_id=None,
    )  # fmt: skip
    assert made[:, 1].tolist() == first.tolist()
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    assert load(tmp_path / "saved", []).backbone.config.decoder_start_token_id == start


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "xlnet", "opt", "mistral"])
def test_models_that_continue_a_text_are_refused(tmp_path, kind):
    settings = {"n_head": 2, "d_head": 16} if kind == "xlnet" else {}
    text = rf"{kind} models are made to continue a text.*roberta-base"
    refused(tmp_path, kind, text, **settings)


def test_an_encoder_turned_decoder_is_refused(tmp_path):
    refused(tmp_path, "bert", "continue a text", is_decoder=True)


@pytest.mark.parametrize("kind", ["vit", "clip", "wav2vec2", "whisper"])
def test_models_of_pictures_and_sound_are_refused(tmp_path, kind):
    refused(tmp_path, kind, rf"{kind} models are neither encoders of text.*bart-base")


def refused(folder: Path, kind: str, text: str, **settings) -> None:
    """By the configuration alone, before weights are fetched: there are none."""
    passes.tiny_config(kind, **settings).save_pretrained(folder / "model")
    (folder / "target").mkdir()
    with pytest.raises(BadConfig, match=text) as caught:
        fetch_base(str(folder / "model"), folder / "target")
    assert str(caught.value).startswith("directory:model: ")


def test_padding_that_is_read_is_refused(folders):
    with pytest.raises(BadConfig, match="fnet models read padding as if it were text"):
        suitable.check(folders("fnet"), "here")


def test_a_model_that_no_text_passes_is_refused_with_its_own_words(folders):
    with pytest.raises(BadConfig, match=r"xmod models do not work here.*language"):
        suitable.check(folders("xmod"), "here")


@pytest.mark.parametrize(("words", "fits"), [(40, True), (38, True), (41, False)])
def test_a_tokenizer_larger_than_the_embeddings_is_refused(tmp_path, words, fits):
    write_tokenizer(passes.make(tmp_path, "bert"), words=words)
    if fits:
        suitable.check(tmp_path, "here")
        return
    with pytest.raises(BadConfig, match=r"token 40 \('w40'\).*embeddings for 40 only"):
        suitable.check(tmp_path, "here")


def test_only_hidden_dropout_is_raised_and_no_layer_is_skipped(tmp_path):
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.2,
             "classifier_dropout": 0.3, "encoder_layerdrop": 0.4}  # fmt: skip
    config = load(passes.make(tmp_path / "bart", "bart", **rates), [], dropout=0.1).backbone.config
    expected = {"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.1,
                "classifier_dropout": 0.1, "encoder_layerdrop": 0.0}  # fmt: skip
    assert {name: getattr(config, name) for name in rates} == expected


@pytest.mark.parametrize("kind", ["t5", "deberta-v2", "distilbert", "electra", "modernbert"])
def test_without_dropout_training_draws_nothing(folders, kind):
    drawn = {}
    for dropout in (0.0, 0.3):
        model: MultiTaskModel = load(folders(kind), passes.SPECS[:1], dropout=dropout).train()
        model.heads.eval()
        both = [model.logits("three", passes.slot(2, 1)) for _ in range(2)]
        drawn[dropout] = not torch.equal(*both)
    assert drawn == {0.0: False, 0.3: kind != "modernbert"}  # published without any


@pytest.mark.parametrize(("kind", "packing"), [("modernbert", "on"), ("deberta-v2", "off"),
                                               ("t5", "auto")])  # fmt: skip
def test_from_a_folder_to_predictions(bench, tmp_path, kind, packing):
    """Base model, tokens, training, the saved model's predictions, as the DAG does it."""
    words = bench.base("tiny-bert").path / "tokenizer.json"
    size = Tokenizer.from_file(str(words)).get_vocab_size()
    sizes = {"vocab_size": size, "max_position_embeddings": 128, "local_attention": 16}
    own = {name: sizes[name] for name in sizes if hasattr(passes.tiny_config(kind), name)}
    folder = passes.make(tmp_path / kind, kind, **SETTINGS.get(kind, {}) | own)
    shutil.copy(words, folder)
    names = ("sst2", "squad", "commonsense_qa", *(("aeslc",) if kind == "t5" else ()))
    job = bench.job(tmp_path / "run", *names, base=str(folder), packing=packing, validate_every=3,
                    mixture=replace(SMALL, steps=3))  # fmt: skip
    run(job, ALONE)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert any("validation/mean" in json.loads(line) for line in lines)
    saved = tmp_path / "run" / "model"
    model = load(saved, saved_heads(saved), packed=packing == "on")
    assert model.packed == (packing == "on")
    for task in job.tasks:
        made = predict(model, task, "validation", rows=5, device=ALONE.device, tokenizer=saved)
        assert len(made.predicted) == len(made.gold) == 5
