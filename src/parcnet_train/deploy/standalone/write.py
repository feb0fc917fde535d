"""Scripts beside exported files: assembled from the modules of this folder and of two above."""

from __future__ import annotations

import ast
import inspect
import pprint
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from parcnet_train.deploy import programs, runtimes
from parcnet_train.deploy.standalone import (
    classification,
    command,
    common,
    detection,
    memory,
    segmentation,
    timing,
    workers,
)
from parcnet_train.files import write_whole

OURS = "parcnet_train"
OTHERS = ("cv2", "numpy")  # imports that are not of the standard library

ANSWERS: dict[str, tuple[ModuleType, Callable[..., Any]]] = {
    "classification": (classification, classification.classes_of),
    "detection": (detection, detection.objects_of),
    "segmentation": (segmentation, segmentation.mask_of),
}

HEADER = '''#!/usr/bin/env python3
"""Run {file} on images, without parcnet_train.

    pip install numpy opencv-python-headless {packages}
    python {script} {example} ...

The script prints one line of JSON per image:
{answer}.
Written by parcnet-train {version}.
"""

'''
TIMER = "time_models.py"
TIMER_HEADER = '''#!/usr/bin/env python3
"""Time the exported files beside this script, without parcnet_train.

    pip install numpy onnxruntime
    python time_models.py --threads 1

It times what the installed runtimes can run (onnxruntime, openvino, MNN, ...), names the rest, and
writes latency.json. --iterations is the number of timed rounds, --size the image size of files
whose names do not end in it; python time_models.py --help lists all settings.
"""

'''
TIMER_END = """if __name__ == "__main__":
    serve() if sys.argv[1:2] == [SERVE] else main()
"""
PRINTED = {
    "classification": "the most probable classes",
    "detection": "the objects, with boxes as left, top, right, bottom in pixels of the image",
    "segmentation": "a mask of class indices of the size of the image (a PNG file in masks/)",
}


def can_be_answered(about: Mapping[str, Any]) -> bool:
    """Return whether a script can turn the outputs of a file into answers.

    Another head than SSDLite may have anchors that the metadata do not describe.

    Args:
        about: Metadata of the file, see `Exportable.about`.
    """
    return about["task"] != "detection" or "boxes" in about or "anchors" in about


def write_script(path: Path, stem: str, about: Mapping[str, Any]) -> Path:
    """Write `run_<stem>.py` beside an exported file.

    Args:
        path: Exported file.
        stem: Name of the file without its suffix.
        about: Metadata of the file, see `Exportable.about`.

    Returns:
        Path of the script.

    Raises:
        TrainingError: If the script cannot be written.
    """
    script = path.with_name(f"run_{stem}.py")
    write_whole(script, script_of(path.name, script.name, about).encode())
    return script


def script_of(file: str, script: str, about: Mapping[str, Any]) -> str:
    """Return the text of a script; see `write_script`."""
    task = about["task"]
    module, answer = ANSWERS[task]
    runtime = runtimes.SUFFIXES[Path(file).suffix]
    opener = runtimes.OPENERS[runtime]
    imports, parts = joined(common, module)
    head = HEADER.format(
        file=file,
        script=script,
        packages=" ".join(runtimes.PACKAGES[runtime]),
        answer=PRINTED[task],
        example="photo.jpg" if about["channels"] in (1, 3, 4) else "image.npy",
        version=about["parcnet_train_version"],
    )
    return "\n\n\n".join(
        [
            head + "\n".join(in_order(imports)),
            f"INPUT = {runtimes.INPUT!r}\nABOUT = {literal({'file': file, **about})}",
            *parts,
            inspect.getsource(opener).strip(),
            f'if __name__ == "__main__":\n    main({opener.__name__}, {answer.__name__}, ABOUT)\n',
        ]
    )


def write_timer(folder: Path) -> Path:
    """Write the script that times the files of a folder, `time_models.py`.

    Raises:
        TrainingError: If the script cannot be written.
    """
    script = folder / TIMER
    imports, parts = joined(programs, runtimes, memory, workers, timing, command)
    text = [TIMER_HEADER + "\n".join(in_order(imports)), *parts, TIMER_END]
    write_whole(script, "\n\n\n".join(text).encode())
    return script


def joined(*modules: ModuleType) -> tuple[set[str], list[str]]:
    """Return all imports of some modules, and their texts; see `split`."""
    imports, parts = set(), []
    for each in modules:
        its_imports, body = split(each)
        imports |= its_imports
        parts.append(body)
    return imports, parts


def split(module: ModuleType) -> tuple[set[str], str]:
    """Return the imports of a module, except this package's, and the text after them."""
    text = inspect.getsource(module)
    imports, last = set(), 0
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            last = node.end_lineno or node.lineno
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS)):
                imports.add(ast.unparse(node))
    return imports, "\n".join(text.splitlines()[last:]).strip()


def in_order(imports: set[str]) -> list[str]:
    """Return import lines as a reader expects them: `__future__`, standard library, the others."""
    future = [each for each in imports if "__future__" in each]
    others = [each for each in imports if each.split()[1] in OTHERS]
    standard = imports.difference(future, others)

    def sorting(line: str) -> tuple[bool, str]:
        return line.startswith("from"), line

    groups = (future, standard, others)
    return "\n\n".join("\n".join(sorted(group, key=sorting)) for group in groups).split("\n")


def literal(about: Mapping[str, Any]) -> str:
    """Return the settings as Python text, short lines first."""
    return pprint.pformat(dict(about), width=100, compact=True, sort_dicts=False)
