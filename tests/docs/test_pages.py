"""Pages: bundle pages are short, links lead somewhere, and the modules, classes and files that pages name exist."""

from __future__ import annotations

import importlib
import re

import pytest
from monai.bundle import ConfigParser

from tests.fixtures import REPOSITORY

PATTERNS = ("*.md", "docs/**/*.md", "bundles/*/docs/*.md")
PAGES = sorted(str(path.relative_to(REPOSITORY)) for pattern in PATTERNS for path in REPOSITORY.glob(pattern))
BUNDLES = sorted(path.parent.name for path in (REPOSITORY / "bundles").glob("*/configs"))
HEADINGS = ["Intended use", "Data", "Training configuration", "Input", "Output", "Performance"]
HEADINGS += ["MONAI Bundle Commands", "References", "License"]
MODULES = re.compile(r"\b(?:scripts|common)\.[a-z]\w*(?:\.\w+)+|(?<=-m )common\.\w+")
IMPORTS = re.compile(r"^from (common[\w.]*) import ([\w, ]+)$", re.MULTILINE)
FILES = re.compile(r"(?<![\w/])((?:bundles|common|tests|benchmarks)/[\w/]+\.(?:json|py|md))")
# What a page calls configs/x.json is a config of the bundle that it is about.
BUNDLE_OF = re.compile(r"bundles/(\w+)/docs/|docs/studies/(\w+?)(?:_choices)?\.md")


def text_of(page):
    return (REPOSITORY / page).read_text()


def prose_of(page):
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def anchors_of(page):
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exists(name):
    """Whether the longest module of a dotted name can be imported and has the rest as attributes."""
    name = re.sub(r"^scripts\.", "common.", name)  # a bundle sees the package as scripts
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute, None)
        return found is not None
    return False


@pytest.mark.parametrize("bundle", BUNDLES)
def test_bundle_pages_are_short_and_have_the_headings_of_the_model_zoo(bundle):
    page = f"bundles/{bundle}/docs/README.md"
    lines = text_of(page).splitlines()
    assert lines[0] == "# Model Overview"
    assert len(lines) <= 130
    assert any("monai.bundle run" in line for line in lines[:30])
    headings = re.findall(r"^##+ (.+)$", text_of(page), re.MULTILINE)
    assert [name for name in HEADINGS if not any(heading.startswith(name) for heading in headings)] == []
    assert [line for line in prose_of(page).splitlines() if not line.startswith("|") and len(line) > 170] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = ((REPOSITORY / page).parent / path).resolve() if path else REPOSITORY / page
        if not target.exists() or (anchor and anchor not in anchors_of(target.relative_to(REPOSITORY))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_what_pages_name_exists(page):
    text = text_of(page)
    names = set(MODULES.findall(text))
    names |= {f"{module}.{name}" for module, line in IMPORTS.findall(text) for name in line.split(", ")}
    assert [name for name in sorted(names) if not exists(name)] == []
    files = FILES.findall(text)
    if about := BUNDLE_OF.match(page):
        files += [f"bundles/{about[1] or about[2]}/{name}" for name in re.findall(r"(?<![\w/])configs/\w+\.json", text)]
    assert [name for name in files if not (REPOSITORY / name).is_file()] == []


@pytest.mark.parametrize("bundle", BUNDLES)
def test_commands_of_bundle_pages_set_keys_of_their_configs(bundle):
    root = REPOSITORY / "bundles" / bundle
    commands = re.findall(r"^.*-m monai\.bundle run .*$", text_of(f"bundles/{bundle}/docs/README.md"), re.MULTILINE)
    assert len(commands) > 4
    for command in commands:
        names = re.findall(r"configs/\w+\.json", command)
        content = ConfigParser.load_config_files([str(root / name) for name in names])
        known = {key.split("#")[0] for key in content} | {"config_file"}
        given = re.findall(r"--([a-z]\w*)", command.partition(" run ")[2])
        assert [key for key in given if key not in known] == [], command


def test_the_code_still_says_the_messages_of_the_page_of_troubles():
    source = "".join(path.read_text() for path in (REPOSITORY / "common").rglob("*.py"))
    messages = re.findall(r"^\| `([^`]+)` \|", text_of("docs/how-to/troubleshooting.md"), re.MULTILINE)
    assert len(messages) >= 20
    assert [message for message in messages if message not in source] == []
