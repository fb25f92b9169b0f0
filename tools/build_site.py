"""Build the documentation as a site in .site/html: `make docs`.

Zensical reads one folder, so README.md and docs/ are copied into one with the layout of the
repository: links need no change. Its strict mode fails on a broken link to a page or an anchor. It
ignores links to other files, so those files are copied too, and every address in the result is
checked. This runs in an environment that has zensical and nothing of the collector.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
# The order of the pages; others of the same folder follow by name.
SECTIONS = {
    "Tutorial": ["docs/tutorial.md"],
    "How-to": [
        *("docs/how-to/choose.md", "docs/how-to/own-servers.md", "docs/how-to/aws.md"),
        *("docs/how-to/airflow.md", "docs/how-to/backfill.md", "docs/how-to/tags.md"),
        *("docs/how-to/many-workers.md", "docs/how-to/tuning.md", "docs/how-to/query.md"),
        *("docs/how-to/dead-letters.md", "docs/how-to/verify.md", "docs/how-to/rehearse.md"),
    ],
    "Reference": [
        *("docs/reference/commands.md", "docs/reference/settings.md"),
        *("docs/reference/tables.md", "docs/reference/errors.md", "docs/simulator.md"),
        "docs/reference/make.md",
    ],
    "Explanation": [
        *("docs/explanation/promises.md", "docs/architecture.md", "docs/reliability.md"),
    ],
}
FOLDERS = {
    "How-to": "docs/how-to",
    "Reference": "docs/reference",
    "Explanation": "docs/explanation",
    "Decisions": "docs/decisions",
}
_LINK = re.compile(r"\]\(([^)\s#:]+)")
_PICTURES = {".png", ".svg", ".webp", ".jpg", ".gif"}


def pages(root: Path) -> list[str]:
    """Return all pages: those of the root folder, README.md first, and those of docs/."""
    top = sorted(path.name for path in root.glob("*.md"))
    below = sorted(str(path.relative_to(root)) for path in (root / "docs").rglob("*.md"))
    return ["README.md", *(name for name in top if name != "README.md"), *below]


def navigation(found: list[str]) -> list[object]:
    """Return zensical's `nav`, with every page in exactly one place."""
    sections = {title: list(names) for title, names in SECTIONS.items()}
    placed = {name for names in sections.values() for name in names}
    for title, folder in FOLDERS.items():
        rest = [it for it in found if str(Path(it).parent) == folder and it not in placed]
        sections.setdefault(title, []).extend(rest)
        placed.update(rest)
    sections["Project"] = [it for it in found if it not in placed and it != "README.md"]
    tree: list[object] = [{"Home": "README.md"}]
    return tree + [{title: names} for title, names in sections.items() if names]


def linked_files(root: Path, found: list[str]) -> set[str]:
    """Return the files of the repository that pages link to and that are no pages."""
    targets = {
        os.path.normpath(Path(name).parent / unquote(link))
        for name in found
        for link in _LINK.findall((root / name).read_text(encoding="utf-8"))
    }
    return {name for name in targets - set(found) if (root / name).is_file()}


def stage(root: Path, site: Path) -> None:
    """Copy the pages and pictures below `site`/pages and write zensical's settings beside them."""
    found = pages(root)
    copied = site / "pages"
    shutil.rmtree(copied, ignore_errors=True)
    pictures = {it for it in linked_files(root, found) if Path(it).suffix in _PICTURES}
    for name in (*found, *pictures):
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, copied / name)
    settings = [
        "[project]",
        'site_name = "draenei-collector"',
        'docs_dir = "pages"',
        'site_dir = "html"',
        f"nav = {toml(navigation(found))}",
        "[project.theme]",
        # No font is fetched from elsewhere.
        "font = false",
        'features = ["navigation.tabs", "navigation.top", "content.code.copy", "toc.follow"]',
        "[project.markdown_extensions.toc]",
        "permalink = true",
        "[project.markdown_extensions.tables]",
        "[project.markdown_extensions.pymdownx.highlight]",
        "[project.markdown_extensions.pymdownx.superfences]",
        "custom_fences = [{ name = 'mermaid', class = 'mermaid', format ="
        " 'pymdownx.superfences.fence_code_format' }]",
    ]
    (site / "zensical.toml").write_text("\n".join(settings) + "\n", encoding="utf-8")


def toml(value: object) -> str:
    """Return a nested value as TOML on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


class _Addresses(HTMLParser):
    """Collects what a page links to, and what it can be linked by."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value is not None and tag != "base":
                self.links.add(value)


def dead_links(html: Path) -> Iterator[str]:
    """Yield each address in a built site that leads nowhere, with the page that has it."""
    read: dict[Path, _Addresses] = {}
    for path in html.rglob("*.html"):
        read[path] = _Addresses()
        read[path].feed(path.read_text(encoding="utf-8"))
    for path, page in sorted(read.items()):
        if path.name == "404.html":  # its addresses are absolute
            continue
        for link in sorted(page.links):
            if re.match(r"[a-z]+:|//", link):
                continue
            address, _, anchor = link.partition("#")
            target = (path.parent / unquote(address)).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            known = read[target].ids if target in read else set()
            if not target.is_file() or (anchor and anchor not in known):
                yield f"{path.relative_to(html)}: {link}"


def main() -> int:
    """Build the site; return the exit status."""
    site = ROOT / ".site"
    stage(ROOT, site)
    command = [Path(sys.executable).parent / "zensical", "build", "--strict", "--clean"]
    subprocess.run([*command, "-f", site / "zensical.toml"], check=True)
    found = pages(ROOT)
    for name in linked_files(ROOT, found):
        (site / "html" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, site / "html" / name)
    dead = list(dead_links(site / "html"))
    print(*dead, sep="\n", end="\n" if dead else "")
    print(f"docs: {len(found)} pages, {len(dead)} dead links")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
