"""Files of torch.export are checked before torch opens them, and nothing in them is executed."""

import contextlib
import io
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from parcnet_train.deploy.formats.exported_program import ProgramFile
from parcnet_train.deploy.formats.operator_counts import count_program
from parcnet_train.deploy.programs import ProgramError, is_arithmetic, read_program
from parcnet_train.deploy.standalone.workers import Worker, WorkerError
from parcnet_train.deploy.standalone.write import write_timer
from parcnet_train.errors import ExportError

PLANTED = "executed"  # folder that executed code would make
MAKE = f"getattr(__import__('os'), 'mkdir')({PLANTED!r})"
MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
EXAMPLE = "data/sample_inputs/model.pt"
OLD_WEIGHTS = "data/weights/model.pt"  # of files that older versions of torch wrote
WEIGHT = "0.weight"


class Call:
    """Pickled as a call that makes a folder."""

    def __reduce__(self):
        return os.mkdir, (PLANTED,)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def content():
    """Entries of a file as `write_program` writes it, of a small network with a free batch."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Flatten()).eval()
    batch = {"input": {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(network, (torch.zeros(2, 3, 4, 4),), dynamic_shapes=batch)
    buffer = io.BytesIO()
    words = {"description.json": '{"outputs": ["logits"], "task": "classification"}'}
    torch.export.save(program, buffer, extra_files=words)
    with zipfile.ZipFile(buffer) as archive:
        entries = {each: archive.read(each) for each in archive.namelist()}
    return {name.partition("/")[2]: text for name, text in entries.items()}


@pytest.fixture
def entries(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return dict(content)


def write(entries, compression=zipfile.ZIP_STORED):
    path = Path("planted.pt2")
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, text in entries.items():
            archive.writestr(f"archive/{name}", text)
    return path


def edited(entries, name, change):
    """Change the JSON of an entry: `change` gets it and may return another one."""
    settings = json.loads(entries[name])
    entries[name] = json.dumps(change(settings) or settings).encode()


def pickled_weight(entries):
    entries["data/weights/weight_0"] = saved(Call())
    edited(entries, WEIGHTS, lambda each: each["config"][WEIGHT].update(use_pickle=True))


def pickled_weight_by_another_flag(entries):
    entries["data/weights/weight_0"] = saved(Call())
    edited(entries, WEIGHTS, lambda each: each["config"][WEIGHT].update(use_pickle="yes"))


def constant(entries, file, text, is_pickled=False):
    entries[f"data/constants/{file}"] = text
    settings = {"path_name": file, "is_param": False, "use_pickle": is_pickled}
    edited(entries, CONSTANTS, lambda each: {"config": {"a": {**settings, "tensor_meta": None}}})


def pickled_constant(entries):
    constant(entries, "tensor_0", saved(Call()), True)


def opaque_constant(entries):
    # The flag keeps torch from reading the entry as numbers first.
    constant(entries, "opaque_obj_0", pickle.dumps(Call()), True)


def old_weights(entries):
    entries[OLD_WEIGHTS] = saved({"a": Call()})


def old_constants(entries):
    entries["data/constants/model.pt"] = saved({"a": Call()})


def sample_inputs(entries):
    entries[EXAMPLE] = saved(((Call(),), {}))


def second_program(entries):
    for name in (MODEL, WEIGHTS, CONSTANTS):
        entries[name.replace("model", "other").replace("others", "models")] = entries[name]
    entries["data/sample_inputs/other.pt"] = saved(((Call(),), {}))


def graph_of(program):
    return program["graph_module"]["graph"]


def expression(entries):
    def change(program):
        for tensor in graph_of(program)["tensor_values"].values():
            for size in tensor["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = MAKE

    edited(entries, MODEL, change)


def function(entries):
    def change(program):
        node = graph_of(program)["nodes"][0]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "", "arg": {"as_string": f"touch {PLANTED}"}, "kind": 1}]

    edited(entries, MODEL, change)


def operator_with_a_file(entries):
    def change(program):
        node = graph_of(program)["nodes"][0]
        node["target"] = "torch.ops.aten.from_file.default"
        values = {"filename": {"as_string": PLANTED}, "shared": {"as_bool": True}}
        values["size"] = {"as_int": 64}
        node["inputs"] = [{"name": k, "arg": v, "kind": 1} for k, v in values.items()]

    edited(entries, MODEL, change)


def node_name(entries):
    """Let the Python code of the program have a default value in its first line."""
    name = f"x={MAKE}"

    def change(program):
        graph = graph_of(program)
        graph["inputs"].append({"as_tensor": {"name": name}})
        graph["tensor_values"][name] = next(iter(graph["tensor_values"].values()))
        spec = {"user_input": {"arg": {"as_tensor": {"name": name}}}}
        program["graph_module"]["signature"]["input_specs"].append(spec)

    edited(entries, MODEL, change)


def weight_name(entries):
    name = f'x", {MAKE}, "'
    text = entries[MODEL].decode().replace(f'"{WEIGHT}"', json.dumps(name))
    entries[MODEL] = text.encode()
    text = entries[WEIGHTS].decode().replace(f'"{WEIGHT}"', json.dumps(name))
    entries[WEIGHTS] = text.encode()


def signature_of(program):
    return program["graph_module"]["module_call_graph"][0]["signature"]


def argument_name(entries):
    def change(program):
        signature_of(program)["forward_arg_names"] = [f"x={MAKE}"]

    edited(entries, MODEL, change)


def guard(entries):
    edited(entries, MODEL, lambda program: program.update(guards_code=[MAKE]))


def imported_module(entries):
    Path("planted_module.py").write_text(MAKE)
    context = {"default_factory_module": "planted_module", "default_factory_name": "a"}
    node = {"type": "collections.defaultdict", "context": {**context, "dict_context": []}}

    def change(program):
        signature_of(program)["out_spec"] = json.dumps([1, node | {"children_spec": []}])

    edited(entries, MODEL, change)


def imported_enum(entries):
    Path("planted_module.py").write_text(MAKE)
    context = {"__enum__": True, "fqn": "planted_module:A", "name": "a"}
    node = {"type": "builtins.dict", "context": json.dumps(context), "children_spec": []}

    def change(program):
        signature_of(program)["in_spec"] = json.dumps([1, node])

    edited(entries, MODEL, change)


# Changes whose code torch 2.13 executes, and what the message names.
EXECUTED = {
    pickled_weight: "a tensor that is pickled",
    pickled_weight_by_another_flag: "a tensor that is pickled",
    pickled_constant: "a tensor that is pickled",
    opaque_constant: "a tensor that is pickled",
    old_weights: OLD_WEIGHTS,
    old_constants: "data/constants/model.pt",
    second_program: "models/other.json",
    expression: "expr_str=",
    operator_with_a_file: "target='torch.ops.aten.from_file.default'",
    node_name: "x=getattr",
    weight_name: "getattr",
    guard: "guards_code=",
    imported_module: "out_spec=",
    imported_enum: "in_spec=",
}
# Changes that other checks of torch 2.13 happen to stop.
STOPPED = {function: "target='torch.os.system'", argument_name: "forward_arg_names="}
# Entries that this package never writes.
FOREIGN = (
    "data/aotinductor/model/a.so",
    "data/aotinductor/model/a.cpp",
    "data/constants/custom_obj_0",
    "data/constants/opaque_obj_0",
    "data/executorch/a.pte",
    "data/weights/WEIGHT_0",
    "data/weights/../weight_0",
    "extra/other",
    "version",
    "",
)


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="as found in torch 2.13")
@pytest.mark.parametrize(
    "plant",
    [
        sample_inputs,
        pickled_weight,
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in EXECUTED
            if each != pickled_weight
        ),
    ],
)
def test_torch_executes_what_is_planted(plant, entries, monkeypatch):
    """Otherwise, the tests below would show nothing."""
    monkeypatch.syspath_prepend(Path.cwd())
    plant(entries)
    path = write(entries)
    with contextlib.suppress(Exception):
        torch.export.load(path).module()(torch.zeros(2, 3, 4, 4))
    sys.modules.pop("planted_module", None)
    assert Path(PLANTED).exists()


@pytest.mark.parametrize("plant", [*EXECUTED, *STOPPED])
def test_planted_code_is_refused_by_name_and_not_executed(plant, entries, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    plant(entries)
    with pytest.raises(ProgramError) as caught:
        read_program(write(entries))
    assert (EXECUTED | STOPPED)[plant] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path(PLANTED).exists()
    assert "planted_module" not in sys.modules


def test_pickled_inputs_are_left_out(entries):
    sample_inputs(entries)
    program = read_program(write(entries))
    assert program.example_inputs is None
    assert not Path(PLANTED).exists()
    assert program.module()(torch.zeros(3, 3, 4, 4)).shape == (3, 32)
    with pytest.raises(RuntimeError, match=r"shape\[2\] to be equal to 4, but got 5"):
        program.module()(torch.zeros(3, 3, 5, 4))


def test_outputs_and_texts_are_those_of_torch(entries):
    path, images = write(entries), torch.rand(5, 3, 4, 4)
    texts = {"description.json": ""}
    found = read_program(path, texts).module()(images)
    torch.testing.assert_close(found, torch.export.load(path).module()(images), rtol=0, atol=0)
    assert json.loads(texts["description.json"])["outputs"] == ["logits"]


class Masks(nn.Module):
    """Operators whose arguments or names are unusual in JSON."""

    def forward(self, x):
        masked = x.masked_fill((x > 0) & (x < 1), -torch.inf)
        return nn.functional.gelu(masked.softmax(0), approximate="tanh")


def test_infinities_words_and_operators_with_underscores_are_allowed(tmp_path):
    images = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.25, -2.0]])  # no column has only infinities
    torch.export.save(torch.export.export(Masks(), (images,)), tmp_path / "a.pt2")
    found = read_program(tmp_path / "a.pt2").module()(images)
    torch.testing.assert_close(found, Masks()(images))


def test_names_of_modules_lead_nowhere_else(entries):
    entries[MODEL] = entries[MODEL].replace(b'"0.weight"', b'"0.__class__.weight"')
    with pytest.raises(ProgramError, match=r"parameter_name='0\.__class__\.weight'"):
        read_program(write(entries))


@pytest.mark.parametrize("name", FOREIGN)
def test_other_entries_are_refused(name, entries):
    entries[name] = b""
    with pytest.raises(ProgramError, match="has the entry"):
        read_program(write(entries))


def test_files_of_old_versions_are_refused(entries):
    """These have no folder, and their weights are pickled."""
    path = Path("old.pt2")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_exported_program.json", entries[MODEL])
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", saved(Call()))
    with pytest.raises(ProgramError, match="'version'"):
        read_program(path)
    assert not Path(PLANTED).exists()


def test_an_entry_twice_is_refused(entries):
    path = write(entries)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"archive/{MODEL}", entries[MODEL])
    with pytest.raises(ProgramError, match=r"models/model\.json.*each once"):
        read_program(path)


def test_compressed_entries_are_refused(entries):
    """A few kilobytes could fill the memory."""
    with pytest.raises(ProgramError, match="uncompressed"):
        read_program(write(entries, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000])
def test_damaged_settings_are_named(text, entries):
    entries[WEIGHTS] = text
    with pytest.raises(ProgramError, match=f"{WEIGHTS} is damaged"):
        read_program(write(entries))


@pytest.mark.parametrize("spec", ["5", "[]", "[2, {}]", "null", "[1, [1]]", "{"])
def test_damaged_structures_are_refused(spec, entries):
    edited(entries, MODEL, lambda program: signature_of(program).update(in_spec=spec))
    with pytest.raises(ProgramError, match=MODEL):
        read_program(write(entries))


@pytest.mark.parametrize("length", [0, 1000])
def test_files_that_are_cut_are_refused(length, entries):
    path = write(entries)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ProgramError, match="damaged"):
        read_program(path)


@pytest.mark.parametrize(
    "text",
    [
        "s34",
        "Integer(4)",
        "2*s34 - 1",
        "Mul(Integer(16), Symbol('s34', positive=True, integer=True))",
        "Min(Integer(96), Mul(Integer(96), Symbol('s34', positive=True, integer=True)))",
        "Max(1, FloorDiv(s0, 2))",
    ],
)
def test_arithmetic_is_allowed(text):
    assert is_arithmetic(text)


@pytest.mark.parametrize(
    "text",
    [
        "exec('s1')",
        "Integer(4).real",
        "s0.__class__",
        "Symbol('exit()')",
        "Symbol(b's1')",
        "[s0 for s0 in (1,)]",
        "(lambda: 0)()",
        "9**9**9",
        "f's0'",
        "(s0 #\n+ 1)",
        "s0\n",
        "eval",
        "\uff45val(s0)",
        "(" * 5000 + "s0" + ")" * 5000,
        "",
    ],
)
def test_other_expressions_are_refused(text):
    assert not is_arithmetic(text)


def test_files_are_refused_wherever_they_are_opened(entries):
    opaque_constant(entries)
    path = write(entries)
    for opened in (ProgramFile, count_program):
        with pytest.raises(ExportError, match=r"planted\.pt2: data.* has .*; expected .* Fix: ex"):
            opened(path)
    assert not Path(PLANTED).exists()


def test_the_script_that_times_files_refuses_them_too(entries):
    opaque_constant(entries)
    path, images = write(entries), np.zeros((1, 3, 4, 4), np.float32)
    script, problem = write_timer(Path.cwd()), r"planted\.pt2: ProgramError: data.*; expected"
    with Worker(script, "pytorch", 1) as worker, pytest.raises(WorkerError, match=problem):
        worker.ask("open", path, images)
    assert not Path(PLANTED).exists()


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, CONSTANTS])
def test_missing_settings_are_named(name, entries):
    del entries[name]
    with pytest.raises(ProgramError, match=f"it lacks {name}"):
        read_program(write(entries))
