"""HTML pages in one file: a skeleton with its style, and the templates that extend it."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

SKELETON = "parcnet_train.visualize"  # package of `skeleton.html.jinja`


@cache
def environment(package: str) -> Environment:
    """Return the templates of a package, which may extend `skeleton.html.jinja`."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader(SKELETON, ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["data_url"] = data_url
    return found


def data_url(picture: bytes, kind: str = "image/jpeg") -> str:
    """Return a file as the address of a picture, so that a page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def render(package: str, template: str, **values: Any) -> bytes:
    """Return a page as the content of a file.

    Args:
        package: Package that contains the template.
        template: File name of the template.
        **values: Values that the template uses.
    """
    return environment(package).get_template(template).render(**values).encode()
