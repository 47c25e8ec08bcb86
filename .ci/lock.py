"""Lines of a hashed lock, from what pip says it would install: python lock.py REPORT.json."""

import json
import sys
from pathlib import Path

HEADER = """\
# What CI installs, with hashes: `make lock` makes it of constraints.txt, for CPython 3.11 on Linux
# and x86_64.
# torch is left to the platform, which chooses between its builds.
"""

items = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["install"]
lines = [
    f"{item['metadata']['name']}=={item['metadata']['version']} "
    f"--hash=sha256:{item['download_info']['archive_info']['hashes']['sha256']}\n"
    for item in items
]
sys.stdout.write(HEADER + "".join(sorted(lines, key=str.lower)))
