"""What the site adds to the pages of this folder: front page, a page per method from its card, example report."""

import json
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.showing import Section, sections

DOCS = Path(__file__).resolve().parent
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FAMILIES = {
    "trivial": "Trivial baselines",
    "reconstruction": "Reconstruction",
    "pseudo-anomaly": "Pseudo-anomalies",
    "normalcy": "Normalcy",
    "features": "Pretrained features",
    "diffusion": "Diffusion",
    "transductive": "Transductive",
    "supervised": "Supervised top lines",
}
HERE_ONLY = {"status"}  # what a card says of one machine
REPORT = "gallery/report.html"


def on_config(config: Any) -> Any:
    """Add a page for each built-in method to the tab of methods, by family."""
    by_family: dict[str, list[dict[str, str]]] = {title: [] for title in FAMILIES.values()}
    for name, card in _built_in().items():
        by_family[FAMILIES[card.family]].append({name: f"methods/{name}.md"})
    tab = next(entry["Methods"] for entry in config.nav if "Methods" in entry)
    tab += [{title: pages} for title, pages in by_family.items()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that no file of this folder holds."""
    texts = {page: (DOCS.parent / name).read_text(encoding="utf-8") for name, page in ROOT_PAGES.items()}
    texts["tutorial.md"] = notebook_text(DOCS / "tutorial.ipynb")
    texts |= {f"methods/{name}.md": "" for name in _built_in() if not (DOCS / "methods" / f"{name}.md").exists()}
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def notebook_text(path: Path) -> str:
    """Return the cells of a notebook as a page, code in fences."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = (("".join(cell["source"]), cell["cell_type"] == "code") for cell in cells)
    page = "\n\n".join(f"```python\n{text}\n```" if is_code else text for text, is_code in texts)
    return f"{page}\n\n[This page as a notebook]({path.name})\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page with links that hold on the site, the card of its method, the example report."""
    uri = page.file.src_uri
    if uri.startswith("methods/"):
        return _method_page(Path(uri).stem, markdown)
    if uri == "gallery.md":
        shown = "This copy of the site was built without it: run `just gallery`, then `just docs`."
        if (DOCS / REPORT).exists():
            frame = '<iframe class="report" src="report.html" title="Example report" loading="lazy"></iframe>'
            shown = f"[The example report on a page of its own]({REPORT})\n\n{frame}"
        return markdown.replace("<!-- report -->", shown)
    text = markdown.replace("](docs/tutorial.ipynb)", "](tutorial.md)")
    text = re.sub(r"\]\(docs/", "](", text) if uri in ROOT_PAGES.values() else text
    for name, target in ROOT_PAGES.items():
        text = re.sub(rf"\]\((?:\.\./)?{re.escape(name)}", f"]({target}", text)
    return text


def on_page_content(html: str, **_: Any) -> str:
    """Return a page in which the roles of docstrings are the bare names."""
    return re.sub(r":(?:class|func|meth|data|attr|exc|mod):<code>~?[\w.]*?(\w+)</code>", r"<code>\1</code>", html)


def _built_in() -> dict[str, Any]:
    known = registry.runnable()
    return {name: card for name, card in known.cards().items() if known.entry(name).built_in}


def readings() -> dict[str, str]:
    """Return, for each method, the page of this folder that says how it was read; its heading names the methods."""
    found = {}
    for path in sorted((DOCS / "methods").glob("*.md")):
        names = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").split(", ")
        found |= dict.fromkeys(names, path.stem)
    return found


def _method_page(name: str, own: str) -> str:
    card, *tables = sections(name)
    where = readings().get(name)
    if own:
        reading = "## How it was read\n\n" + own.partition("\n")[2].strip()
    elif where:
        reading = f"How it was read: [{where}]({where}.md#how-it-was-read)."
    else:
        reading = "What it does: [trivial baselines](../methods.md#trivial-baselines)."
    facts = f'<div class="card">{_as_html(card)}</div>'
    return "\n\n".join([f"# {name}", facts, reading, *map(_as_html, tables)])


def _as_html(section: Section) -> str:
    head = f"<thead>{_row('th', section.columns)}</thead>" if section.columns else ""
    rows = [row for row in section.rows if row[0] not in HERE_ONLY]
    body = "".join(_row("td", row) for row in rows)
    title = f"## {section.title}\n\n" if section.title else ""
    return f"{title}<table>{head}<tbody>{body}</tbody></table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_linked(cell)}</{tag}>" for cell in cells) + "</tr>"


def _linked(cell: str) -> str:
    return re.sub(r"https?://[^\s,;)]+[^\s,;).]", lambda found: f'<a href="{found[0]}">{found[0]}</a>', escape(cell))
