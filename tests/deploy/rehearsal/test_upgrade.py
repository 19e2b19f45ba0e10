"""The version before and this one serve one database, in any mix, forwards and back, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.rehearsal.base import BASE
from tests.deploy.rehearsal.counts import table
from tests.deploy.rehearsal.rehearsal import Rehearsal
from tests.deploy.rehearsal.versions import NotToBeHadError, Version, is_here, old_version, this_version

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1200)]


@pytest.fixture(scope="session")
def old() -> Version:
    """The version before, in a venv of its own."""
    if not is_here(BASE):
        pytest.skip(
            f"the version before, {BASE}, is not in this clone (a shallow one?): git fetch --unshallow"
        )
    return old_version(BASE)


async def test_servers_are_replaced_one_by_one_and_back(old: Version, tmp_path: Path) -> None:
    rows = await Rehearsal(old, this_version(), tmp_path).rolling()
    print(table(rows))
    assert not [row for row in rows if row.faults], table(rows)


async def test_an_api_of_one_version_and_a_queue_of_the_other(old: Version, tmp_path: Path) -> None:
    """Wake-ups, events, cancel signals and stateless results cross Valkey from one version to the other."""
    rows = await Rehearsal(old, this_version(), tmp_path).split()
    print(table(rows))
    assert not [row for row in rows if row.faults], table(rows)


def test_what_is_no_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotToBeHadError, match="nor an image"):
        old_version("no-such-ref")
    with pytest.raises(NotToBeHadError, match="no wheel"):
        old_version(str(tmp_path))
