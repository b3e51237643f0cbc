"""Write the dashboards and the mixin below a folder: `python -m warren_tools.dashboards deploy`."""

import sys
from pathlib import Path

from warren_tools.dashboards.files import written

if __name__ == "__main__":
    for path, text in written(Path(sys.argv[1])).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
