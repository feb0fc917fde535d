"""Check of `recipe.augmentation.extra`: each transform is built, and tried on a small image."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

import albumentations
import numpy as np

from parcnet_train.build import height_and_width, image_channels, make
from parcnet_train.config.generate import schema_of
from parcnet_train.config.schema import faults_of_arguments
from parcnet_train.data.extra import ExtraTransforms, Transform, single_transforms
from parcnet_train.errors import ConfigError, Fault, first_line
from parcnet_train.runs.actions import ACTIONS
from parcnet_train.targets import locate

Config = dict[str, Any]

KEY = "recipe.augmentation.extra"
EXAMPLE = "{_target_: albumentations.GaussNoise, p: 0.2}"
TRIALS = 4  # a transform may draw whether it changes the size


def wrong_extra(config: Config) -> Iterator[Fault]:
    """Report transforms that do not exist, refuse their arguments, or change the image's shape."""
    if not ACTIONS[config["action"]].trains:
        return
    nodes = config["recipe"]["augmentation"].get("extra") or []
    faults = list(wrong_nodes(nodes, KEY))
    yield from faults
    if not faults:
        for number, node in enumerate(nodes):
            yield from wrong_transform(node, f"{KEY}[{number}]", config)


def wrong_nodes(nodes: Sequence[Any], key: str) -> Iterator[Fault]:
    """Report transforms, also those within a choice, that are unknown or have a wrong argument."""
    for number, node in enumerate(nodes):
        place = f"{key}[{number}]"
        if not isinstance(node, Mapping) or "_target_" not in node:
            yield Fault(place, f"{place}={node}: expected a transform such as {EXAMPLE}")
            continue
        name, target = node["_target_"], locate(node)
        if target is None:
            yield Fault(place, f"{place}._target_={name}: this class or function does not exist")
        elif not (inspect.isclass(target) and issubclass(target, Transform)):
            yield Fault(
                place,
                f"{place}._target_={name}: it is not a transform of albumentations; expected one "
                f"such as {EXAMPLE}",
            )
        else:
            yield from faults_of_arguments(place, dict(node), {}, arguments_of, ())
            if isinstance(inner := node.get("transforms"), list):
                yield from wrong_nodes(inner, f"{place}.transforms")


def arguments_of(name: str) -> Mapping[str, Any]:
    """Return the schema of the arguments of a transform."""
    return schema_of(locate({"_target_": name}), name)


def wrong_transform(node: Mapping[str, Any], place: str, config: Config) -> Iterator[Fault]:
    """Report a transform that cannot be built, or that fails on an image of the network's size.

    Every member of a choice of one is tried, however rarely it is drawn.
    """
    name = node["_target_"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of an argument without effect
            transform: Any = make(dict(node))
    except (ConfigError, UserWarning) as error:
        yield Fault(place, f"{place}: {reason(error, name)}")
        return
    for each in (transform, *single_transforms([transform])):
        each.p = 1.0
    try:
        for chain in (*chains(transform), [transform]):
            try_out(chain, config)
    except ConfigError as error:
        yield Fault(place, f"{place}: {first_line(error).removeprefix(f'{KEY}: ')}")
    except Exception as error:  # whatever a transform raises is about its arguments
        yield Fault(place, f"{place}: {name} fails on an image: {first_line(error)}")


def chains(transform: Any) -> list[list[Any]]:
    """Return chains of transforms in which every member of a choice of one comes at least once.

    Other compositions are links as a whole: their members depend on each other, or see only a part
    of the image, as those of `SelectiveChannelTransform`.
    """
    if is_choice(transform):
        return list(itertools.chain(*map(chains, transform.transforms)))
    if not isinstance(transform, albumentations.Sequential | albumentations.Compose):
        return [[transform]]
    # The members of a sequence are used together: one may crop what an earlier one has padded.
    members = [found for found in map(chains, transform.transforms) if found]
    longest = max(map(len, members), default=0)
    return [
        list(itertools.chain(*(each[number % len(each)] for each in members)))
        for number in range(longest)
    ]


def is_choice(transform: Any) -> bool:
    """Return whether a transform is a composition that applies one of its members."""
    if isinstance(transform, albumentations.SomeOf):
        return bool(transform.n == 1)
    return isinstance(transform, albumentations.OneOf | albumentations.OneOrOther)


def try_out(transforms: Sequence[Transform], config: Config) -> None:
    """Apply transforms in a row, as the task does, to noise of the size of the network's input."""
    extra = ExtraTransforms(transforms, config["choices"]["task"] == "detection")
    height, width = height_and_width(config["recipe"]["image_size"])
    noise = np.random.default_rng(0).integers(
        0, 256, (height, width, image_channels(config)), np.uint8
    )
    for seed in range(TRIALS):
        random = Random(seed)
        if config["choices"]["task"] == "segmentation":
            extra.with_mask(noise.copy(), noise[..., 0].copy(), random)
        else:
            box = np.array([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]])
            extra.with_boxes(noise.copy(), box, np.array([1]), random)


def reason(error: Exception, name: str) -> str:
    """Return why a transform cannot be built, in one line; pydantic's message has several."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    lines = [line.partition(" [type=")[0] for line in lines if "further information" not in line]
    words = ": ".join(lines[1:] if len(lines) > 1 else lines)
    cause = getattr(error.__cause__, "__cause__", None)
    if cause is not None and len(lines) == 1:
        return reason(cause, name)
    return f"{name}: {words}"
