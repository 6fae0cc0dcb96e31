"""What TensorBoard makes of a folder, printed as JSON: curves by its accumulator, hyperparameters by its plugin.

A program of its own, which tells TensorBoard to do without TensorFlow: importing that takes seconds.
"""

from __future__ import annotations

import json
import sys
import types

sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider  # noqa: E402
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer  # noqa: E402
from tensorboard.context import RequestContext  # noqa: E402
from tensorboard.plugins.base_plugin import TBContext  # noqa: E402
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups  # noqa: E402
from tensorboard.util.tensor_util import make_ndarray  # noqa: E402

folder = sys.argv[1]
board = EventMultiplexer().AddRunsFromDirectory(folder)
board.Reload()
context = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(board, folder), logdir=folder))
experiment = get_experiment.Handler(RequestContext(), context, "", api_pb2.GetExperimentRequest()).run()
wanted = api_pb2.ListSessionGroupsRequest(
    slice_size=1000, aggregation_type=api_pb2.AGGREGATION_AVG, allowed_statuses=api_pb2.Status.values()
)
for hparam in experiment.hparam_infos:
    wanted.col_params.add(hparam=hparam.name)
for metric in experiment.metric_infos:
    wanted.col_params.add(metric=metric.name)
groups = list_session_groups.Handler(RequestContext(), context, "", wanted).run().session_groups


def value(held):
    return getattr(held, held.WhichOneof("kind"))


print(
    json.dumps(
        {
            "hparams": {
                info.name: [value(one) for one in info.domain_discrete.values] for info in experiment.hparam_infos
            },
            "metrics": [info.name.tag for info in experiment.metric_infos],
            "trials": {
                session.name: {
                    "status": api_pb2.Status.Name(session.status),
                    "hparams": {name: value(held) for name, held in group.hparams.items()},
                    "metrics": {one.name.tag: one.value for one in session.metric_values},
                }
                for group in groups
                for session in group.sessions
            },
            "curves": {
                run: {
                    tag: [
                        [event.step, event.wall_time, float(make_ndarray(event.tensor_proto))]
                        for event in board.Tensors(run, tag)
                    ]
                    for tag in tags["tensors"]
                }
                for run, tags in board.Runs().items()
                if run.endswith(("train", "validation"))
            },
        }
    )
)
