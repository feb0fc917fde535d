import collections
import itertools

import numpy as np
import pytest
from lightning_fabric.utilities.data import _set_sampler_epoch
from torch.utils.data import DataLoader

from parcnet_train.data.batches import PADDING
from parcnet_train.data.samplers import (
    EvalBatches,
    MultiScale,
    Progressive,
    SampleKey,
    TrainBatches,
)
from parcnet_train.errors import ConfigError

SIZE = (32, 32)


def indices(sampler):
    return [[key.sample for key in batch] for batch in sampler]


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def training(length, global_batch=8, seed=0, **settings):
    return TrainBatches(length, global_batch, SIZE, seed, **settings)


def ranks(length, batch_size, world_size, epoch=0, **settings):
    return [
        training(
            length,
            batch_size * world_size,
            1,
            rank=r,
            world_size=world_size,
            epoch=epoch,
            **settings,
        )
        for r in range(world_size)
    ]


def steps_of(global_batch, processes, accumulate=1, **settings):
    """Return the keys of every step of an epoch, in the order of all processes."""
    samplers = [
        TrainBatches(
            global_batch=global_batch,
            rank=rank,
            world_size=processes,
            accumulate=accumulate,
            **settings,
        )
        for rank in range(processes)
    ]
    batches = [
        [key for keys in itertools.zip_longest(*of_ranks) for key in keys if key is not None]
        for of_ranks in zip(*samplers, strict=True)
    ]
    return [flat(batches[at : at + accumulate]) for at in range(0, len(batches), accumulate)]


def evaluation(length, batch_size, world_size=1):
    return [EvalBatches(length, batch_size, SIZE, r, world_size) for r in range(world_size)]


def test_order_depends_only_on_seed_and_epoch():
    def order(seed, epochs):
        sampler = training(50, seed=seed, multi_scale=MultiScale())
        for epoch in epochs:
            sampler.set_epoch(epoch)
            batches = list(sampler)
        return batches

    assert order(3, [5]) == order(3, [0, 1, 5, 5])
    assert order(3, [5]) != order(3, [4])
    assert order(3, [5]) != order(4, [5])
    assert order(3, [4]) != order(4, [3])


def test_training_order_is_shuffled():
    assert flat(indices(training(64))) != list(range(64))


def test_every_sample_is_equally_likely_at_every_position():
    firsts = collections.Counter()
    sampler = training(4, 1)
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        firsts[next(iter(sampler))[0].sample] += 1
    # Binomial: mean 500, standard deviation 19.4; tolerance of five standard deviations.
    assert all(abs(firsts[index] - 500) < 97 for index in range(4))


def test_keys_contain_epoch_and_size():
    sampler = training(5, 2)
    sampler.set_epoch(7)
    keys = flat(sampler)
    assert {key.epoch for key in keys} == {7}
    assert {key.size for key in keys} == {SIZE}
    assert all(isinstance(key, SampleKey) and type(key.sample) is int for key in keys)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 23, 24])
