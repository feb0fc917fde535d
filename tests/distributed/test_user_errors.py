"""Handling of user errors in a command."""

import pytest

from parcnet_train.distributed.user_errors import user_errors


def test_ctrl_c_prints_one_word_and_exits_with_130(capsys):
    with pytest.raises(SystemExit) as caught, user_errors():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
