import collections
import itertools

import pytest
from lightning_fabric.utilities.data import _set_sampler_epoch
from torch.utils.data import DataLoader

from parcnet_train.data.samplers import EpochBatchSampler, SampleKey


def indices(sampler):
    return [[key.sample for key in batch] for batch in sampler]


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def ranks(length, batch_size, world_size, train, epoch=0):
    samplers = [
        EpochBatchSampler(length, batch_size, 1, train, r, world_size) for r in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed, epochs):
        sampler = EpochBatchSampler(50, 8, seed, train=True)
        for epoch in epochs:
            sampler.set_epoch(epoch)
            batches = indices(sampler)
        return batches

    assert order(3, [5]) == order(3, [0, 1, 5, 5])
    assert order(3, [5]) != order(3, [4])
    assert order(3, [5]) != order(4, [5])
    assert order(3, [4]) != order(4, [3])


def test_order_is_not_that_of_the_data_set():
    assert flat(indices(EpochBatchSampler(64, 8, 0, train=True))) != list(range(64))


def test_every_position_has_every_sample_equally_often():
    firsts = collections.Counter()
    sampler = EpochBatchSampler(4, 1, 0, train=True)
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        firsts[next(iter(sampler))[0].sample] += 1
    # Binomial: 500 expected, standard deviation 19.4; five of them.
    assert all(abs(firsts[index] - 500) < 97 for index in range(4))


def test_keys_carry_the_epoch():
    sampler = EpochBatchSampler(5, 2, 0, train=True)
    sampler.set_epoch(7)
    assert {key.epoch for batch in sampler for key in batch} == {7}
    assert all(isinstance(key, SampleKey) for batch in sampler for key in batch)
    assert all(type(key.sample) is int for batch in sampler for key in batch)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 23, 24])
def test_training_sees_every_sample_in_full_batches(length):
    sampler = EpochBatchSampler(length, 8, 0, train=True)
    batches = indices(sampler)
    assert {len(batch) for batch in batches} == {8}
    assert set(flat(batches)) == set(range(length))
    assert len(batches) == len(sampler) == -(-length // 8)


def test_the_last_batch_is_topped_up_from_the_beginning_of_the_order():
    order = flat(indices(EpochBatchSampler(10, 4, 0, train=True)))
    assert sorted(order[:10]) == list(range(10))
    assert order[10:] == order[:2]


def test_a_data_set_smaller_than_a_batch_wraps_more_than_once():
    (batch,) = indices(EpochBatchSampler(3, 8, 0, train=True))
    assert sorted(batch[:3]) == [0, 1, 2]
    assert batch == (batch[:3] * 3)[:8]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_training_ranks_are_disjoint_and_together_complete(world_size):
    seen = flat(flat(indices(s)) for s in ranks(24, 4, world_size, train=True, epoch=2))
    assert sorted(seen) == list(range(24))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_training_ranks_share_the_topping_up(world_size):
    length, batch_size = 23, 4
    samplers = ranks(length, batch_size, world_size, train=True)
    batches = [indices(sampler) for sampler in samplers]
    assert len({len(of_rank) for of_rank in batches}) == 1
    assert {len(batch) for of_rank in batches for batch in of_rank} == {batch_size}
    counts = collections.Counter(flat(flat(batches)))
    assert set(counts) == set(range(length))
    assert max(counts.values()) <= 2
    assert sum(counts.values()) - length <= batch_size * world_size - 1


@pytest.mark.parametrize("world_size", [2, 3])
def test_training_ranks_divide_the_batches_of_one_order(world_size):
    single = indices(EpochBatchSampler(24, 4 * world_size, 1, train=True))
    divided = zip(*map(indices, ranks(24, 4, world_size, train=True)), strict=True)
    assert [set(batch) for batch in single] == [set(flat(batches)) for batches in divided]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 13, 31, 36])
def test_evaluation_sees_every_sample_exactly_once(length, world_size):
    samplers = ranks(length, 5, world_size, train=False)
    batches = [indices(sampler) for sampler in samplers]
    assert sorted(flat(flat(batches))) == list(range(length))
    assert [len(of_rank) for of_rank in batches] == [len(sampler) for sampler in samplers]
    assert all(len(batch) == 5 for of_rank in batches for batch in of_rank[:-1])
    assert all(batch for of_rank in batches for batch in of_rank)


def test_evaluation_keeps_the_order_of_the_data_set_in_every_epoch():
    sampler = EpochBatchSampler(7, 3, 0, train=False)
    sampler.set_epoch(4)
    assert indices(sampler) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_length_is_the_number_of_batches(train, world_size):
    for length, batch_size in itertools.product(range(1, 30), (1, 4, 7)):
        for sampler in ranks(length, batch_size, world_size, train):
            assert len(sampler) == len(list(sampler))


def test_lightning_sets_the_epoch_through_the_loader():
    sampler = EpochBatchSampler(6, 2, 0, train=True)
    loader = DataLoader(range(6), batch_sampler=sampler, collate_fn=list)
    _set_sampler_epoch(loader, 3)
    assert sampler.epoch == 3
    expected = EpochBatchSampler(6, 2, 0, train=True)
    expected.set_epoch(3)
    assert list(loader.batch_sampler) == list(expected)
