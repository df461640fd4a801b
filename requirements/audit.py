"""Look the pinned versions up in the OSV database of known vulnerabilities: `make audit`.

The exit code is 0 if there is none, 1 if there are some, and 3 if the database cannot be reached.
"""

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
DATABASE = "https://api.osv.dev/v1/query"
VULNERABLE, UNREACHABLE = 1, 3


def audit(database: str, *files: Path) -> int:
    """Print the vulnerabilities of pinned packages, or why they cannot be known.

    Args:
        database: The address of OSV's queries.
        files: Requirements with exact versions.

    Returns:
        The exit code.
    """
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format", "json"]
    command += ["--progress-spinner", "off", "--vulnerability-service", "osv"]
    command += ["--osv-url", database]
    for file in files:
        command += ["--requirement", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:  # it prints no report unless each package was looked up
        cause = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"Not checked: no answer from {database} ({cause[:300]})", file=sys.stderr)
        return UNREACHABLE
    found = 0
    for package in packages:
        for vulnerability in package.get("vulns", ()):
            found += 1
            fixed = ", ".join(vulnerability["fix_versions"]) or "none yet"
            print(
                f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}"
            )
    print(f"{found} known vulnerabilities in {len(packages)} pinned packages")
    return VULNERABLE if found else 0


if __name__ == "__main__":
    sys.exit(audit(DATABASE, FOLDER / "dev.txt", FOLDER / "torch.txt"))
