"""Task accuracy for the report: the family's held-out questions, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hola.compression.answering import accuracy, heldout_files
from hola.compression.questions import read_questions
from hola.compression.report import TaskRow
from hola.engines.onnx import OnnxEngine
from hola_compressor.passes.original import original_graph

if TYPE_CHECKING:
    from hola_compressor.passes.job import Job


def task_rows(job: Job, compressed: OnnxEngine) -> tuple[TaskRow, ...]:
    """A row per file of held-out questions; none where the source belongs to no family.

    Raises DocumentInvalid, Cancelled.
    """
    limit = job.plan.tasks.questions
    files = heldout_files(job.source) if limit else []
    if not files:
        return ()
    original = OnnxEngine(original_graph(job))
    rows = []
    try:
        for number, file in enumerate(files):
            questions = read_questions(file, limit=limit)
            job.clock.part("export", number / len(files), f"questions of {file.stem}")
            before, after = (
                accuracy(engine, job.checkpoint.tokenizer, job.source, questions)
                for engine in (original, compressed)
            )
            rows.append(
                TaskRow(
                    task=file.stem.replace("_", " "),
                    metric=questions[0].metric,
                    questions=len(questions),
                    before=before,
                    after=after,
                )
            )
    finally:
        original.close()
    return tuple(rows)
