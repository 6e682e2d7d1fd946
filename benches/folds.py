"""How good a search's choice is on pictures that it never saw: a folder is cut into parts, each kept apart in turn.

    ORT_DYLIB_PATH=... FOVEA_BACKBONES=... python3 benches/folds.py --pictures FOLDER [--parts 5] [--seed 1]

For each part: `fovea dataset add` of the others as `train/` and of the part as `test/`, `fovea train` with nothing stated
but a seed, and `fovea evaluate` on the test split; beside it the baseline, a linear head on frozen EfficientNet-lite0 with
its defaults. Every picture is asked about once, by a network that was chosen and fitted without it. Names decide the parts,
in turn within each class. The last row is of all parts together, with its 95 % interval (Wilson).
"""

import argparse
import json
import math
import pathlib
import shutil
import tempfile
import time

from datasets import BASELINE
from doubt import HERE, pictures, run


def lay_out(folder, classes, part, parts):
    for one in classes:
        for index, file in enumerate(pictures(one)):
            home = folder / ("test" if index % parts == part else "train") / one.name
            home.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, home / file.name)


def evaluated(program, data, folder, settings):
    """Right answers, pictures, mean cross-entropy, and the seconds that training took."""
    started = time.monotonic()
    run(program, data, "train", "--dataset", "latest", *settings)
    seconds = time.monotonic() - started
    version = max(int(path.name[1:]) for path in pathlib.Path(data, "models/classifier").glob("v*"))
    told = json.loads(run(program, data, "evaluate", "--model", f"classifier@v{version}", "--data", str(folder), "--json"))
    return told["right"], told["pictures"], told["loss"], seconds


def interval(right, n):
    z, share = 1.959964, right / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return f"{(middle - half) / (1 + z * z / n):.3f} to {(middle + half) / (1 + z * z / n):.3f}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--program", default=str(HERE.parent / "target/release/fovea"))
    arguments.add_argument("--pictures", type=pathlib.Path, required=True, help="a folder per class")
    arguments.add_argument("--parts", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=1, help="of the runs; the parts stay the same")
    given = arguments.parse_args()
    classes = sorted(path for path in given.pictures.iterdir() if path.is_dir())
    print("| part | the search's choice | loss | training | linear head on lite0 | loss | training |")
    print("| --- " * 7 + "|")
    sums = [[0, 0, 0.0], [0, 0, 0.0]]
    for part in range(given.parts):
        with tempfile.TemporaryDirectory() as place:
            folder, data = pathlib.Path(place, "pictures"), str(pathlib.Path(place, "data"))
            lay_out(folder, classes, part, given.parts)
            run(given.program, data, "dataset", "add", str(folder))
            cells = []
            for total, settings in zip(sums, [[], BASELINE]):
                seeded = [*settings, "--seed", str(given.seed)]
                right, n, loss, seconds = evaluated(given.program, data, folder, seeded)
                total[0], total[1], total[2] = total[0] + right, total[1] + n, total[2] + loss * n
                cells.append(f"{right} of {n} | {loss:.3f} | {seconds:.0f} s")
            print(f"| {part + 1} |", " | ".join(cells), "|", flush=True)
    told = [f"**{right / n:.3f}** ({interval(right, n)}) | {loss / n:.3f} | " for right, n, loss in sums]
    print("| all |", " | ".join(told), "|")


if __name__ == "__main__":
    main()
