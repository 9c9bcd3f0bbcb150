"""What several tests stand on."""

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """The path of a file of real rows that lie beside a developer's checkout; the test skips where they do not."""

    def path(name: str) -> Path:
        found = ROOT.parent / "shared" / "data" / name
        if not found.exists():
            pytest.skip(f"needs the rows of {name}, which do not come with the project")
        return found

    return path
