"""Folders as a latency benchmark leaves them, with a made-up runtime in place of ONNX Runtime."""

from parcnet_train.deploy.standalone.write import write_timer

# Found before the installed one, since it lies beside the script. The words of a file say what its
# network does.
RUNTIME = """
import os, time
import numpy as np

print("a runtime that talks")

class GraphOptimizationLevel:
    ORT_ENABLE_ALL = 0

class SessionOptions:
    pass

class Output:
    name = "logits"

class InferenceSession:
    def __init__(self, path, options, providers):
        with open(path) as file:
            self.words = file.read().split()
        self.runs = 0
        if "broken" in self.words:
            raise ValueError("\\n  no such operator\\nin line 3")
        if "large" in self.words:
            self.weights = np.ones(8_000_000)  # 64 MB

    def get_outputs(self):
        return [Output]

    def run(self, names, inputs):
        print("a runtime that talks")
        self.runs += 1
        if "bytes" in self.words:
            raise ValueError("expected uint8")
        if "waits" in self.words:
            with open("waiting", "w") as file:
                file.write(str(os.getpid()))
            time.sleep(600)
        if "tires" in self.words and self.runs > 2:
            os.kill(os.getpid(), 9)
        if "dies" in self.words:
            os.kill(os.getpid(), 9)
        (images,) = inputs.values()
        threads = int(os.environ["OMP_NUM_THREADS"])
        return [np.array([[os.getpid(), threads, images.sum()]], np.float64)]
"""


def make_bundle(folder, **files):
    """Write the script, the runtime, and files by name with their words."""
    (folder / "onnxruntime.py").write_text(RUNTIME)
    paths = {name: folder / f"{name}-8x16.onnx" for name in files}
    for name, words in files.items():
        paths[name].write_text(words)
    return write_timer(folder), paths
