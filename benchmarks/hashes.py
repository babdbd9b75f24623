"""constraints-hashes.txt: the SHA-256 of everything `make setup` installs.

    pip install --dry-run --report  →  name, version, hash of each file that pip chose

It holds for the platform it was made on, which its first line names. `make setup` pins
versions, for all platforms; with the hashes, a file that was exchanged is refused too:

    pip install --require-hashes --no-deps -r constraints-hashes.txt

Run:  make hashes
"""

import json
import platform
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "constraints-hashes.txt"


def lines(report: dict[str, Any], where: str) -> list[str]:
    """The lines of the file.

    Args:
        report: Of `pip install --report`.
        where: The platform.
    """
    rows: list[str] = []
    for each in report["install"]:
        told = each["metadata"]
        hashes = each["download_info"].get("archive_info", {}).get("hashes", {})
        if told["name"] == "nacs":
            continue
        rows.append(
            f"{told['name']}=={told['version']} --hash=sha256:{hashes['sha256']}"
        )
    head = f"# For {where}; made by `make hashes`. torch's is of the CPU build."
    return [head, *sorted(rows, key=str.lower)]


if __name__ == "__main__":
    version = ".".join(platform.python_version_tuple()[:2])
    where = f"Python {version}, {platform.system()} {platform.machine()}"
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    PAGE.write_text("\n".join(lines(report, where)) + "\n", encoding="utf-8")
