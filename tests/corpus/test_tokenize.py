"""Token rows hold all of their shard row, at places that can be trusted, the same every time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from tokenizers.pre_tokenizers import ByteLevel

from muppet_dag import catalogue
from muppet_dag.corpus import shards
from muppet_dag.corpus.encode import ENCODE, Row
from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.corpus.specials import load_tokenizer
from muppet_dag.corpus.tokenize import TokenSpec, tokenize
from muppet_dag.errors import BadConfig

SPEC = TokenSpec(max_length=64, stride=16, max_target_length=8)


@pytest.fixture(scope="module")
def model(bench) -> Path:
    return bench.base("tiny-bert").path


@pytest.fixture(scope="module")
def tokenizer(model) -> Tokenizer:
    return Tokenizer.from_file(str(model / "tokenizer.json"))


def shard(folder: Path, rows: list[dict]) -> Path:
    """A shard folder with these rows as its training split."""
    blank = dict.fromkeys(SCHEMA.names)
    rows = [{**blank, "id": str(i), "text": "", **row} for i, row in enumerate(rows)]
    folder.mkdir(exist_ok=True)
    with shards.ShardWriter(folder, "train") as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, SCHEMA))
    return folder


def rows_of(folder: Path, split: str = "train") -> list[dict]:
    return pa.ipc.open_file(pa.memory_map(str(folder / f"{split}.arrow"))).read_all().to_pylist()


def tokens(name: str, rows: list[dict], model: Path, tmp_path: Path, spec=SPEC) -> list[dict]:
    folder = tmp_path / "tokens"
    folder.mkdir()
    tokenize(catalogue.get(name), shard(tmp_path / "shards", rows), model, folder, spec)
    return rows_of(folder)


def sequences(row: dict) -> list[list[int]]:
    """The row's sequences apart."""
    at, out = 0, []
    for length in row["lengths"]:
        out.append(row["input_ids"][at : at + length])
        at += length
    assert at == len(row["input_ids"])
    return out


def question(text: str, answer: str = "", query: str = "who owns it ?") -> dict:
    answers = [{"text": answer, "start": text.index(answer)}] if answer else []
    return {"text": text, "query": query, "answers": answers}


def span_text(row: dict, text: str) -> str:
    """The part of the passage that the row's span covers."""
    first = row["passage"][0]
    low, high = 2 * (row["start"] - first), 2 * (row["end"] - first) + 1
    return text[row["offsets"][low] : row["offsets"][high]]


@pytest.mark.parametrize("name", ["squad", "squad_v2"])
def test_every_span_reads_as_the_answer_in_its_passage(bench, name):
    table = shards.read(bench.shards(name).path, "train").to_pylist()
    seen = set()
    for row in rows_of(bench.tokens(name).path):
        example = table[row["example"]]
        if row["end"]:
            seen.add(row["example"])
            assert span_text(row, example["text"]) == example["answers"][0]["text"]
    assert seen == {i for i, row in enumerate(table) if row["answers"]}


SIGNS = ("é", "日本語", "😀 👩‍👩‍👧", "ﬁ ﬂ", "İstanbul", "e\u0301 n\u0303", "\u200b")


@pytest.mark.parametrize("before", SIGNS)
def test_spans_are_right_behind_signs_outside_ascii(model, tmp_path, before):
    text = f"{before} said : it belongs to Noel {before} ."
    (row,) = tokens("squad", [question(text, "Noel")], model, tmp_path)
    assert span_text(row, text) == "Noel"


def test_an_answer_inside_a_longer_token_is_covered_by_it(model, tmp_path):
    text = "the house 's owner is ann ."
    (row,) = tokens("squad", [question(text, "ous")], model, tmp_path)
    assert span_text(row, text) == "house"


def test_windows_overlap_and_cover_the_whole_passage(model, tokenizer, tmp_path):
    text = " ".join(f"{i}" for i in range(10, 99)) + " end ."
    windows = tokens("squad", [question(text, "57")], model, tmp_path)
    assert len(windows) > 3
    reach = 0
    for row in windows:
        starts, ends = row["offsets"][0::2], row["offsets"][1::2]
        assert starts[0] <= reach and ends[-1] > reach
        reach = ends[-1]
        low, high = row["passage"]
        assert high - low == len(starts)
    assert reach == len(text)
    shared = [len(set(a["offsets"][0::2]) & set(b["offsets"][0::2])) for a, b in pairwise(windows)]
    assert min(shared) >= SPEC.stride


