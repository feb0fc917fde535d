import ctypes
import subprocess
import sys

from parcnet_train.compat.malloc import keep_freed_memory

FAULTS = """
import resource, sys
from parcnet_train.compat.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
buffers = [bytearray(64 << 20) for _ in range(2)]
del buffers
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    buffers = [bytearray(b"1") * (64 << 20) for _ in range(2)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode):
    command = [sys.executable, "-c", FAULTS, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_reused_without_page_faults():
    assert page_faults("keep") < 0.1 * page_faults("give back")


def test_other_systems_and_c_libraries_are_not_changed(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(ctypes, "CDLL")
    assert not keep_freed_memory()
