"""Where things lie on disk: downloads outside the checkout, data and logs of a run inside it.

Both places can be moved by an environment variable, so that tests and containers share or separate them at will.
"""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def cache_dir() -> Path:
    """Downloads that every checkout of this user shares: `QT_CACHE_DIR`, else the desktop convention for caches."""
    chosen = os.environ.get("QT_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "quantum-trader"


def run_dir() -> Path:
    """Data and logs of a run: `QT_RUN_DIR`, else `var/` in the checkout."""
    chosen = os.environ.get("QT_RUN_DIR")
    return Path(chosen).expanduser() if chosen else CHECKOUT / "var"


def shared_data_dir() -> Path:
    """Real recordings, never part of the repository: `QT_SHARED_DATA`, else `../shared/data` beside the checkout."""
    chosen = os.environ.get("QT_SHARED_DATA")
    return Path(chosen).expanduser() if chosen else CHECKOUT.parent / "shared" / "data"