def test_a_window_without_the_whole_answer_has_the_no_answer_span(model, tmp_path):
    text = "ann " * 100 + "zoe"
    windows = tokens("squad", [question(text, "zoe")], model, tmp_path)
    assert {(row["start"], row["end"]) for row in windows[:-1]} == {(0, 0)}
    assert span_text(windows[-1], text) == "zoe"


def test_an_unanswerable_question_has_the_no_answer_span(model, tmp_path):
    (row,) = tokens("squad_v2", [question("it belongs nowhere .")], model, tmp_path)
    assert (row["start"], row["end"]) == (0, 0)


def windows_of(tokenizer, query: str, text: str, spec: TokenSpec) -> list[Row]:
    rows = {"text": [text], "query": [query], "answers": [[]]}
    return ENCODE["mrc"](tokenizer, catalogue.get("squad"), spec, rows, 0)


@pytest.fixture(scope="module", params=["tiny-bert", "bytes"])
def encoder(request, model, tmp_path_factory) -> Tokenizer:
    """Three special tokens around question and passage, or RoBERTa's four and parts of letters."""
    if request.param == "tiny-bert":
        return load_tokenizer(model)
    vocab = {sign: i for i, sign in enumerate(["<s>", "</s>", *ByteLevel.alphabet()])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    folder = tmp_path_factory.mktemp("bytes")
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


PROSE = st.lists(
    st.sampled_from(["who", "owns", "it", "?", "Noel", "é", "日本", "😀"]), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), length=st.integers(24, 64), query=PROSE, text=PROSE)
