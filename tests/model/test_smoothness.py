"""R3F is what its formulas say, in losses and in gradients, for every kind of head."""

from __future__ import annotations

import passes
import pytest
import torch
from torch import Tensor

from muppet_dag.model import losses, smoothness
from muppet_dag.model.layout import padded
from muppet_dag.recipes import TrainingSection

EPSILON, LAMBDA, SMOOTHING = 0.05, 0.7, 0.1


def training(**settings) -> TrainingSection:
    defaults = {"regularizer": "r3f", "r3f_epsilon": EPSILON, "r3f_lambda": LAMBDA,
             "label_smoothing": SMOOTHING, "r3f_noise": "uniform"}  # fmt: skip
    return TrainingSection(**defaults | settings)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    return {kind: passes.make(root / kind, kind) for kind in ("bert", "bart")}


@pytest.fixture(scope="module")
def bert(folders):
    return passes.model(folders["bert"])


@pytest.fixture(scope="module")
def bart(folders):
    return passes.model(folders["bart"], *passes.SPECS, passes.GENERATION)


SLOTS = {
    "three": passes.slot(4, 1), "commonsense": passes.choices(3, 2), "mrc": passes.slot(4, 3),
    "summarization": passes.slot(3, 4),
}  # fmt: skip


def draw(noise: str, inputs: dict[str, Tensor]) -> Tensor:
    """The noise of a pass of one slot, (S, L, hidden), drawn as the model draws it."""
    torch.manual_seed(5)
    shape = (len(inputs["input_ids"]), passes.HIDDEN)
    z = torch.empty(shape, dtype=torch.float64)
    z = z.uniform_(-EPSILON, EPSILON) if noise == "uniform" else z.normal_(0.0, EPSILON)
    rows = z.split(inputs["lengths"].tolist())
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def probabilities(model, head: str, inputs: dict[str, Tensor], z: Tensor | float) -> list[Tensor]:
    """Each row's distributions by explicit softmax, words disturbed by z; written out by hand."""
    batch = padded(inputs, passes.PAD)
    if head == "summarization":
        logits = lm_logits(model, batch, inputs, z)
        return [list(row[:n].exp() / row[:n].exp().sum(-1, keepdim=True))
                for row, n in zip(logits, inputs["target_lengths"], strict=True)]  # fmt: skip
    embedded = model.backbone.embeddings.word_embeddings(batch["input_ids"]) + z
    mask, types = batch["attention_mask"], batch["token_type_ids"]
    states = model.backbone(
        inputs_embeds=embedded, attention_mask=mask, token_type_ids=types
    ).last_hidden_state
    out = model.heads[head](states if head == "mrc" else states[:, 0]).exp()
    if head == "three":
        return [[row / row.sum()] for row in out]
    if head == "commonsense":
        parts = out.squeeze(-1).split(inputs["sequences"].tolist())
        return [[part / part.sum()] for part in parts]
    allowed = [[0, *range(low, high)] for low, high in inputs["passage"].tolist()]
    return [[row[at, i] / row[at, i].sum() for i in (0, 1)]
            for row, at in zip(out, allowed, strict=True)]  # fmt: skip


def test_an_encoder_decoder_that_understands_has_noise_on_the_encoders_side(bart):
    inputs = SLOTS["three"]
    batch = padded(inputs, passes.PAD)
    read = torch.cat([torch.full_like(batch["input_ids"][:, :1], 3), batch["input_ids"][:, :-1]], 1)
    rows, last = torch.arange(len(read)), inputs["lengths"] - 1
    both = []
    for z in (0.0, draw("uniform", inputs)):
        states = bart.backbone.model(
            inputs_embeds=bart.backbone.model.encoder.embed_tokens(batch["input_ids"]) + z,
            attention_mask=batch["attention_mask"], decoder_input_ids=read, use_cache=False,
        ).last_hidden_state  # fmt: skip
        both.append(bart.heads["three"](states[rows, last]).softmax(-1))
    x, y = both
    term = (x * (x / y).log()).sum(1) + (y * (y / x).log()).sum(1)
    torch.manual_seed(5)
    loss, _ = bart.losses([("three", inputs)], training())[0]
    expected = LAMBDA * term - x[rows, inputs["labels"]].log()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)


def lm_logits(
    model, batch: dict[str, Tensor], inputs: dict[str, Tensor], z: Tensor | float
) -> Tensor:
    target = [t.tolist() for t in inputs["target"].split(inputs["target_lengths"].tolist())]
    width = max(map(len, target))
    shifted = [[3, *row[:-1]] + [passes.PAD] * (width - len(row)) for row in target]
    embedded = model.backbone.model.encoder.embed_tokens(batch["input_ids"]) + z
    return model.backbone(
        inputs_embeds=embedded, attention_mask=batch["attention_mask"],
        decoder_input_ids=torch.tensor(shifted), use_cache=False,
    ).logits  # fmt: skip


