"""`make rehearse-upgrade OLD=…`: try an upgrade to this version and back, under load, on this machine."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.deploy.rehearsal.base import BASE
from tests.deploy.rehearsal.counts import Row, table
from tests.deploy.rehearsal.rehearsal import Rehearsal
from tests.deploy.rehearsal.versions import NotToBeHadError, old_version, this_version


def main() -> int:
    """Rehearse; returns 1 if something failed."""
    try:
        old = old_version(sys.argv[1] if len(sys.argv) > 1 else BASE)
    except NotToBeHadError as error:
        print(error, file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    print(f"from {old.name} to this version; data and logs in {folder}", flush=True)
    rehearsal = Rehearsal(old, this_version(), folder, _tell)
    asyncio.run(rehearsal.rolling())
    asyncio.run(rehearsal.split())
    print(f"\n{table(rehearsal.rows)}")
    return int(any(row.faults for row in rehearsal.rows))


def _tell(row: Row) -> None:
    print(f"{'; '.join(row.faults) or 'well'}: {row.name} ({row.servers}, {row.seconds:.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
