"""The documents that the tests of the page share."""

import json

import pytest

from model.page.document import Document
from tests.page import documents


@pytest.fixture(scope="session")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    """A document of each kind, with all claims and all counterexamples."""
    folder = tmp_path_factory.mktemp("documents")
    made = {
        "proofs": documents.proofs_document(),
        "replays": documents.replays_document(folder),
        "explored": documents.explored_document(),
        "conformance": documents.conformance_document(),
        "bench": documents.bench_document(folder),
    }
    as_files: dict[str, Document] = json.loads(json.dumps(made))
    return as_files
