"""The frame of pages."""

import jinja2
import pytest

from parcnet_train.visualize.pages import SKELETON, data_url, environment, render


def test_skeleton_is_a_page_that_others_extend():
    page = render(SKELETON, "skeleton.html.jinja", title="A & B").decode()
    assert "<title>A &amp; B</title>" in page
    template = environment(SKELETON).from_string(
        '{% extends "skeleton.html.jinja" %}{% block content %}<p>{{ words }}</p>{% endblock %}'
    )
    assert "<p>&lt;b&gt;</p>" in template.render(title="", words="<b>")
    with pytest.raises(jinja2.UndefinedError):
        render(SKELETON, "skeleton.html.jinja")


def test_pictures_are_in_the_page():
    assert data_url(b"\xff\xd8") == "data:image/jpeg;base64,/9g="
