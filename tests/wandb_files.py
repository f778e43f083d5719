"""What an offline W&B run holds, read back from its folder."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path


def records(folder: Path):
    """The records of a finished run. wandb's own process may still be writing them for a moment
    after ``finish``; the exit record is the last that counts."""
    end, found = time.monotonic() + 10, []
    while not any(r.HasField("exit") for r in found) and time.monotonic() < end:
        time.sleep(0.02)
        found = list(parse(folder))
    return found


def parse(folder: Path):
    """Decode a run's file. It is a LevelDB log: a header of 7 bytes, then blocks of 32 KiB of
    fragments (checksum, length, type: 1 whole, 2 first, 3 middle, 4 last)."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    data, at, text = path.read_bytes(), 7, b""
    assert data[:4] in (b"", b":W&B")
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + size > len(data):
            return  # still being written
        text += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield Record.FromString(text)
            text = b""


def items(updates):
    return {u.key or "/".join(u.nested_key): json.loads(u.value_json) for u in updates}


def read(folder: Path):
    """Of an offline run: its description, its config, the history by step, the summary."""
    run, config, history, summary = None, {}, {}, {}
    for record in records(folder):
        if record.HasField("run"):
            run = run or record.run
            config |= items(record.run.config.update)
        if record.HasField("history"):
            values = items(record.history.item)
            step = record.history.step.num
            history[step] = {k: v for k, v in values.items() if not k.startswith("_")}
        if record.HasField("summary"):
            summary |= items(record.summary.update)
    return run, config, history, summary
