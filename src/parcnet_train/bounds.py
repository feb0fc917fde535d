"""Types of configuration values, with their bounds.

Constructors are annotated with them. A JSON Schema is made from the annotations, and configurations
are checked against it (`config/schema.py`), so each bound is defined only once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt, MinLen


class Keywords:
    """JSON Schema keywords of a type, beside those of its bounds.

    `expected` replaces the description of the bounds in messages; `ascending` requires the numbers
    of a list to be in ascending order.

    Args:
        **keywords: Keywords and their values.
    """

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Mapping[str, Any]:
        """Return the JSON Schema of a type with this annotation; pydantic calls this method."""
        return {**handler(core), **self.keywords}


Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Ge(0), Lt(1)]
PositiveShare = Annotated[float, Gt(0), Le(1)]
UpTo10 = Annotated[float, Gt(0), Le(10)]
UpTo100 = Annotated[float, Gt(0), Le(100)]

Percentile = Annotated[float, Gt(50), Lt(100)]

Count = Annotated[int, Ge(1)]
# From the oldest one that int8 with a scale per channel needs to the newest of torch's exporter.
Opset = Annotated[int, Ge(13), Le(20)]
AtLeast100 = Annotated[int, Ge(100)]
Whole = Annotated[int, Ge(0)]
Odd = Annotated[
    int, Ge(1), Keywords(expected="an odd number of at least 1", **{"not": {"multipleOf": 2}})
]
BatchSize = Annotated[
    int,
    Ge(2),
    Keywords(expected="a whole number of at least 2, since BatchNorm needs more than one image"),
]
# As many as OpenCV decodes.
MaxPixels = Annotated[
    int,
    Ge(1),
    Le(2**30),
    Keywords(expected="a whole number of pixels from 1 to 2^30, as many as OpenCV decodes"),
]
# As many as OpenCV resizes.
Channels = Annotated[
    int, Ge(1), Le(128), Keywords(expected="a whole number of channels from 1 to 128")
]
# Limited because all images are drawn into one picture in memory.
PictureCount = Annotated[int, Ge(0), Le(1000)]

Pixels = Annotated[
    Count | tuple[Count, Count],
    Keywords(expected="a positive number of pixels, or [height, width]"),
]
ShareRange = Annotated[tuple[PositiveShare, PositiveShare], Keywords(ascending=True)]
PositiveRange = Annotated[tuple[Positive, Positive], Keywords(ascending=True)]
Range10 = Annotated[tuple[UpTo10, UpTo10], Keywords(ascending=True)]

Text = Annotated[str, MinLen(1)]
Words = list[str]
Each = Keywords(uniqueItems=True)  # for a list without duplicates
# 0 lets the system choose one.
Port = Annotated[
    int,
    Ge(0),
    Le(65535),
    Keywords(expected="a whole number from 0 to 65535, where 0 is any free port"),
]
