"""scikit-learn's handwritten digits."""

from parcnet_train.data.demo.digits import read_digits


def test_no_digit_is_in_both_splits(drawn):
    train, val = (
        {sticker.digit.number for _, scene in half for sticker in scene.stickers}
        for half in drawn.values()
    )
    assert train & val == set()
    # The same split as in data=demo.
    split = {digit.number: digit.split for digit in read_digits()}
    assert {split[number] for number in train} == {"train"}
    assert {split[number] for number in val} == {"val"}
