"""Raw schemas: Arrow types, and the feature description that the Hub's parquet files carry."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from muppet_dag.samples.writer import Writer

STRING, INT32, INT64, FLOAT = pa.string(), pa.int32(), pa.int64(), pa.float32()
STRINGS, INTS = pa.list_(STRING), pa.list_(INT32)


@dataclass(frozen=True)
class ClassLabel:
    """An integer column whose values have names."""

    names: tuple[str, ...]


Columns = Mapping[str, pa.DataType | ClassLabel]
Row = dict[str, Any]
#: Makes the raw row of a number; the label follows from the number, so that classes balance.
Maker = Callable[[Writer, int], Row]
#: What a task's raw files look like: the columns and the maker of their rows.
Sample = tuple[Columns, Maker]


def names(*labels: str) -> ClassLabel:
    """A class label with these names, in index order."""
    return ClassLabel(labels)


def arrow_schema(columns: Columns) -> pa.Schema:
    """The Arrow schema of a raw file, with the metadata from which ``datasets`` reads features."""
    types = {k: INT64 if isinstance(v, ClassLabel) else v for k, v in columns.items()}
    features = {name: _feature(kind) for name, kind in columns.items()}
    metadata = json.dumps({"info": {"features": features}})
    return pa.schema(list(types.items()), metadata={"huggingface": metadata})


def _feature(kind: pa.DataType | ClassLabel) -> dict[str, object]:
    if isinstance(kind, ClassLabel):
        return {"names": list(kind.names), "_type": "ClassLabel"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    # Arrow says "float" where `datasets` says "float32".
    return {"dtype": "float32" if kind == FLOAT else str(kind), "_type": "Value"}
