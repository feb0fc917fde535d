"""Hostile input: mutations of files and values, and limits under which a case must end.

A case may only end well or with a `UserError` whose lines name a file or a key. The default suite
tries a few cases of each kind, other ones every time; a failure prints the blob that repeats it.
`PARCNET_TRAIN_FUZZ=5000` tries that many of each test, and stops a case after a minute.
"""

import contextlib
import faulthandler
import json
import os
import re
import resource
import signal
import sys
import tempfile
import warnings
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from parcnet_train.errors import UserError

MANY = int(os.environ.get("PARCNET_TRAIN_FUZZ", 0))  # cases of each kind; 0: the default suite's
HEADROOM = 2 * 2**30  # bytes that a case may allocate
SECONDS = 60  # of a case, if there are many
KEY = re.compile(
    r"(^|[\s(])[a-z_]+(\.[a-z_/]+|=)|^-[a-z]|^[a-z_/]+:|^[a-z_]+ has no value"
)  # data.root, ablation=...


def fuzz(cases, *strategies):
    """Run a test on drawn values; `cases` is their number in the default suite."""

    def decorate(test):
        limited = settings(
            max_examples=MANY or cases,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink),  # not Phase.explain: slow
        )
        return limited(given(*strategies)(test))

    return decorate


class HangError(BaseException):
    """A case that takes too long; not an `Exception`, which code might catch."""


def hang(*_):
    faulthandler.dump_traceback(file=sys.__stderr__)
    raise HangError


@contextlib.contextmanager
def limits():
    """Limit memory, and time if there are many cases."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, hard))
    if MANY:
        signal.signal(signal.SIGALRM, hang)
        signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():  # which would otherwise end decoding, only in tests
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        if MANY:
            signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def ends_well(function, *places):
    """Call a function; return its error, which must be one that a user can fix, or None.

    Args:
        function: Function to call.
        places: Folders, one of which each line names unless it names a key.
    """
    with limits():
        try:
            function()
        except UserError as error:
            found = error
        else:
            return None
    lines = str(found).split("\n")
    for line in lines:
        assert line.strip(), lines
        assert all(char.isprintable() for char in line), lines
        assert "Traceback" not in line, lines
        assert " object at 0x" not in line, lines
        assert KEY.search(line) or any(str(place) in line for place in places), lines
        assert len(line) < 2000, lines
    return found


@contextlib.contextmanager
def folder():
    """Give an empty folder, which is removed with whatever is in it."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        yield Path(name)


# --- values -----------------------------------------------------------------------------------

HUGE = 10**400
TEXTS = (
    "",
    " ",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "\x00",
    "a\nb",
    "a\tb",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "\udc80",
    "\ufeff",
    "é",
    "e\u0301",
    "🐈",
    "x" * 300,
    "x" * 5000,
    "%20",
    "%s%n",
    "{0}",
    "${oc.env:HOME}",
    "[bold]",
    "nan",
    "-1",
    "1e400",
    "NULL",
    "__background__",
    "__ignore__",
    "background",
)
NUMBERS = (
    0,
    -0.0,
    -1,
    1,
    2**31,
    -(2**31) - 1,
    2**32 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    HUGE,
    -HUGE,
    1e-320,
    1e308,
    -1e308,
    1e9,
    -1e9,
    0.5,
    float("nan"),
    float("inf"),
    float("-inf"),
)


def deep(levels=900):
    """Return a list in a list in a list."""
    value = []
    for _ in range(levels):
        value = [value]
    return value


values = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(NUMBERS),
    st.sampled_from([None, True, False, [], {}, [[]], [None], [{}], {"a": 1}, [1, 2], ["a"]]),
    st.builds(deep, st.sampled_from([3, 70, 900])),
    st.lists(st.sampled_from(NUMBERS), max_size=9),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
)


