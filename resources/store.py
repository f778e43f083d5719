"""The artefact store and the dataset source as Dagster resources."""

import dagster as dg

from muppet_dag import pipeline
from muppet_dag.corpus.sources import Source
from muppet_dag.store import Store


class ArtefactStore(dg.ConfigurableResource):
    """Where all artefacts live. ``home`` is a folder; ``~`` is the user's."""

    home: str

    def open(self) -> Store:
        """The store."""
        return Store(self.home)


class DatasetSource(dg.ConfigurableResource):
    """Where raw datasets come from: ``hub``, ``samples``, or a folder laid out as the Hub."""

    source: str = "hub"

    def open(self, store: Store) -> Source:
        """The source; the built-in samples are made inside the store."""
        return pipeline.open_source(self.source, store)
