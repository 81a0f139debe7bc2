"""One self-contained HTML file: documents, and the script that draws them.

No server, no network, no build step. The documents lie in the page as JSON in which no ``<`` is left, so
that no text in them can end the element that holds them; the script makes every text a text node; and
the page's own policy (CSP) lets this script and this style in by their digests, and nothing else.

The script is plain JavaScript modules. Here they become one, since a file cannot import from itself:
in the order below, without their imports and exports.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from model.boundary.output import write_text
from model.page.document import Document, as_json

FOLDER = Path(__file__).parent
#: Each imports only from those before it.
MODULES = (
    "elements",
    "bits",
    "charts",
    "stepping",
    "claims",
    "exploration",
    "conformance",
    "bench",
    "main",
)
TITLE = "colo-flush"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def write_page(path: Path, *documents: Document) -> None:
    """Write the page that draws these documents. Raises OutputError."""
    write_text(path, page(documents))


def page(documents: Sequence[Document]) -> str:
    """The page as a text."""
    style, script = _read("style.css"), joined(*(_read(f"{name}.js") for name in MODULES))
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_read("page.html")).substitute(
        title=escape(TITLE),
        policy=policy,
        style=style,
        script=script,
        documents=embedded(documents),
    )


def embedded(documents: Sequence[Document]) -> str:
    """JSON as an element of HTML can hold it: ASCII, and without a ``<``, ``>`` or ``&``."""
    text = as_json(documents, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)


def joined(*modules: str) -> str:
    """One script made of modules."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", module)) for module in modules)


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
