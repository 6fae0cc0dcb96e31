"""A trial on programs of its own shape: whole epochs, or single steps, as calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.domain.outcome import Scores
from harness.workloads.protocol import EpochResult, Kept, Tick
from harness.workloads.training.engine import Block, Program, Totals
from harness.workloads.training.feed import Part
from harness.workloads.training.session import EVAL_BATCH, Parts, TrainingSession

CHUNK_S: Final = 1.5  # seconds that one call may take, about: time-outs and Ctrl-C wait no longer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """How far an epoch has come: steps and calls, programs compiled meanwhile, and the totals."""

    steps: int = 0
    calls: int = 0
    compilations: int | None = 0
    totals: Totals


class CompiledSession(TrainingSession):
    """A trial whose epochs are sweeps over its data, block after block and chunk after chunk."""

    def __init__(self, parts: Parts, engine: str, reason: str | None) -> None:
        super().__init__(parts, engine)
        self._compiled = 0
        self._place: _Place | None = None  # in the epoch that is being trained, or that is to go on
        self._batch = self._trial.setting.batch_size
        self._eval_batch = _divisor(self._data.held_out.rows, EVAL_BATCH)
        whole = self._prepare(self._data.train, self._batch, self._train_program)
        self._prepare(self._data.held_out, self._eval_batch, self._eval_program)
        flops = None if whole is None else whole.step_flops
        self.facts = self._facts(reason, reused=self._compiled == 0, step_flops=flops)

    def evaluate(self) -> Scores | None:
        swept = self._sweep(
            self._data.held_out,
            None,
            self._eval_batch,
            self._eval_program,
            CHUNK_S,
            _Place(totals=self._backend.zero()),
            lambda place: None,
        )
        scores = self._scores(swept.totals, self._data.held_out.rows, extra=self._further_scores())
        self._seen = self._seen[0], scores
        return scores

    def train_epoch(self, epoch: int, tick: Tick) -> EpochResult:
        chunk_s = CHUNK_S if self._trial.setting.dispatch == "epoch" else None
        begun = self._place or _Place(totals=self._backend.zero())
        before = self._backend.compilations()

        def reached(place: _Place) -> None:
            since = self._compilations_since(before)
            known = None if since is None or begun.compilations is None else begun.compilations + since
            self._place = replace(place, compilations=known)
            tick()

        swept = self._sweep(self._data.train, self._order, self._batch, self._train_program, chunk_s, begun, reached)
        self._place, place = None, self._place or begun
        rows = self._data.train.rows
        scores = self._scores(swept.totals, rows)
        self._seen = scores, self._seen[1]
        return EpochResult(
            samples=rows, steps=swept.steps, chunks=swept.calls, train=scores, compilations=place.compilations
        )

    def resume(self, kept: Kept) -> None:
        super().resume(kept)
        place = kept.plain["place"]
        if place is not None:
            loss, hits = place.pop("loss"), place.pop("hits")
            self._place = _Place(**place, totals=self._backend.zero(loss, hits))

    def _place_in_epoch(self) -> Any:
        place = self._place
        if place is None:
            return None
        loss, hits = self._backend.read(place.totals)
        plain = {"steps": place.steps, "calls": place.calls, "compilations": place.compilations}
        return {**plain, "loss": loss, "hits": hits}

    def _sweep(
        self,
        part: Part,
        order: NDArray[np.int32] | None,
        batch: int,
        program_for: Callable[[int, Block], Program],
        chunk_s: float | None,
        place: _Place,
        reached: Callable[[_Place], None],
    ) -> _Place:
        """Go once over a part of the data, from a place in it on, to its end; return what that is."""
        done = place.steps * batch  # samples; more than there are where the last, short batch is done too
        if done >= part.rows:
            return place
        first, done = divmod(done, part.block_rows(batch))
        for block in part.blocks(order, batch, first=first):
            full, rest = divmod(block.rows, batch)
            for size, offset, count in ((batch, done, full - done // batch), (rest, full * batch, 1 if rest else 0)):
                if count:
                    place = self._run(program_for(size, block), block, size, offset, count, place, chunk_s, reached)
            done = 0
        return place

    def _run(
        self,
        program: Program,
        block: Block,
        batch: int,
        offset: int,
        count: int,
        place: _Place,
        chunk_s: float | None,
        reached: Callable[[_Place], None],
    ) -> _Place:
        """Run `count` batches from sample `offset` on; return the new place.

        The calls are cut so that each takes at most about `chunk_s`, by what a batch took before; None: a batch a
        call, none of them waited for. `reached` is called once the device has done what it was asked.
        """
        totals, steps, calls = place.totals, place.steps, place.calls
        if chunk_s is None:
            for step in range(count):
                totals = program(block, offset + step * batch, 1, totals)
            self._backend.read(totals)
            place = _Place(steps=steps + count, calls=calls + count, totals=totals)
            reached(place)
            return place
        while count > 0:
            size = 1 if program.step_s is None else max(1, min(count, int(chunk_s / program.step_s)))
            began = time.perf_counter()
            totals = program(block, offset, size, totals)
            self._backend.read(totals)
            program.step_s = (time.perf_counter() - began) / size
            steps, calls = steps + size, calls + 1
            place = _Place(steps=steps, calls=calls, totals=totals)
            reached(place)
            offset += size * batch
            count -= size
        return place

    def _prepare(self, part: Part, batch: int, program_for: Callable[[int, Block], Program]) -> Program | None:
        """Compile every program that a sweep over the part needs; return the one for full batches, if there are any."""
        block = next(iter(part.blocks(None, batch)))
        whole = program_for(batch, block) if part.rows >= batch else None
        if part.rows % batch:
            program_for(part.rows % batch, block)
        return whole

    def _train_program(self, batch: int, block: Block) -> Program:
        key = ("train", self._engine, self._updater, self._objective.key, batch, *_shapes(block))
        program = self._made.programs.get(key)
        if program is None:
            self._compiled += 1
            signature = f"{self._trial.program_key} {self._trial.setting.epochs}"
            program = self._backend.train_program(
                self._made, self._updater, self._objective, batch, block, self._engine, signature
            )
            self._made.programs.put(key, program)
        return program

    def _eval_program(self, batch: int, block: Block) -> Program:
        key = ("eval", self._objective.key, batch, *_shapes(block))
        program = self._made.programs.get(key)
        if program is None:
            self._compiled += 1
            program = self._backend.eval_program(self._made, self._objective, batch, block, self._trial.program_key)
            self._made.programs.put(key, program)
        return program

    def _scores(self, totals: Totals, rows: int, extra: Mapping[str, float] | None = None) -> Scores:
        loss, hits = self._backend.read(totals)
        accuracy = None if self._objective.form == "numbers" else hits / rows
        return Scores(loss=loss / rows, accuracy=accuracy, extra=extra or {})


def _shapes(block: Block) -> tuple[Any, ...]:
    return tuple(block.x.shape), tuple(block.y.shape)


def _divisor(rows: int, limit: int) -> int:
    """Return the batch to evaluate by: the largest divisor of `rows` in the upper half of `limit`, or `limit`."""
    if rows <= limit:
        return rows
    return next((size for size in range(limit, limit // 2, -1) if rows % size == 0), limit)
