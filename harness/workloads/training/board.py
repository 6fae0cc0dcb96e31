"""What TensorBoard shows of a training: histograms of the weights, scalars, and the graph of the model.

The events are made by TensorBoard's own package, which needs no back end, and are kept in memory until the trial ends.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.graph.keras_util import keras_model_to_graph_def
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

_FILE: Final = "tensorboard/events.out.tfevents.{second}.{trial_id}"


class Board:
    """The events of one trial. `structure` is the model as Keras's JSON; steps are epochs, from 1."""

    def __init__(self, structure: str, trial_id: str) -> None:
        self._buffer = io.BytesIO()
        self._writer = RecordWriter(self._buffer)
        self._name = _FILE.format(second=int(time.time()), trial_id=trial_id)
        self._write(file_version="brain.Event:2")
        graph = keras_model_to_graph_def(json.loads(structure))
        self._write(graph_def=graph.SerializeToString())

    def histograms(self, epoch: int, weights: Mapping[str, NDArray[Any]]) -> None:
        """Note the distribution of each weight after an epoch."""
        for name, values in weights.items():
            self._write(step=epoch, summary=histogram_pb(name, values))

    def scalars(self, epoch: int, values: Mapping[str, float | None]) -> None:
        """Note the metrics of an epoch that there are."""
        for name, value in values.items():
            if value is not None:
                self._write(step=epoch, summary=scalar_pb(name, value))

    def resume(self, name: str, events: bytes) -> None:
        """Go on from the file of events that `files` gave before."""
        self._name = name
        self._buffer.seek(0)
        self._buffer.truncate()
        self._buffer.write(events)

    def files(self) -> dict[str, bytes]:
        """Return the file of events."""
        return {self._name: self._buffer.getvalue()}

    def _write(self, **content: Any) -> None:
        self._writer.write(Event(wall_time=time.time(), **content).SerializeToString())
