"""Unintended differences between runs: with mixed recipes, a table compares more than networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parcnet_train.config.keys import flatten
from parcnet_train.report.collected import Run
from parcnet_train.runs.directories import NOT_OF_A_TRAINING, WITHOUT_RESULT

Facts = Mapping[str, Any]
Labelled = Sequence[tuple[int, Run]]  # runs, each with the number of its row

# Parts of a configuration that are not part of the recipe: they define the row, or do not affect
# the result.
APART = (*NOT_OF_A_TRAINING, "backbone", "checkpoint", "seed")
HARMLESS = (
    "data.num_workers",
    "data.seed",
    "task.save_predictions",
    "trainer.log_every_n_steps",
    *(f"{part}.{key}" for part, keys in WITHOUT_RESULT.items() for key in keys),
)
ROOT = "data.root"  # the same data may be in another folder; their files are hashed

# The recipe as far as results.json contains it, for runs without provenance.json.
TOLD = ("head", "data", "recipe", "experiment", "debug", "epochs")
VERSIONS = ("parcnet_train_version", "torch_version")
ABSENT = "absent"
LONGEST = 60  # characters of a value that are shown


def recipe_of(run: Run) -> Facts | None:
    """Return all values that may affect the metric, except backbone and seed; None: unknown."""
    if run.provenance is None:
        return None
    leaves = flatten(run.provenance["config"])
    facts = {
        key: value
        for key, value in leaves.items()
        if key.split(".")[0] not in APART and key not in (*HARMLESS, ROOT)
    }
    for override in run.provenance.get("overrides") or ():
        key, _, value = str(override).lstrip("+~").partition("=")
        if key.startswith("backbone."):  # changes the backbone of the row
            facts[key] = value
    pretrained = leaves.get("backbone.pretrained") is not None
    facts["backbone.pretrained"] = "a checkpoint" if pretrained else None
    facts.update(flatten({"data files": run.provenance.get("data")}))
    sessions = run.provenance.get("sessions") or [{}]
    return {**facts, "processes": sessions[-1].get("world_size")}


def told_of(run: Run) -> Facts:
    """Return the recipe of a run as far as results.json contains it."""
    return {key: run.results.get(key) for key in TOLD}


def versions_of(run: Run) -> Facts:
    """Return the package versions in results.json."""
    return {key: run.results.get(key) for key in VERSIONS}


def surroundings_of(run: Run) -> Facts:
    """Return the environment of a run: data folder, versions, hardware, code revision."""
    assert run.provenance is not None
    facts = {**versions_of(run), ROOT: flatten(run.provenance["config"]).get(ROOT)}
    for part in ("python", "packages", "hardware"):
        facts.update(flatten({part: run.provenance.get(part)}))
    git = run.provenance.get("git") or {}
    diff = run.folder / str(git.get("diff"))
    digest = hashlib.sha256(diff.read_bytes()).hexdigest()[:12] if diff.is_file() else None
    return {**facts, "git.revision": git.get("revision"), "git.diff": digest}


def mixed_recipes(runs: Labelled) -> list[str]:
    """Return one line per recipe value in which the runs of a table differ."""
    known = [(row, recipe) for row, run in runs if (recipe := recipe_of(run)) is not None]
    lines = [*differing(known)]
    if len(known) < len(runs):
        lines += differing([(row, told_of(run)) for row, run in runs])
    for number in sorted({row for row, _ in runs}):
        of_row = [(row, run.results) for row, run in runs if row == number]
        lines += differing([(row, {"parameters": told["parameters"]}) for row, told in of_row])
    return lines


def other_surroundings(runs: Labelled) -> list[str]:
    """Return one line per environment value in which the runs of a table differ."""
    known = [(row, surroundings_of(run)) for row, run in runs if run.provenance is not None]
    lines = [*differing(known)]
    if len(known) < len(runs):
        lines += differing([(row, versions_of(run)) for row, run in runs])
    return lines


def differing(facts: Sequence[tuple[int, Facts]]) -> Iterator[str]:
    """Compare facts of runs, and describe which rows have which value.

    Keys with the same values in the same runs share a line.

    Args:
        facts: Facts of each run, with the number of its row.

    Yields:
        `KEYS: VALUE (rows 1 to 3), VALUE (row 4)`.
    """
    lines: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for _, each in facts for key in each):
        rows: dict[str, list[int]] = {}
        for row, each in facts:
            rows.setdefault(shown(each.get(key, ABSENT)), []).append(row)
        if len(rows) > 1:
            total = [row for row, _ in facts]
            texts = [f"{shorten(value)} ({in_words(has, total)})" for value, has in rows.items()]
            lines.setdefault(", ".join(texts), []).append(key)
    for values, keys in lines.items():
        yield f"{', '.join(keys)}: {values}"


def shown(value: Any) -> str:
    """Return a value as text, as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def shorten(text: str) -> str:
    """Shorten a text that is too long for a line."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def in_words(rows: Sequence[int], all_rows: Sequence[int]) -> str:
    """Describe runs by their rows: `rows 2 to 7`, or `2 of 3 runs of row 4` for a part of a row."""
    whole = [row for row in sorted(set(rows)) if rows.count(row) == all_rows.count(row)]
    parts = [
        f"{rows.count(row)} of {all_rows.count(row)} runs of row {row}"
        for row in sorted(set(rows) - set(whole))
    ]
    spans: list[list[int]] = []
    for row in whole:
        if spans and spans[-1][-1] == row - 1:
            spans[-1].append(row)
        else:
            spans.append([row])
    texts = [f"{s[0]} to {s[-1]}" if len(s) > 2 else ", ".join(map(str, s)) for s in spans]
    if whole:
        parts.insert(0, f"row{'s' if len(whole) > 1 else ''} {', '.join(texts)}")
    return "; ".join(parts)
