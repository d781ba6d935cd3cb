"""Values of the reference implementations; each section of the file names its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

VALUES: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "reference_values.json").read_text()
)
