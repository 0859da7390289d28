"""Where the repository lies, its scripts, and the real data that some tests need."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "workflow_scripts"
PACKAGE = SCRIPTS / "histotransfer"
DATA = Path(os.environ.get("HISTOTRANSFER_TEST_DATA") or ROOT.parent / "shared" / "data")
