"""The sources of the dashboard: nothing in them makes text into markup, runs text, or stands inline in the page."""

from __future__ import annotations

import configparser
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

from trishula.cli.main import cli
from trishula.contract import uris

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "router" / "trishula_router" / "web"
MODULES = sorted(WEB.glob("*.js"))
PAGE = (WEB / "index.html").read_text(encoding="utf-8")

#: What makes text into markup or into a program; there is always another way.
FORBIDDEN = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "setHTMLUnsafe",
    "parseFromString",
    "document.write",
    "createContextualFragment",
    "srcdoc",
    "eval(",
    "Function(",
    "import(",
    'setTimeout("',
    "setTimeout('",
    "javascript:",
)


def test_there_are_modules() -> None:
    assert {"main.js", "dom.js", "bus.js", "uris.js"} <= {path.name for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.name))
def test_no_text_becomes_markup_or_a_program(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [word for word in FORBIDDEN if word in text] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.name))
def test_attributes_are_no_handlers_and_no_styles(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"""\bstyle:|["']style["']|["']on[a-z]+["']\s*:|setAttribute\(["']on""", text) == []


@pytest.mark.parametrize("path", [*MODULES, WEB / "style.css"], ids=lambda path: str(path.name))
def test_a_file_is_no_longer_than_a_module_of_ours(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


class Parts(HTMLParser):
    """The elements of the page, and the texts of scripts and styles in it."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(PAGE)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    found = []
    for tag, attributes in Parts().elements:
        found += [f"{tag} {name}" for name in attributes if name == "style" or name.startswith("on")]
        found += [tag] if tag == "style" or (tag == "script" and not attributes.get("src")) else []
        found += [f"{tag} {value}" for name in ("src", "href") if "//" in (value := attributes.get(name) or "")]
    assert found == []


def test_what_the_page_names_is_there() -> None:
    for tag, attributes in Parts().elements:
        for name in ("src", "href"):
            value = attributes.get(name)
            if value is not None and not value.startswith("#"):
                assert (WEB / value).is_file(), f"{tag} {name}={value}"


def test_what_the_modules_and_labels_name_is_in_the_page() -> None:
    ids = [attributes["id"] for _, attributes in Parts().elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {name for path in MODULES for name in re.findall(r'byId\("([^"]+)"\)', path.read_text(encoding="utf-8"))}
    for _, attributes in Parts().elements:
        for key in ("for", "list", "aria-labelledby", "aria-describedby"):
            named |= set((attributes.get(key) or "").split())
        if (href := attributes.get("href") or "").startswith("#"):
            named.add(href[1:])
    assert named - set(ids) == set()


def test_its_names_are_those_of_the_contract() -> None:
    text = (WEB / "uris.js").read_text(encoding="utf-8")
    names = dict(re.findall(r'^export const (\w+) = "([^"]+)";$', text, re.MULTILINE))
    assert len(names) == text.count("export")
    assert {name: getattr(uris, name) for name in names} == names
    for path in MODULES:
        others = re.findall(
            r'"(trishula\.(?!error\.)[a-z.]+)"', path.read_text(encoding="utf-8") if path.name != "uris.js" else ""
        )
        assert others == [], f"{path.name} spells out a name that belongs into uris.js"


def commands() -> list[str]:
    """The commands that the page tells people to run."""
    return sorted(set(re.findall(r"<code>(trishula [^<]+)</code>", PAGE)))


@pytest.mark.parametrize("text", commands())
def test_the_commands_that_it_names_are_there(text: str) -> None:
    words = text.split()[1:]
    command: click.Command = cli
    with click.Context(cli) as context:
        while isinstance(command, click.Group) and words:
            found = command.get_command(context, words.pop(0))
            assert found is not None, text
            command = found
        known = {option for each in command.get_params(context) for option in each.opts}
    assert not isinstance(command, click.Group) or command.invoke_without_command, text
    assert {word for word in words if word.startswith("-")} <= known


def test_what_is_vendored_is_what_its_note_says() -> None:
    note = (WEB / "vendor" / "README.txt").read_text(encoding="utf-8")
    (digest,) = re.findall(r"SHA-256: ([0-9a-f]{64})", note)
    assert hashlib.sha256((WEB / "vendor" / "wamp.min.js").read_bytes()).hexdigest() == digest


def test_all_files_are_packed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = [each.strip() for each in config["options.package_data"]["trishula_router"].split(",")]
    packed = {path for pattern in patterns for path in WEB.parent.glob(pattern) if path.is_file()}
    assert {path for path in WEB.rglob("*") if path.is_file()} <= packed
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    (line,) = re.findall(r"^recursive-include router (.*)$", manifest, re.MULTILINE)
    assert {f"*{path.suffix}" for path in WEB.rglob("*") if path.is_file()} <= set(line.split())
