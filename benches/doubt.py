"""How a classifier answers to pictures of none of its classes: each class of a folder is left out in turn.

    ORT_DYLIB_PATH=... FOVEA_BACKBONES=... python3 benches/doubt.py --pictures FOLDER [--strangers FOLDER]

For each class: `fovea dataset add` of the other ones, `fovea train` with nothing stated, and `fovea predict` on the class
that was left out and on up to 90 strangers. Told are the share of them that is marked as unsure, the share that is
answered with 0.99 or more, and how well the probability tells them from the test split's pictures (AUROC: 0.5 is chance,
1 is always). The test split is small, so an AUROC is not surer than 0.06.
"""

import argparse
import json
import pathlib
import shutil
import tempfile

import datasets

HERE = pathlib.Path(__file__).resolve().parent
ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}
STRANGERS = 90


def pictures(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def run(program, data, *words):
    return datasets.run([program, "--data", data, *words])


def asked(program, data, files):
    """Largest probability, and whether it is unsure, of each picture."""
    answers = json.loads(run(program, data, "predict", "--json", *map(str, files)))
    return [(answer["confidence"], answer["unsure"]) for answer in answers]


def area(known, others):
    """Share of pairs in which the known picture has the larger probability."""
    pairs = [(a > b) + (a == b) / 2 for a, _ in known for b, _ in others]
    return sum(pairs) / len(pairs)


def told(known, others):
    unsure = sum(unsure for _, unsure in others) / len(others)
    certain = sum(probability >= 0.99 for probability, _ in others) / len(others)
    return f"{unsure:.2f} | {certain:.2f} | {area(known, others):.2f}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--program", default=str(HERE.parent / "target/release/fovea"))
    arguments.add_argument("--pictures", type=pathlib.Path, required=True, help="a folder per class")
    arguments.add_argument("--strangers", type=pathlib.Path, help="pictures of something else, in any folders")
    given = arguments.parse_args()
    classes = sorted(path for path in given.pictures.iterdir() if path.is_dir())
    strangers = pictures(given.strangers) if given.strangers else []
    strangers = strangers[:: max(1, len(strangers) // STRANGERS)][:STRANGERS]
    groups = ["the class"] + ["strangers"] * bool(strangers)
    heads = [head for group in groups for head in (f"{group}: unsure", "0.99 or more", "AUROC")]
    print("| left out | test split: unsure |", " | ".join(heads), "|")
    print("| --- " * (2 + len(heads)) + "|")
    for left_out in classes:
        with tempfile.TemporaryDirectory() as place:
            folder, data = pathlib.Path(place, "pictures"), str(pathlib.Path(place, "data"))
            folder.mkdir()
            for kept in classes:
                if kept != left_out:
                    (folder / kept.name).mkdir()
                    for file in pictures(kept):
                        shutil.copy(file, folder / kept.name / file.name)
            run(given.program, data, "dataset", "add", str(folder))
            run(given.program, data, "train", "--dataset", "latest")
            lines = next(pathlib.Path(data).glob("**/predictions.jsonl")).read_text().splitlines()
            test = [line for line in map(json.loads, lines) if line["split"] == "test"]
            known = asked(given.program, data, [folder / line["name"] for line in test])
            unsure = sum(unsure for _, unsure in known) / len(known)
            others = [pictures(left_out)] + [strangers] * bool(strangers)
            row = " | ".join(told(known, asked(given.program, data, files)) for files in others)
            print(f"| {left_out.name} | {unsure:.2f} | {row} |", flush=True)


if __name__ == "__main__":
    main()
