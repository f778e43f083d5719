"""A base model arrives whole, pinned and without code, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from standin_hub import StandinHub

from muppet_dag.errors import BadConfig, SourceError
from muppet_dag.model.base import base_version, fetch_base

MINILM = Path(__file__).parents[2].parent / "shared" / "models" / "all-MiniLM-L6-v2"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "##s"]
TINY = "makers/tiny-bert"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A BERT of one layer with a WordPiece vocabulary of nine, as transformers writes it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("made") / "tiny"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=9, intermediate_size=32, max_position_embeddings=32, **sizes)
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    assert (folder / "tokenizer.json").exists()
    return folder


@pytest.fixture
def tiny(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "tiny"))


@pytest.fixture
def target(tmp_path):
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def standin(tiny, tmp_path, monkeypatch):
    # snapshot_download has its cache folder as a constant that is read at import.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with StandinHub(tmp_path / "served") as standin:
        standin.put(TINY, files_of(tiny) | {"modeling.py": b"boom", "onnx/x.bin": b""},
                    kind="models")  # fmt: skip
        yield standin


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_config(folder: Path, **values) -> None:
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(facts | values))


def pieces(folder: Path, text: str = "good films") -> list[str]:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).tokens


def hidden_size(folder: Path) -> int:
    from transformers import AutoModel

    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    return model.config.hidden_size


def test_local_folder_loads_and_is_named_without_its_path(tiny, target):
    (tiny / "notes.txt").write_text("not wanted")
    (tiny / "modeling.py").write_text("raise SystemExit")
    facts = fetch_base(str(tiny), target)
    assert (facts["source"], facts["version"]) == base_version(str(tiny))
    assert facts["source"] == "directory:tiny" and facts["version"].startswith("sha256-")
    assert facts["model_type"] == "bert" and facts["encoder_decoder"] is False
    assert hidden_size(target) == 16
    assert pieces(target) == ["[CLS]", "good", "film", "##s", "[SEP]"]
    assert not {"notes.txt", "modeling.py"} & set(os.listdir(target))


def test_local_version_follows_content(tiny):
    before = base_version(str(tiny))
    os.utime(tiny / "vocab.txt", ns=(1, 1))
    (tiny / "notes.txt").write_text("not wanted")
    assert base_version(str(tiny)) == before
    edit_config(tiny, layer_norm_eps=1e-6)
    assert base_version(str(tiny)) != before


def test_hub_model_is_pinned_and_equal_to_the_folder(tiny, standin, target):
    facts = fetch_base(TINY, target, endpoint=standin.url)
    assert (facts["source"], facts["version"]) == base_version(TINY, endpoint=standin.url)
    assert facts["source"] == f"hub:{TINY}" and len(facts["version"]) == 40
    assert files_of(target) == files_of(tiny)
    assert not any("modeling.py" in path for _, path in standin.requests)
    edit_config(standin.root / "models" / TINY / "main", layer_norm_eps=1e-6)
    assert base_version(TINY, endpoint=standin.url)[1] != facts["version"]


def test_an_old_commit_can_be_named(standin, target):
    old = base_version(TINY, endpoint=standin.url)[1]
    edit_config(standin.root / "models" / TINY / "main", layer_norm_eps=1e-6)
    assert fetch_base(TINY, target, revision=old, endpoint=standin.url)["version"] == old
    assert json.loads((target / "config.json").read_text())["layer_norm_eps"] == 1e-12


def test_tokenizer_is_made_from_the_vocabulary(tiny, target):
    (tiny / "tokenizer.json").unlink()
    fetch_base(str(tiny), target)
    assert pieces(target) == ["[CLS]", "good", "film", "##s", "[SEP]"]


def test_no_vocabulary_at_all_is_an_error(tiny, target):
    (tiny / "tokenizer.json").unlink()
    (tiny / "vocab.txt").unlink()
    with pytest.raises(SourceError, match=r"neither tokenizer\.json nor a vocabulary"):
        fetch_base(str(tiny), target)


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_pickled_weights_are_refused(place, tiny, standin, target):
    for folder in (tiny, standin.root / "models" / TINY / "main"):
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    base, endpoint = (str(tiny), None) if place == "folder" else (TINY, standin.url)
    with pytest.raises(BadConfig, match=r"pytorch_model\.bin.*refs/pr/N"):
        fetch_base(base, target, endpoint=endpoint)
    assert not any(target.iterdir())


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_remote_code_is_refused_before_the_weights_are_fetched(place, tiny, standin, target):
    for folder in (tiny, standin.root / "models" / TINY / "main"):
        edit_config(folder, model_type="mine", auto_map={"AutoModel": "modeling.Mine"})
    base, endpoint = (str(tiny), None) if place == "folder" else (TINY, standin.url)
    with pytest.raises(BadConfig, match=r"'mine' is remote code"):
        fetch_base(base, target, endpoint=endpoint)
    assert not any("resolve" in path and "safetensors" in path for _, path in standin.requests)


def test_known_model_type_with_auto_map_loads_without_its_code(tiny, target):
    edit_config(tiny, auto_map={"AutoModel": "modeling.Mine"})
    (tiny / "modeling.py").write_text("raise SystemExit")
    assert fetch_base(str(tiny), target)["model_type"] == "bert"
    assert hidden_size(target) == 16


def test_unknown_model_type_is_refused(tiny, target):
    edit_config(tiny, model_type="not-yet-invented")
    with pytest.raises(BadConfig, match="not-yet-invented"):
        fetch_base(str(tiny), target)


def test_encoder_decoder_is_told(original, tmp_path, target):
    from transformers import T5Config, T5Model

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    T5Model(T5Config(vocab_size=9, **sizes)).save_pretrained(tmp_path / "t5")
    shutil.copy(original / "tokenizer.json", tmp_path / "t5")
    facts = fetch_base(str(tmp_path / "t5"), target)
    assert (facts["model_type"], facts["encoder_decoder"]) == ("t5", True)


def test_broken_weights_are_named(tiny, target):
    path = tiny / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SourceError, match=r"model\.safetensors is missing or broken"):
        fetch_base(str(tiny), target)


def test_weights_in_several_files_are_taken_whole(tiny, target):
    from transformers import BertModel

    model = BertModel.from_pretrained(tiny)
    (tiny / "model.safetensors").unlink()
    model.save_pretrained(tiny, max_shard_size="4KB")
    parts = {path.name for path in tiny.glob("model-*.safetensors")}
    assert len(parts) > 1
    fetch_base(str(tiny), target)
    assert parts | {"model.safetensors.index.json"} <= set(os.listdir(target))
    assert hidden_size(target) == 16


def test_a_broken_list_of_weight_files_is_named(tiny, target):
    (tiny / "model.safetensors").unlink()
    (tiny / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(SourceError, match=r"model\.safetensors\.index\.json is missing or broken"):
        fetch_base(str(tiny), target)


def test_missing_shard_is_named(tiny, target):
    (tiny / "model.safetensors").unlink()
    index = {"weight_map": {"x": "model-00001-of-00001.safetensors"}}
    (tiny / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match=r"model-00001-of-00001\.safetensors is missing"):
        fetch_base(str(tiny), target)


def test_broken_download_is_removed_so_that_the_next_try_heals(standin, target, tmp_path):
    standin.fault("truncate", "model.safetensors", times=2)
    with pytest.raises(SourceError, match=r"broken copy of model\.safetensors") as caught:
        fetch_base(TINY, target, endpoint=standin.url)
    assert caught.value.retry
    (tmp_path / "again").mkdir()
    fetch_base(TINY, tmp_path / "again", endpoint=standin.url)
    assert hidden_size(tmp_path / "again") == 16


@pytest.mark.parametrize(
    ("fault", "where", "text", "retry"),
    [
        ("gated", "/resolve/", "Accept the terms at .*HF_TOKEN", False),
        ("repository", "/api/", "not there, or private", False),
        ("revision", "/api/", "no such revision", False),
        ("500", "/api/models/makers/tiny-bert/revision", "answers 500", True),
    ],
)
def test_hub_errors_say_what_to_do(fault, where, text, retry, standin, target):
    standin.fault(fault, where, times=99)
    with pytest.raises(SourceError, match=text) as caught:
        fetch_base(TINY, target, endpoint=standin.url)
    assert TINY in str(caught.value) and caught.value.retry is retry


def test_unreachable_hub_is_an_error_even_with_a_full_cache(standin, target):
    fetch_base(TINY, target, endpoint=standin.url)
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        base_version(TINY, endpoint="http://127.0.0.1:9")
    assert caught.value.retry


@pytest.mark.parametrize("base", ["/nowhere/model", "../up", "a/b/c", "", "a b"])
def test_names_that_are_neither_folder_nor_id_are_refused(base, target):
    with pytest.raises(BadConfig, match="neither a folder"):
        fetch_base(base, target)


def test_target_must_be_an_empty_folder(tiny, tmp_path):
    with pytest.raises(BadConfig, match="empty folder"):
        fetch_base(str(tiny), tiny)
    with pytest.raises(BadConfig, match="empty folder"):
        fetch_base(str(tiny), tmp_path / "absent")


@pytest.mark.skipif(not MINILM.is_dir(), reason="the real model is not beside the project")
def test_real_model(target):
    facts = fetch_base(str(MINILM), target)
    assert facts["source"] == "directory:all-MiniLM-L6-v2"
    assert hidden_size(target) == 384
    assert pieces(target, "two films")[1:-1] == ["two", "films"]


@pytest.fixture
def spoken(tiny, tmp_path) -> Path:
    """A T5 whose only vocabulary is a SentencePiece model."""
    import passes

    folder = passes.make(tmp_path / "t5", "t5", vocab_size=160)
    (folder / "spiece.model").write_bytes(b"")
    return folder


def test_a_sentencepiece_vocabulary_names_the_package_it_takes(spoken, target, monkeypatch):
    monkeypatch.setattr(
        "muppet_dag.model.base.find_spec", lambda name: None if name == "sentencepiece" else name
    )
    with pytest.raises(BadConfig, match=r"pip install 'muppet-dag\[sentencepiece\]'"):
        fetch_base(str(spoken), target)


def test_a_sentencepiece_vocabulary_becomes_a_tokenizer(spoken, target, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece", reason="an extra")
    from tokenizers import Tokenizer

    lines = [f"film number {i} is good, bad or long: {i * i} minutes" for i in range(300)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(tmp_path / "spiece"), vocab_size=60,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    shutil.copy(tmp_path / "spiece.model", spoken)
    fetch_base(str(spoken), target)
    own = sentencepiece.SentencePieceProcessor(model_file=str(spoken / "spiece.model"))
    made = Tokenizer.from_file(str(target / "tokenizer.json"))
    for text in (lines[7], "a good  film", "bad: 81 minutes!"):
        assert made.encode(text).ids == [*own.encode(text), own.eos_id()]


def test_weights_that_drip_are_not_waited_for(standin, target, monkeypatch):
    monkeypatch.setattr("muppet_dag.connection.PATIENCE_S", 0.2)
    monkeypatch.setattr("time.sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.02)))
    standin.fault("drip", "model.safetensors", times=99, method="GET")
    with pytest.raises(SourceError, match=rf"hub:{TINY}.*too slow") as told:
        fetch_base(TINY, target, endpoint=standin.url)
    assert told.value.retry