def test_training_sees_every_sample_in_full_batches(length):
    sampler = training(length)
    batches = indices(sampler)
    assert {len(batch) for batch in batches} == {8}
    assert set(flat(batches)) == set(range(length))
    assert len(batches) == len(sampler) == -(-length // 8)


def test_last_batch_is_filled_from_the_beginning_of_the_order():
    order = flat(indices(training(10, 4)))
    assert sorted(order[:10]) == list(range(10))
    assert order[10:] == order[:2]


def test_data_set_smaller_than_a_batch_is_repeated():
    (batch,) = indices(training(3))
    assert sorted(batch[:3]) == [0, 1, 2]
    assert batch == (batch[:3] * 3)[:8]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_training_ranks_are_disjoint_and_complete(world_size):
    seen = flat(flat(indices(s)) for s in ranks(24, 4, world_size, epoch=2))
    assert sorted(seen) == list(range(24))


@pytest.mark.parametrize("multi_scale", [None, MultiScale(), MultiScale("balanced")])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_training_ranks_draw_the_same_sizes_and_fill_up_together(world_size, multi_scale):
    length = 211
    for epoch in range(5):
        samplers = [
            TrainBatches(
                length,
                4 * world_size,
                (256, 256),
                1,
                rank,
                world_size,
                multi_scale=multi_scale,
                epoch=epoch,
            )
            for rank in range(world_size)
        ]
        sizes = [[{key.size for key in batch} for batch in sampler] for sampler in samplers]
        assert sizes.count(sizes[0]) == world_size
        assert all(len(each) == 1 for of_rank in sizes for each in of_rank)
        counts = [list(map(len, batches)) for batches in zip(*samplers, strict=True)]
        assert all(max(each) - min(each) <= 1 for each in counts)
        of_last_step = sum(counts[-1])
        counts = collections.Counter(flat(flat(map(indices, samplers))))
        assert set(counts) == set(range(length))
        assert max(counts.values()) <= 2
        # There are fewer repetitions than samples in the last step of all processes.
        assert sum(counts.values()) - length < of_last_step


@pytest.mark.parametrize("world_size", [2, 3])
def test_training_ranks_divide_the_batches_of_one_order(world_size):
    single = indices(training(24, 4 * world_size, seed=1))
    divided = zip(*map(indices, ranks(24, 4, world_size)), strict=True)
    assert [set(batch) for batch in single] == [set(flat(batches)) for batches in divided]


# Images per process of the release, whose numbers are multiples of the number of processes.
RELEASED = {
    8: (328, 224, 128, 128, 128),
    4: (328, 228, 128, 128, 128),
    1: (327, 227, 128, 128, 128),
}


@pytest.mark.parametrize("world_size", RELEASED)
def test_released_rule_gives_the_released_batches(world_size):
    scales = MultiScale("released").scales((256, 256), 128 * world_size)
    assert [scale.size for scale in scales] == [(n, n) for n in (160, 192, 256, 288, 320)]
    # Its multiples are up to half the number of processes away, per process.
    for scale, released in zip(scales, RELEASED[world_size], strict=True):
        assert abs(scale.images / world_size - released) <= (world_size - 1) / 2


def test_balanced_rule_gives_the_batches_of_ml_cvnets():
    scales = MultiScale("balanced").scales((256, 256), 128)
    assert [scale.images for scale in scales] == [327, 227, 128, 101, 81]


def test_height_and_width_are_scaled_and_rounded_separately():
    # 80, 100, 120, 140, 160 rows and 160, 200, 240, 280, 320 columns, in multiples of 32.
    sizes = [scale.size for scale in MultiScale().scales((128, 256), 16)]
    assert sizes == [(96, 160), (96, 192), (128, 256), (128, 288), (160, 320)]


def test_sizes_are_drawn_uniformly():
    sampler = TrainBatches(100_000, 8, (256, 256), 0, multi_scale=MultiScale())
    counts = collections.Counter(scale.size for scale in sampler.plan(0).scales)
    share = np.array(list(counts.values())) / sum(counts.values())
    assert len(counts) == 5
    # Binomial, at least 5,000 draws: standard deviation 0.0057; tolerance of five.
    assert np.abs(share - 0.2).max() < 0.0285


def test_steps_per_imagenet_epoch_match_the_release():
    sampler = TrainBatches(1_281_167, 1024, (256, 256), 0, 0, 8, multi_scale=MultiScale())
    steps = [len(sampler.plan(epoch).scales) for epoch in range(50)]
    # The release has about 855 on average; simulated epochs have 846, 862 and 873.
    assert np.mean(steps) == pytest.approx(855, abs=5)


def test_length_follows_the_epoch_of_a_multi_scale_training():
    sampler = TrainBatches(500, 4, (256, 256), 0, multi_scale=MultiScale())
    lengths = set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        assert len(sampler) == len(list(sampler))
        lengths.add(len(sampler))
    assert len(lengths) > 1


def test_resumed_epoch_starts_at_its_batch_and_the_next_is_complete():
    settings = {"length": 100, "global_batch": 4, "size": (256, 256), "seed": 3}
    whole = TrainBatches(**settings, multi_scale=MultiScale(), epoch=2)
    resumed = TrainBatches(**settings, multi_scale=MultiScale(), epoch=2, first_batch=5)
    resumed.set_epoch(2)
    assert list(resumed) == list(whole)[5:]
    assert len(resumed) == len(whole)
    for sampler in (whole, resumed):
        sampler.set_epoch(3)
    assert list(resumed) == list(whole)


@pytest.mark.parametrize("world_size", [1, 2])
def test_repeated_augmentation_shows_fewer_samples_more_often(world_size):
    samplers = ranks(90, 5, world_size, repeats=3)
    keys = flat(flat(samplers))
    assert len(keys) == 90
    copies = collections.defaultdict(set)
    for key in keys:
        copies[key.sample].add(key.copy)
    assert len(copies) == 30
    assert all(each == {0, 1, 2} for each in copies.values())


def test_repeated_augmentation_fills_up_if_the_length_is_not_a_multiple():
    counts = collections.Counter(flat(indices(training(10, 5, repeats=3))))
    assert sorted(counts.values()) == [1, 3, 3, 3]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 13, 31, 36])
