"""Pages of the repository that stand outside docs/, and links to its other files."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/README.md": "data.md",
}
"""Pages by their place in the repository, and what they are called in the site."""
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)*)([^)#:\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside docs/."""
    for path, name in OUTSIDE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Lead links to where the site has the page; name files of the repository that it has not."""
    source = next((p for p, name in OUTSIDE.items() if name == page.file.src_uri), None)
    folder = ROOT / (source or f"docs/{page.file.src_uri}")

    def lead(match: re.Match[str]) -> str:
        text, up, path, anchor = match.groups()
        if not path:
            return match[0]
        target = (folder.parent / up / path).resolve().relative_to(ROOT)
        if not (ROOT / target).exists():
            return match[0]  # mkdocs reports it
        if str(target) in OUTSIDE:
            inside = OUTSIDE[str(target)]
        elif target.parts[0] == "docs":
            inside = str(Path(*target.parts[1:]))
        else:
            return f"`{target}`" if text.strip("`") in str(target) else f"{text} (`{target}`)"
        back = "../" * page.file.src_uri.count("/")
        return f"[{text}]({back}{inside}{anchor or ''})"

    return _LINK.sub(lead, markdown.replace("](docs/images/", "](images/"))
