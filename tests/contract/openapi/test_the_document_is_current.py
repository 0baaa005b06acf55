"""The committed document is the one the descriptors give."""

from pathlib import Path

from reflux.gateway import openapi

COMMITTED = Path(__file__).parents[3] / "gateway" / "openapi.yaml"


def test_the_committed_document_is_generated_from_the_descriptors() -> None:
    """A change of the API shows in review as a change of the document."""
    assert COMMITTED.read_bytes() == openapi.as_yaml(), (
        "run: python -m reflux.gateway.openapi > gateway/openapi.yaml"
    )