def paths_in(value, path=()):
    """Return the paths of all values in a JSON document."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths_in(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += paths_in(inner, (*path, number))
    return found


@st.composite
def hostile_json(draw, document, most=3):
    """Draw a JSON document with changed, missing, repeated and swapped values."""
    changed = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(paths_in(changed)))
        if not path:
            continue
        *above, last = path
        place = changed
        for key in above:
            place = place[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat", "swap"]))
        if how == "replace":
            # A copy: later changes would also change the value that other cases draw.
            place[last] = json.loads(json.dumps(draw(values)))
        elif how == "remove":
            del place[last]
        elif how == "repeat" and isinstance(place, list):
            place.append(json.loads(json.dumps(place[last])))
        elif how == "swap" and len(place) > 1:
            other = draw(st.sampled_from(list(place) if isinstance(place, dict) else [0, -1]))
            place[last], place[other] = place[other], place[last]
    return changed


# --- files ------------------------------------------------------------------------------------

SUFFIXES = (".jpg", ".png", ".txt", ".json", ".xml", ".gif", ".tif", ".csv", ".JPG", "")
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp500")


@st.composite
def hostile_bytes(draw, content):
    """Draw the content of a file: cut, overwritten, repeated, or something else."""
    length = len(content)
    how = draw(
        st.sampled_from(
            ["cut", "cut", "flip", "flip", "zeros", "insert", "remove", "double", "any"]
        )
    )
    start = draw(st.integers(0, max(0, length - 1)))
    if how == "cut":
        return content[:start]
    if how == "flip":
        bytes_ = bytearray(content)
        for _ in range(draw(st.integers(1, 8))):
            if bytes_:
                at = draw(st.integers(0, length - 1))
                bytes_[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, bytes_[at] ^ 1]))
        return bytes(bytes_)
    if how == "zeros":
        size = draw(st.integers(1, 64))
        return content[:start] + b"\0" * size + content[start + size :]
    if how == "insert":
        return content[:start] + draw(st.binary(max_size=16)) + content[start:]
    if how == "remove":
        return content[:start] + content[start + draw(st.integers(1, 64)) :]
    if how == "double":
        return content + content
    return draw(st.binary(max_size=64))


@st.composite
def hostile_text(draw, content):
    """Draw a text: lines and words lost, repeated and replaced, other line ends and encodings."""
    text = content.decode("utf-8", "surrogateescape")
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(["word", "word", "number", "line", "repeat", "lose", "long"]))
        lines = text.split("\n")
        number = draw(st.integers(0, len(lines) - 1))
        if how in ("word", "number"):
            pattern = r"[\w.]+" if how == "word" else r"-?\d+(\.\d+)?"
            spans = [match.span() for match in re.finditer(pattern, text)]
            if spans:
                start, end = draw(st.sampled_from(spans))
                new = draw(st.sampled_from([*TEXTS, *map(str, map(float, NUMBERS_AS_TEXT))]))
                text = text[:start] + new + text[end:]
            continue
        if how == "line":
            lines.insert(number, draw(st.sampled_from(TEXTS)))
        elif how == "repeat":
            lines.insert(number, lines[number])
        elif how == "lose":
            del lines[number]
        else:
            lines[number] = lines[number] * draw(st.sampled_from([2, 50]))
        text = "\n".join(lines)
    if draw(st.booleans()):
        text = text.replace("\n", draw(st.sampled_from(["\r\n", "\r", "\u2028", "\v", ""])))
    encoded = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 5)) == 0:
        with contextlib.suppress(UnicodeError):
            encoded = text.encode(draw(st.sampled_from(ENCODINGS)))
    return encoded


NUMBERS_AS_TEXT = [str(number) if number not in (HUGE, -HUGE) else "1e400" for number in NUMBERS]


class Link(str):
    """Content of an entry that is a symbolic link to this path."""


FOLDER, FIFO = "folder", "FIFO"
LINKS = (".", "..", "/", "missing", "/dev/zero", "/dev/null", "/proc/self/mem", "loop")


@st.composite
def hostile_tree(draw, tree, most=3, whole=0.5):
    """Draw a tree: entries lost, renamed, swapped, replaced by folders, links and FIFOs.

    Args:
        draw: Function of hypothesis.
        tree: Contents by path.
        most: Largest number of changes.
        whole: Share of the trees that also have changed contents.
    """
    changed = dict(tree)
    for _ in range(draw(st.integers(1, most))):
        if not changed:
            break
        path = draw(st.sampled_from(sorted(changed)))
        how = draw(
            st.sampled_from(
                [*["content"] * 6, "lose", "rename", "swap", "folder", "link", "fifo", "empty"]
            )
        )
        content = changed[path]
        if how == "content" and isinstance(content, bytes):
            changed[path] = draw(hostile_content(path, content))
        elif how == "lose":
            del changed[path]
        elif how == "rename":
            new = str(Path(path).with_suffix(draw(st.sampled_from(SUFFIXES))))
            changed[draw(st.sampled_from([new, f"{path}.bak", f"x/{path}"]))] = changed.pop(path)
        elif how == "swap":
            other = draw(st.sampled_from(sorted(changed)))
            changed[path], changed[other] = changed[other], changed[path]
        elif how == "empty":
            changed[path] = b""
        elif how == "folder":
            changed[path] = FOLDER
        elif how == "fifo":
            changed[path] = FIFO
        elif how == "link":
            changed[path] = Link(draw(st.sampled_from(LINKS)))
    return changed


@st.composite
def hostile_content(draw, path, content):
    """Draw the content of a file by its kind."""
    if path.endswith(".json") and draw(st.integers(0, 4)):
        document = draw(hostile_json(json.loads(content))) if is_json(content) else None
        return json.dumps(document).encode()
    if path.endswith((".txt", ".xml", ".csv", ".yaml", ".json", ".data", ".names")):
        return draw(st.one_of(hostile_text(content), hostile_bytes(content)))
    return draw(hostile_bytes(content))


def is_json(content):
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def write_tree(root, tree):
    """Write a tree; what two entries both need is the first one's."""
    for path, content in tree.items():
        file = root / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                target = file.name if content == "loop" else str(content)
                file.symlink_to(target)
            elif content is FOLDER:
                file.mkdir()
            elif content is FIFO:
                os.mkfifo(file)
            else:
                file.write_bytes(content)
        except (OSError, ValueError):
            continue
    return root


def read_tree(root):
    """Return the contents of the files of a folder by path, without those of links."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def images_of(data):
    """Check the files of a data module as a training does, and read one batch of each set."""
    assert data.class_names
    data.check_files("fit")
    data.setup("fit")
    next(iter(data.train_dataloader()), None)
    next(iter(data.val_dataloader()), None)