def answers(head: str, inputs: dict[str, Tensor]) -> list[list[int]]:
    """What each of a row's distributions should say."""
    if head == "summarization":
        return [t.tolist() for t in inputs["target"].split(inputs["target_lengths"].tolist())]
    if head == "mrc":
        low = inputs["passage"][:, :1]
        at = torch.where(inputs["span"] == 0, 0, inputs["span"] - low + 1)
        return at.tolist()
    return [[label] for label in inputs["labels"].tolist()]


def by_hand(model, head: str, inputs: dict[str, Tensor], noise: str) -> Tensor:
    """L_i + lambda (KL(X||Y) + KL(Y||X)), averaged over a row's distributions."""
    clean = probabilities(model, head, inputs, 0.0)
    other = probabilities(model, head, inputs, draw(noise, inputs))
    smoothing = SMOOTHING if head == "summarization" else 0.0
    rows = []
    for xs, ys, right in zip(clean, other, answers(head, inputs), strict=True):
        loss = kl = 0.0
        for x, y, answer in zip(xs, ys, right, strict=True):
            loss = loss - (1 - smoothing) * x[answer].log() - smoothing * x.log().mean()
            kl = kl + (x * (x / y).log()).sum() + (y * (y / x).log()).sum()
        rows.append((loss + LAMBDA * kl) / len(xs))
    return torch.stack(rows)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])
@pytest.mark.parametrize("noise", ["uniform", "normal"])
@pytest.mark.parametrize("head", SLOTS)
def test_losses_and_gradients_are_those_of_the_formula(bert, bart, head, noise, fused):
    model = bart if head == "summarization" else bert
    expected = by_hand(model, head, SLOTS[head], noise)
    torch.manual_seed(5)
    settings = training(r3f_noise=noise, fuse_noised=fused)
    loss, _ = model.losses([(head, SLOTS[head])], settings)[0]
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    plain, _ = model.losses([(head, SLOTS[head])], training(regularizer="none"))[0]
    assert ((loss - plain) > 1e-6).all()
    one, other = (passes.gradients(model, [(each, None)]) for each in (expected, loss))
    passes.same(one, other)


@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_one_doubled_pass_gives_what_two_passes_give(bart, noise):
    results = []
    for fused in (True, False):
        torch.manual_seed(5)
        losses = bart.losses(passes.everything(True), training(r3f_noise=noise, fuse_noised=fused))
        results.append((losses, passes.gradients(bart, losses)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-10)
    passes.same(results[0][1], results[1][1])


def sequences_read(model, slots, settings) -> list[int]:
    """How many sequences each pass through the backbone reads."""
    seen: list[int] = []
    embeddings = model.reader.backbone.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    model.losses(slots, settings)
    hook.remove()
    return seen


def test_only_rows_that_have_the_term_are_read_twice(bert):
    slots = [("three", passes.slot(4)), ("number", passes.slot(3))]
    assert sequences_read(bert, slots, training()) == [4 + 3 + 4]
    assert sequences_read(bert, slots, training(fuse_noised=False)) == [4 + 3, 4]
    for settings in (training(r3f_lambda=0.0), training(regularizer="none")):
        assert sequences_read(bert, slots, settings) == [4 + 3]
    for fused in (True, False):
        assert sequences_read(bert, slots[1:], training(fuse_noised=fused)) == [3]


def test_there_is_no_term_outside_training(bert):
    slots = [("three", passes.slot(4))]
    plain = bert.losses(slots, training(regularizer="none"))
    bert.eval()
    try:
        assert torch.equal(bert.losses(slots, training())[0][0], plain[0][0])
    finally:
        bert.train()


def test_noise_is_of_the_size_asked_for():
    like = torch.empty(200, 200, dtype=torch.float64)
    uniform = smoothness.noise(like, training(r3f_epsilon=1e-5))
    assert uniform.abs().max() <= 1e-5 and uniform.abs().mean() > 4.9e-6
    normal = smoothness.noise(like, training(r3f_epsilon=1e-5, r3f_noise="normal"))
    torch.testing.assert_close(normal.std().item(), 1e-5, rtol=0.02, atol=0)
    assert uniform.dtype == normal.dtype == torch.float64


def test_impossible_places_add_nothing_and_no_nan():
    clean, noised = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    both = [torch.cat([x, torch.full_like(x, losses.IMPOSSIBLE)], 1) for x in (clean, noised)]
    term = smoothness.symmetric_kl(*both)
    torch.testing.assert_close(term, smoothness.symmetric_kl(clean, noised))
    term.sum().backward()
    assert torch.isfinite(clean.grad).all() and clean.grad.abs().max() > 0


def test_terms_of_half_precision_predictions_are_full_precision():
    clean, noised = (torch.randn(3, 4, dtype=torch.bfloat16) for _ in range(2))
    term = smoothness.symmetric_kl(clean, noised)
    assert torch.equal(term, smoothness.symmetric_kl(clean.float(), noised.float()))


def test_equal_predictions_differ_by_exactly_nothing():
    logits = torch.randn(5, 7) * 30
    assert smoothness.symmetric_kl(logits, logits.clone()).eq(0).all()
