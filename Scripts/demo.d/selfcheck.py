"""Shows that the demo's checks can fail: runs it on a toy bridge, once without
a fault, then with one fault after the other, and expects each to be found.

    .venv/bin/python Scripts/demo.d/selfcheck.py [FAULT…]      about 20 s each
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from stand_in import FAULTS

HERE = pathlib.Path(__file__).resolve().parent

# Which checks have to fail; others may, as one fault has many effects.
EXPECTED = {
    "none": set(),
    "eager": {"control"},
    "open": {"laptop"},
    "believing": {"reach", "bytes"},
    "refusing": {"laptop"},
    "stuck": {"added", "removed"},
    "lingering": {"removed"},
    "forgetful": {"hsms", "modbus"},
    "lossy": {"swaps", "bytes"},
    "gapped": {"swaps", "bytes"},
    "altering": {"bytes"},
    "flapping": {"links"},
    "blind": {"alert"},
    "chatty": {"alert"},
    "merciful": {"respond"},
    "miscounting": {"counted"},
    "littering": {"clean"},
}


def failed_checks(fault: str) -> tuple[set[str], str | None]:
    with tempfile.NamedTemporaryFile(suffix=".json") as summary:
        done = subprocess.run(
            [sys.executable, HERE / "demo.py", "--stand-in", fault, "--json", summary.name],
            capture_output=True, text=True, timeout=120)
        try:
            result = json.load(summary)
        except json.JSONDecodeError:
            sys.exit(f"selfcheck: error: the demo gave no summary for {fault}:\n{done.stdout}{done.stderr}")
    failed = {check["id"] for check in result["checks"] if check["verdict"] == "FAIL"}
    if (done.returncode == 0) != result["held"]:
        failed.add(f"exit status {done.returncode}")
    return failed, result["error"]


def main() -> int:
    assert EXPECTED.keys() == FAULTS.keys()
    missed = 0
    for fault in sys.argv[1:] or EXPECTED:
        failed, error = failed_checks(fault)
        found = EXPECTED[fault] <= failed if EXPECTED[fault] else not failed and not error
        missed += not found
        print(f"{'ok    ' if found else 'MISSED'}  {fault:11}  {FAULTS[fault]}: "
              f"{', '.join(sorted(failed)) or 'nothing failed'}"
              f"{f' ({error.splitlines()[0]})' if error else ''}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
