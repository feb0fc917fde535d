import pickle

import pytest
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Dataset

from parcnet_train.actions.fit import refusals
from parcnet_train.build import make
from parcnet_train.callbacks.saving import first_reason
from parcnet_train.check.config import check
from parcnet_train.data.prepare.sources import broken
from parcnet_train.errors import (
    ConfigError,
    DataError,
    Fault,
    ProcessError,
    first_line,
    message_of,
    reason_of,
)
from parcnet_train.runs.provenance import Provenance
from running import composed


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  two\n"), "two"),
        (ValueError(" \n"), "ValueError"),
        (AssertionError(), "AssertionError"),
        (MemoryError(), "MemoryError"),
        (OSError(), "OSError"),
    ],
    ids=repr,
)
def test_every_error_has_a_first_line(error, line):
    assert first_line(error) == line


def test_a_file_error_without_an_errno_has_a_reason():
    assert reason_of(OSError(28, "No space left on device")) == "No space left on device"
    assert reason_of(OSError("image file is truncated")) == "image file is truncated"
    assert reason_of(OSError()) == first_reason(OSError()) == "OSError"


def silent(**arguments):
    """Raise an error without a message."""
    raise AssertionError


def test_an_error_without_a_message_is_reported_by_its_class(caplog):
    with pytest.raises(ConfigError, match=r"silent: AssertionError$"):
        make({"_target_": f"{__name__}.silent"})
    with pytest.raises(ConfigError, match="MisconfigurationException"), refusals(None):
        raise MisconfigurationException
    assert "EOFError" in str(broken("file.tar", EOFError()))
    provenance = Provenance(composed(), 1)
    with provenance.harmless():
        raise NotImplementedError
    assert "NotImplementedError" in caplog.text


def test_check_reports_a_network_that_raises_without_a_message(monkeypatch):
    config = composed()
    monkeypatch.setattr("parcnet_train.models.backbones.parcnet.ParCNet.forward", silent_forward)
    (fault,) = check(config)
    assert "recipe.image_size=32" in fault.message
    assert "NotImplementedError" in fault.message


def silent_forward(self, images):
    raise NotImplementedError


class Broken(Dataset):
    def __init__(self, cause, message):
        self.cause, self.message = cause, message

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise DataError(self.message) from self.cause


@pytest.mark.parametrize("cause", [None, DataError("another: DataError: of before")], ids=str)
@pytest.mark.parametrize(
    "message",
    [
        "a.png cannot be read",
        "DataError: photos/DataError: 1.png cannot be read (ValueError: x)",
        "two\nlines, of which one holds parcnet_train.errors.DataError: x",
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork")
def test_text_added_by_a_data_loader_worker_is_removed(message, cause):
    assert message_of(DataError(message)) == message
    with pytest.raises(DataError) as raised:
        next(iter(DataLoader(Broken(cause, message), num_workers=1)))
    assert str(raised.value) != message
    assert message_of(raised.value) == message


def test_a_message_that_mentions_a_caught_error_is_not_cut():
    message = "Caught DataError in the act: DataError: x"
    assert message_of(DataError(message)) == message


def test_messages_show_characters_that_a_terminal_would_not_print():
    error = DataError("a\tb \x1b[31m \ud800 é 🐈\nsecond line")
    assert str(error) == "a\\tb \\x1b[31m \\ud800 é 🐈\nsecond line"
    assert [fault.message for fault in ConfigError("x\0").faults] == ["x\0"]
    assert str(ConfigError("x\0")) == "x\\x00"


@pytest.mark.parametrize("error", [ConfigError([Fault("seed", "seed=-1")]), ProcessError(2, 137)])
def test_errors_survive_the_way_to_another_process(error):
    """Launchers return the error of a job to the command that has started it."""
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied)) == (type(error), str(error))
    assert copied.__dict__ == error.__dict__
