"""The files for operators: each renders whole, and the sample in deploy/ is what its template renders."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template as Text

import pytest

from trishula_router.templates import SAMPLE, TEMPLATES, VALUES, Template, render

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
by_name = pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)


def test_each_file_of_the_folder_is_listed() -> None:
    there = {entry.name for entry in files("trishula_router.templates").iterdir() if entry.is_file()}
    assert {name for name in there if not name.endswith(".py")} == {template.name for template in TEMPLATES}
    assert set(SAMPLE) == set(VALUES)
    assert len({template.target for template in TEMPLATES}) == len(TEMPLATES)


@by_name
def test_it_names_what_there_is_and_nothing_is_left_over(template: Template) -> None:
    text = Text((files("trishula_router.templates") / template.name).read_text())
    assert text.is_valid()
    assert set(text.get_identifiers()) <= set(VALUES)
    # Whatever dollars stay are those of the file's own language, each written twice.
    marked = render(template, {name: f"<{name}>" for name in VALUES})
    assert all(f"<{name}>" in marked for name in text.get_identifiers())


@by_name
def test_the_sample_is_what_the_template_renders(template: Template) -> None:
    rendered = render(template, SAMPLE)
    assert rendered == (DEPLOY / template.sample).read_text(), f"write it anew: {template.sample}"