def test_evaluation_sees_every_sample_exactly_once_in_full_batches(length, world_size):
    batches = [indices(sampler) for sampler in evaluation(length, 5, world_size)]
    samples = [sample for sample in flat(flat(batches)) if sample != PADDING]
    assert sorted(samples) == list(range(length))
    assert {len(batch) for of_rank in batches for batch in of_rank} == {min(5, length)}
    assert len({len(of_rank) for of_rank in batches}) == 1
    assert len(batches[0]) == len(evaluation(length, 5, world_size)[0])


def test_evaluation_keeps_the_order_of_the_data_set():
    (sampler,) = evaluation(7, 3)
    assert indices(sampler) == [[0, 1, 2], [3, 4, 5], [6, PADDING, PADDING]]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_length_is_the_number_of_batches(world_size):
    for length, batch_size in itertools.product(range(1, 30), (1, 4, 7)):
        for sampler in (
            *ranks(length, batch_size, world_size),
            *evaluation(length, batch_size, world_size),
        ):
            assert len(sampler) == len(list(sampler))


def test_lightning_sets_the_epoch_through_the_loader():
    sampler = training(6, 2)
    loader = DataLoader(range(6), batch_sampler=sampler, collate_fn=list)
    _set_sampler_epoch(loader, 3)
    assert sampler.epoch == 3
    expected = training(6, 2, epoch=3)
    assert list(loader.batch_sampler) == list(expected)


def test_progressive_sizes_grow_and_stay():
    sizes = Progressive(smallest=0.5, count=3, epochs=6)
    sampler = TrainBatches(40, 8, (64, 128), 0, multi_scale=sizes)
    seen = []
    for epoch in range(8):
        sampler.set_epoch(epoch)
        keys = flat(sampler)
        assert sorted({key.sample for key in keys}) == list(range(40))  # every image
        (size,) = {key.size for key in keys}
        seen.append(size)
    # 0.5, 0.75 and 1 of 64 x 128 pixels, in multiples of 32
    assert seen == [(32, 64)] * 2 + [(64, 96)] * 2 + [(64, 128)] * 4


def test_progressive_sizes_depend_on_the_epoch_alone():
    sizes = Progressive(smallest=0.5, count=3, epochs=6)
    for epoch in (0, 3, 7):
        plans = [
            TrainBatches(64, 16, (64, 64), 0, world_size=n, multi_scale=sizes).plan(epoch)
            for n in (1, 2, 4)
        ]
        assert len({tuple(plan.starts) for plan in plans}) == 1
        assert len({tuple(each.size for each in plan.scales) for plan in plans}) == 1


PARTS = [(8, 1), (4, 1), (2, 4), (1, 8), (3, 1), (3, 2), (1, 3)]  # processes, accumulate


@pytest.mark.parametrize("draw", range(6))
def test_steps_depend_on_seed_epoch_and_global_batch_alone(draw):
    random = np.random.default_rng(draw)
    seed, epoch, length = (int(random.integers(most)) for most in (1000, 9, 400))
    rules = (
        MultiScale(("released", "balanced")[draw % 2]),
        Progressive("balanced", epochs=6),
        None,
    )
    settings = {
        "length": length + 1,
        "global_batch": 64,
        "size": (64, 64),
        "seed": seed,
        "multi_scale": rules[draw % 3],
        "repeats": 1 + draw % 2,
        "epoch": epoch,
        "labels": random.integers(5, size=length + 1) if draw > 3 else None,
    }
    whole = steps_of(processes=1, **settings)
    assert len(whole) > 0
    assert all(len({key.size for key in step}) == 1 for step in whole)
    for processes, accumulate in PARTS:
        assert steps_of(processes=processes, accumulate=accumulate, **settings) == whole


