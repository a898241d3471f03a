"""For Scripts/soak: python run_soak.py MINUTES [SEED]"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from conftest import mount_bpf  # noqa: E402
from soak import Soak  # noqa: E402


def main():
    minutes, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    binary = os.environ["SEKISHO"]

    def sekisho(*arguments, timeout=30):
        return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)

    mount_bpf()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sekisho-soak-"))
    soak = Soak(binary, sekisho, folder, seed=seed)
    print(f"soak: {minutes} min, seed {soak.seed}", flush=True)
    try:
        done = soak.run(minutes * 60)
    except AssertionError as error:
        print(f"soak: FAILED with seed {soak.seed} after {soak.done}:\n{error}", file=sys.stderr)
        return 1
    finally:
        soak.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"soak: all held: {soak.sent} frames sent, " + ", ".join(f"{count} × {name.replace('_', ' ')}" for name, count in done.items()))
    return 0


sys.exit(main())
