"""`python -m infra.venue.local`."""

from __future__ import annotations

import sys

from infra.venue.local.server import main

if __name__ == "__main__":
    sys.exit(main())
