"""`action=watch` as a command: what it prints, and how it ends."""

import contextlib
import functools
import io
import os
import signal
import subprocess
import sys

import pytest
from rich.console import Console

import parcnet_train
from parcnet_train.actions.watch import watch as action
from parcnet_train.errors import ConfigError
from watched_runs import plant_all

CODE = """
import sys
from parcnet_train.__main__ import main
sys.argv = ["parcnet_train", "action=watch", *sys.argv[1:]]
main()
print("torch" in sys.modules)
"""


def test_outside_a_terminal_the_table_is_printed_once(tmp_path, monkeypatch, capsys):
    plant_all(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert parcnet_train.run("action=watch") == {"action": "watch"}
    printed = capsys.readouterr().out
    assert "5 runs below" in printed
    assert len([line for line in printed.splitlines() if "top1 0.5000" in line]) == 4
    assert sorted(tmp_path.rglob("*")) == before  # no run directory of its own


def test_a_folder_without_runs_says_so(tmp_path, capsys):
    parcnet_train.run("action=watch", f"report.runs=[{tmp_path}]")
    assert capsys.readouterr().out.replace("\n", "") == f"There is no run below {tmp_path}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("report.runs=no/such",), "report.runs=no/such: this folder does not exist"),
        (("watch.port=70000",), "watch.port=70000: expected a whole number from 0 to 65535"),
        (("ckpt=x.ckpt",), "ckpt=x.ckpt: action=watch does not read it. Fix: leave it out"),
    ],
)
def test_faults_are_named(tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ConfigError) as caught:
        parcnet_train.run("action=watch", *overrides)
    assert str(caught.value).startswith(message)


class Ticks:
    """A sleep that ends the watch after some looks, as Ctrl-C does."""

    def __init__(self, monkeypatch, count):
        self.left = count
        monkeypatch.setattr(action.time, "sleep", self)

    def __call__(self, seconds):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_terminal_gets_a_live_table_until_ctrl_c(tmp_path, monkeypatch):
    plant_all(tmp_path)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, height=30, legacy_windows=False)
    monkeypatch.setattr(action, "Console", lambda: console)
    Ticks(monkeypatch, 3)
    assert parcnet_train.run("action=watch", f"report.runs={tmp_path}") == {"action": "watch"}
    assert screen.getvalue().count("5 runs below") >= 3
    assert screen.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_a_page_ends_with_ctrl_c(tmp_path, monkeypatch, capsys):
    def interrupted(site):
        raise KeyboardInterrupt

    monkeypatch.setattr(action.Site, "serve_forever", interrupted)
    overrides = ("watch.web=true", "watch.port=0", f"report.runs={tmp_path}")
    assert parcnet_train.run("action=watch", *overrides) == {"action": "watch"}
    printed = capsys.readouterr().out
    assert printed.startswith("http://127.0.0.1:")
    assert printed.endswith(f"/ shows the runs below {tmp_path.resolve()}. Ctrl-C ends it.\n")


def test_command_needs_no_torch(tmp_path):
    plant_all(tmp_path / "runs")
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "5 runs below" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


@contextlib.contextmanager
def started(command, prepare, **options):
    """Start a process, which does not outlive a failed test."""
    with subprocess.Popen(command, preexec_fn=prepare, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_ctrl_c_ends_both_commands_with_exit_code_0(tmp_path):
    plant_all(tmp_path / "runs")
    page = [sys.executable, "-m", "parcnet_train", "action=watch", "watch.web=true", "watch.port=0"]
    # A test run in the background of a shell ignores SIGINT, and so would its children.
    interruptible = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with started(
        page, interruptible, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert "http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
    leader, follower = os.openpty()
    with started(
        page[:-2],
        interruptible,
        cwd=tmp_path,
        stdout=follower,
        stderr=follower,
        stdin=subprocess.DEVNULL,
    ) as process:
        os.close(follower)
        seen = b""
        while b"5 runs below" not in seen:
            seen += os.read(leader, 2**16)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    while True:  # Linux: an error once nobody has the terminal open
        try:
            seen += os.read(leader, 2**16)
        except OSError:
            break
    os.close(leader)
    assert b"Traceback" not in seen
