"""Errors of users at the front of a command."""

import pytest

from parcnet_train.distributed.user_errors import user_errors


def test_ctrl_c_in_any_action_is_one_word_and_the_code_of_shells(capsys):
    with pytest.raises(SystemExit) as caught, user_errors():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