def test_windows_hold_the_whole_question_and_share_what_was_asked_for(
    encoder, data, length, query, text
):
    spec = TokenSpec(max_length=length, stride=data.draw(st.integers(1, length // 3)))
    query, text = " ".join(query), " ".join(text)
    windows = [row.sequences[0] for row in windows_of(encoder, query, text, spec)]
    assert max(len(window) for window in windows) <= length
    ids, passage = side_ids(windows, 0), side_ids(windows, 1)
    encoder.no_truncation()
    room = length - encoder.num_special_tokens_to_add(True)
    whole = encoder.encode(query, add_special_tokens=False).ids
    assert all(each == ids[0] for each in ids)
    # The start of a question that takes half of the window; no letter in bytes is parted.
    most = min(length // 2, room - spec.stride - 1)
    assert ids[0] == whole[: len(ids[0])]
    assert len(ids[0]) == len(whole) <= most or most - 3 <= len(ids[0]) <= most
    step = room - len(ids[0]) - spec.stride
    whole = encoder.encode(text, add_special_tokens=False).ids
    assert step > 0
    assert passage == [
        whole[at : at + step + spec.stride]
        for at in range(0, max(1, len(whole) - spec.stride), step)
    ]


def side_ids(windows, side: int) -> list[list[int]]:
    """The ids of the question (0) or of the passage (1) in each window."""
    return [
        [i for i, s in zip(window.ids, window.sequence_ids, strict=True) if s == side]
        for window in windows
    ]


def test_a_question_stands_whole_in_every_window(model, tokenizer, tmp_path):
    query = "who owns the house and the boat ?"
    windows = tokens("squad", [question("ann " * 200, query=query)], model, tmp_path)
    ids = tokenizer.encode(query, add_special_tokens=False).ids
    assert len(windows) > 3
    for row in windows:
        assert row["input_ids"][1 : 1 + len(ids)] == ids
        assert row["passage"][0] == len(ids) + 2


def test_a_question_of_half_a_window_is_not_cut_either(model, tokenizer, tmp_path):
    """It is longer than the part of the passage beside it, so cutting the longer would cut it."""
    query = " ".join(["who", "owns"] * 16)
    windows = tokens("squad", [question("ann " * 50, query=query)], model, tmp_path)
    ids = tokenizer.encode(query, add_special_tokens=False).ids
    assert len(ids) == SPEC.max_length // 2 and len(windows) > 1
    assert all(row["input_ids"][1 : 1 + len(ids)] == ids for row in windows)


def test_a_question_longer_than_half_a_window_leaves_room_for_the_passage(model, tmp_path):
    windows = tokens("squad", [question("ann zoe", "zoe", query="why " * 500)], model, tmp_path)
    assert all(row["width"] <= SPEC.max_length for row in windows)
    assert span_text(windows[-1], "ann zoe") == "zoe"


@pytest.mark.parametrize("length", [24, 32])
def test_short_windows_work_even_with_the_longest_question(model, tmp_path, length):
    spec = TokenSpec(max_length=length, stride=length // 3)
    row = question("ann " * 50, query="why " * 50)
    windows = tokens("squad", [row], model, tmp_path, spec)
    assert windows[-1]["offsets"][-1] == len("ann " * 50) - 1


def test_a_stride_of_more_than_a_third_of_a_window_is_refused(bench, tmp_path):
    with pytest.raises(BadConfig, match=r"stride 22: at most 21, a third of max_length 64"):
        tokenize(catalogue.get("squad"), bench.shards("squad").path, bench.base("tiny-bert").path,
                 tmp_path, replace(SPEC, stride=22))  # fmt: skip


@pytest.mark.parametrize("name", ["commonsense_qa", "arc_easy"])
def test_candidates_stay_together_and_none_is_lost(bench, tokenizer, name):
    examples = shards.read(bench.shards(name).path, "train").to_pylist()
    rows = rows_of(bench.tokens(name).path)
    assert [row["example"] for row in rows] == list(range(len(examples)))
    for row, source in zip(rows, examples, strict=True):
        assert row["sequences"] == len(source["choices"]) == len(sequences(row))
        assert row["label"] == source["label"]
        for ids, choice in zip(sequences(row), source["choices"], strict=True):
            assert choice in tokenizer.decode(ids)


def test_a_gap_in_the_question_is_filled_with_each_candidate(model, tokenizer, tmp_path):
    row = {"text": "ann went home .", "query": "she was _ there .", "label": 0}
    (tokens_row,) = tokens("race_high", [{**row, "choices": ["good", "bad"]}], model, tmp_path)
    whole = [
        tokenizer.encode("ann went home .", f"she was {w} there .").ids for w in ("good", "bad")
    ]
    assert sequences(tokens_row) == whole


def test_a_candidate_keeps_its_end_next_to_a_long_context(model, tokenizer, tmp_path):
    row = {"text": "ann " * 300, "query": "why ?", "choices": ["good", "bad"], "label": 1}
    (tokens_row,) = tokens("cosmos_qa", [row], model, tmp_path)
    for ids, word in zip(sequences(tokens_row), ("good", "bad"), strict=True):
        assert len(ids) == SPEC.max_length and word in tokenizer.decode(ids)


def test_pairs_say_where_their_second_part_starts(model, tokenizer, tmp_path):
    row = {"text": "the house .", "query": "the boat .", "label": 1}
    (tokens_row,) = tokens("rte", [row], model, tmp_path)
    whole = tokenizer.encode("the house .", "the boat .")
    assert tokens_row["input_ids"] == whole.ids
    assert tokens_row["second"] == [whole.type_ids.index(1)]


def test_a_single_text_has_no_second_part(model, tmp_path):
    (tokens_row,) = tokens("sst2", [{"text": "the house .", "label": 1}], model, tmp_path)
    assert tokens_row["second"] == tokens_row["lengths"]


def test_a_long_pair_is_cut_on_its_longer_side(model, tokenizer, tmp_path):
    row = {"text": "ann " * 300, "query": "the boat .", "label": 1}
    (tokens_row,) = tokens("rte", [row], model, tmp_path)
    assert tokens_row["width"] == SPEC.max_length
    assert "the boat." in tokenizer.decode(tokens_row["input_ids"])


def test_summaries_are_cut_to_the_target_length_and_keep_their_end_sign(bench, tmp_path):
    bart = bench.base("tiny-bart").path
    rows = [{"text": "ann " * 300, "target": "zoe " * 50}, {"text": "ann", "target": "zoe"}]
    long, short = tokens("aeslc", rows, bart, tmp_path)
    end = Tokenizer.from_file(str(bart / "tokenizer.json")).token_to_id("[SEP]")
    assert (long["width"], long["target_length"]) == (SPEC.max_length, SPEC.max_target_length)
    assert len(long["target"]) == SPEC.max_target_length
    assert (long["target"][-1], short["target"][-1]) == (end, end)


@pytest.mark.parametrize("name", ["sst2", "rte", "arc_easy", "squad", "aeslc"])
def test_sizes_say_what_the_rows_hold(bench, name):
    base = "tiny-bart" if name == "aeslc" else "tiny-bert"
    for row in rows_of(bench.tokens(name, base).path):
        assert row["width"] == max(row["lengths"])
        assert row["sequences"] == len(row["lengths"])
        assert row["target_length"] == len(row["target"] or ())
        assert row["tokens"] == len(row["input_ids"]) + row["target_length"]


def test_facts_count_rows_examples_and_tokens(bench):
    artefact = bench.tokens("squad")
    for split, facts in artefact.facts["splits"].items():
        rows = rows_of(artefact.path, split)
        assert facts["rows"] == len(rows) >= facts["examples"]
        assert facts["examples"] == bench.shards("squad").facts["splits"][split]["rows"]
        assert facts["tokens"] == sum(row["tokens"] for row in rows)
        assert facts["longest"] == max(row["width"] for row in rows)


def test_ids_of_a_small_vocabulary_take_two_bytes(bench):
    path = bench.tokens("sst2").path / "train.arrow"
    schema = pa.ipc.open_file(pa.memory_map(str(path))).schema
    assert schema.field("input_ids").type.value_type == pa.uint16()


def test_ids_of_a_large_vocabulary_take_four(model, tmp_path):
    from tokenizers import pre_tokenizers

    large = Tokenizer(models.WordLevel({f"w{i}": i for i in range(2**16 + 1)}, unk_token="w0"))
    large.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "large").mkdir()
    large.save(str(tmp_path / "large" / "tokenizer.json"))
    (tmp_path / "large" / "config.json").write_text("{}")
    row = {"text": f"w{2**16} w1", "label": 0}
    (tokens_row,) = tokens("sst2", [row], tmp_path / "large", tmp_path)
    assert tokens_row["input_ids"] == [2**16, 1]


@pytest.mark.parametrize("name", ["rte", "stsb", "arc_easy", "squad_v2", "aeslc"])
def test_the_same_shards_give_the_same_bytes(bench, tmp_path, name):
    model = bench.base("tiny-bart").path
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        tokenize(catalogue.get(name), bench.shards(name).path, model, folder, SPEC)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_more_rows_than_a_batch_keep_their_order(model, tmp_path):
    rows = [{"text": str(i), "label": i % 2} for i in range(9000)]
    token_rows = tokens("sst2", rows, model, tmp_path)
    assert [row["example"] for row in token_rows] == list(range(9000))
    assert [row["label"] for row in token_rows] == [i % 2 for i in range(9000)]


@pytest.mark.parametrize(
    ("task", "base", "key"),
    [("sst2", "tiny-bert", "max_length"), ("aeslc", "tiny-bart", "max_length"),
     ("aeslc", "tiny-bart", "max_target_length")],
)  # fmt: skip
def test_a_length_that_the_model_has_no_positions_for_is_refused(bench, tmp_path, task, base, key):
    made = bench.base(base)
    with pytest.raises(BadConfig, match=rf"^{key} 513: .* 512 positions\. Lower model\.{key} in"):
        tokenize(catalogue.get(task), bench.shards(task).path, made.path, tmp_path,
                 replace(SPEC, **{key: 513}), made.facts)  # fmt: skip


def test_a_decoder_may_have_fewer_positions_than_its_encoder(bench, tmp_path):
    """LED: documents of 16,384 tokens, summaries of 1,024; what is understood goes to both."""
    base, facts = bench.base("tiny-bart").path, {"positions": 512, "decoder_positions": 48}
    args = {task: (catalogue.get(task), bench.shards(task).path) for task in ("aeslc", "sst2")}
    tokenize(*args["aeslc"], base, tmp_path, replace(SPEC, max_target_length=48), facts)
    with pytest.raises(BadConfig, match=r"^max_length .*the decoder has 48 positions"):
        tokenize(*args["sst2"], base, tmp_path, SPEC, facts)


def test_relative_positions_have_no_limit(bench, tmp_path):
    made, facts = bench.base("tiny-bert"), {"positions": None}
    (tmp_path / "tokens").mkdir()
    tokenize(catalogue.get("sst2"), bench.shards("sst2").path, made.path, tmp_path / "tokens",
             replace(SPEC, max_length=4000), facts)  # fmt: skip
    assert (tmp_path / "tokens" / "train.arrow").is_file()