def test_one_process_keeps_the_plan_of_version_0_1():
    batches = list(TrainBatches(60, 8, (256, 256), 5, multi_scale=MultiScale(), epoch=3))
    sizes = [(len(batch), batch[0].size[0]) for batch in batches]
    assert sizes == [(14, 192), (8, 320), (8, 288), (8, 320), (8, 256), (14, 192)]
    assert [key.sample for key in batches[0]][:7] == [32, 22, 15, 34, 55, 9, 39]
    assert [key.sample for key in batches[-1]][-4:] == [46, 14, 6, 37]


def test_batches_of_a_step_differ_by_one_image_at_most():
    counts = [
        len(batch)
        for rank in range(3)
        for batch in TrainBatches(100, 20, SIZE, 0, rank, world_size=3, accumulate=2)
    ]
    assert set(counts) == {3, 4}


def test_a_step_is_found_again_with_other_batches():
    settings = {"length": 500, "global_batch": 64, "size": (64, 64), "seed": 3}
    plain = TrainBatches(**settings, multi_scale=MultiScale())
    samples = int(plain.plan(2).starts[3])
    for processes, accumulate in PARTS:
        other = TrainBatches(
            **settings, world_size=processes, accumulate=accumulate, multi_scale=MultiScale()
        )
        assert other.position_of(2, 3, samples) == 3 * accumulate
        assert other.position_of(2, 3, samples + 1) is None
        assert other.position_of(2, 300, samples) is None
    larger = TrainBatches(**{**settings, "global_batch": 96}, multi_scale=MultiScale())
    assert larger.position_of(2, 3, samples) is None


def test_a_step_with_too_few_images_is_refused():
    with pytest.raises(ConfigError, match="at least 12, one for each of 4 batches of 3 processes"):
        TrainBatches(100, 11, SIZE, 0, world_size=3, accumulate=4)


LABELS = np.repeat([0, 1, 2], [70, 20, 7])


def balanced(**settings):
    return training(len(LABELS), labels=LABELS, **settings)


def test_balanced_order_has_every_class_and_its_samples_equally_often():
    order, copies = balanced().order(3)
    seen = order[: len(LABELS)]
    assert sorted(np.bincount(LABELS[seen]).tolist()) == [32, 32, 33]
    for label in range(3):
        counts = np.bincount(seen, minlength=len(LABELS))[label == LABELS]
        assert counts.max() - counts.min() <= 1
    pairs = set(zip(seen.tolist(), copies[: len(LABELS)].tolist(), strict=True))
    assert len(pairs) == len(LABELS)  # a repeated sample gets another augmentation
    assert copies.max() == 4  # 32 or 33 of 7


def test_balanced_order_depends_only_on_seed_and_epoch():
    np.testing.assert_array_equal(balanced().order(2), balanced(epoch=2, first_batch=3).order(2))
    assert (balanced().order(2)[0] != balanced().order(3)[0]).any()
    assert (balanced().order(2)[0] != balanced(seed=1).order(2)[0]).any()


def test_processes_share_out_the_same_balanced_batches():
    two = [indices(each) for each in ranks(len(LABELS), 4, 2, labels=LABELS)]
    one = indices(training(len(LABELS), 8, 1, labels=LABELS))
    merged = [sorted(first + second) for first, second in zip(*two, strict=True)]
    assert merged == [sorted(batch) for batch in one]


def test_balanced_order_repeats_samples_as_often_as_wanted():
    order, copies = balanced(repeats=3).order(0)
    seen = list(zip(order[: len(LABELS)].tolist(), copies[: len(LABELS)].tolist(), strict=True))
    assert len(set(seen)) == len(seen)
    assert order[0] == order[1] == order[2]
    # 33 samples are shown three times, the last one once, so that the epoch keeps its length.
    assert sorted(np.bincount(LABELS[order[: len(LABELS)]]).tolist()) == [31, 33, 33]
