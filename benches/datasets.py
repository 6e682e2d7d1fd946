"""What the defaults make of data sets of several kinds: accuracy, training time, size and speed of the model, and what was chosen.

    ORT_DYLIB_PATH=... FOVEA_BACKBONES=... FOVEA_COMPONENTS=... python3 benches/datasets.py --cifar4 FOLDER --json FILE

Everything is done by `fovea`, as somebody at a shell would: `dataset add` of a folder, `train` with nothing stated (a
search of 60 seconds), `evaluate`, and `up`, each data set with a fresh data folder and a trainer of its own.

- Accuracy, with its 95 % interval, is of pictures kept apart from all of it where the source has more than the data set
  takes (at most 2,000; "kept apart" in the table), else of the test split that Fovea made (15 %, lookalikes never on both
  sides; "split off"): these are few, and the interval says so.
- The baseline is a linear head on frozen EfficientNet-lite0 with its defaults, asked about the same pictures.
- Training time is the wall time of the process `fovea train`, with checks, export and publishing.
- Milliseconds are the median of 50 pictures of the data set, one after the other over one connection, each posted as it
  is to the inference function that `fovea up` serves, with a fresh sandbox, after 10 others: what somebody who asks
  waits, decoding included. What the function itself says (`Server-Timing`) stands in the JSON lines.

Fashion-MNIST, Tux Paint's stamps and Openclipart are the Debian packages `dataset-fashion-mnist`, `tuxpaint-stamps-default`
and `openclipart-png`, fetched once into the cache with `apt-get download`; nothing is installed. The choice of pictures is
seeded and the same everywhere. One file of several with the same bytes is taken, and none that lies in two classes.
"""

import argparse
import contextlib
import gzip
import hashlib
import http.client
import json
import pathlib
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

HERE = pathlib.Path(__file__).resolve().parent
KEPT_APART, WARM_UP, ASKED = 2000, 10, 50
BASELINE = ["--family", "linear", "--backbone", "efficientnet-lite0"]
# Longest a command may take, and the function to answer for the first time: it is compiled then.
PATIENCE = 1800

GARMENTS = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"]

# Tux Paint's largest folders of things; the letters, digits and decorations are none.
STAMPS = {
    "bird": "animals/birds",
    "clothes": "clothes",
    "flower": "plants/flowers",
    "fruit": "food/fruit",
    "household": "household",
    "mammal": "animals/mammals",
    "money": "symbols/money",
    "vegetable": "food/vegetables",
    "vehicle": "vehicles",
}

DRAWINGS = {
    "beverage": "food/beverages",
    "bird": "animals/birds",
    "boat": "transportation/boating",
    "bug": "animals/bugs",
    "bulb": "electronics/bulb",
    "clock": "signs_and_symbols/clocks",
    "clothing": "people/clothing",
    "dessert": "food/desserts",
    "dinosaur": "animals/dinosaurs",
    "flag": "signs_and_symbols/flags",
    "fruit": "food/fruit",
    "hardware": "computer/hardware",
    "home": "buildings/homes",
    "mammal": "animals/mammals",
    "music": "recreation/music",
    "smiley": "people/smilies",
    "sport": "recreation/sports",
    "stickman": "people/stickmen",
    "vehicle": "transportation/vehicles",
    "weather": "signs_and_symbols/weather",
}
MOST_DRAWINGS = 200


class Failed(Exception):
    """A data set whose figures cannot be had; the others can."""


# --- Sources ---------------------------------------------------------------------------------------------------------


def package(cache, name):
    """The folder that a Debian package's files lie in."""
    folder = cache / name
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as fresh:
        run(["apt-get", "download", name], cwd=fresh)
        [archive] = pathlib.Path(fresh).glob("*.deb")
        run(["dpkg-deb", "-x", archive, f"{fresh}/files"])
        pathlib.Path(fresh, "files").rename(folder)
    return folder


def drawn(root, folders, leave_out=()):
    """Bytes of the PNG files below each class's folder, in the order of their paths, with their names."""
    classes = {}
    for label, folder in folders.items():
        paths = sorted(path for path in (root / folder).rglob("*.png") if path.is_file())
        paths = [p for p in paths if not any(word in p.relative_to(root).as_posix() for word in leave_out)]
        # Links make one file stand in several folders.
        files = {hashlib.sha256(data).digest(): (path.stem, data) for path in paths for data in [path.read_bytes()]}
        if not files:
            raise Failed(f"there are no pictures in {root / folder}")
        classes[label] = files
    several = {digest for label in classes for digest in classes[label] if sum(digest in c for c in classes.values()) > 1}
    return {label: [c for digest, c in files.items() if digest not in several] for label, files in classes.items()}


def stamps(cache):
    # Mirror images are the same picture again; cartoons look like nothing else in their folders.
    left_out = ["cartoon/", "toys/", "_mirror", "_flip"]
    return drawn(package(cache, "tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps", STAMPS, left_out)


def idx(path):
    """Items of an IDX file, each as its bytes, and the shape of one."""
    data = gzip.decompress(path.read_bytes())
    n_dimensions = data[3]
    n, *shape = struct.unpack_from(f">{n_dimensions}I", data, 4)
    size, start = 1, 4 + 4 * n_dimensions
    for side in shape:
        size *= side
    return [data[start + at * size : start + (at + 1) * size] for at in range(n)], shape


def garments(cache, part):
    """Pictures of one of Fashion-MNIST's two parts by class, as PNG."""
    folder = package(cache, "dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    pictures, [height, width] = idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels, _ = idx(folder / f"{part}-labels-idx1-ubyte.gz")
    classes = {label: [] for label in GARMENTS}
    for at, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        classes[GARMENTS[label[0]]].append((f"{part}-{at:05}", pixels, width, height))
    return classes


def png(pixels, width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + pixels[at : at + width] for at in range(0, len(pixels), width))
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


# --- Data sets -------------------------------------------------------------------------------------------------------


def fashion(n):
    """`n` of the pictures to train on, as many of each class, and of the 10,000 for testing those kept apart."""

    def prepare(cache, dice):
        def some(part, per_class):
            chosen = {label: dice.sample(files, per_class) for label, files in garments(cache, part).items()}
            return {label: [(name, png(*rest)) for name, *rest in files] for label, files in chosen.items()}

        return some("train", n // len(GARMENTS)), some("t10k", KEPT_APART // len(GARMENTS))

    return prepare


def tux_paint(cache, _dice):
    return stamps(cache), None


def two_tens(cache, dice):
    """Ten mammals and ten birds; the other mammals and birds are kept apart."""
    classes = stamps(cache)
    shuffled = {label: dice.sample(classes[label], len(classes[label])) for label in ["bird", "mammal"]}
    return {label: f[:10] for label, f in shuffled.items()}, {label: f[10:] for label, f in shuffled.items()}


def twenty(cache, dice):
    """Twenty folders of drawings as they are, but for the flags, of which there are too many."""
    root = package(cache, "openclipart-png") / "usr/share/openclipart/png"
    classes = drawn(root, DRAWINGS)
    return {label: dice.sample(files, min(len(files), MOST_DRAWINGS)) for label, files in classes.items()}, None


SETS = {
    "cifar4": ("CIFAR, 4 classes", None),
    "fashion-100": ("Fashion-MNIST, 100", fashion(100)),
    "fashion-1000": ("Fashion-MNIST, 1,000", fashion(1000)),
    "fashion-10000": ("Fashion-MNIST, 10,000", fashion(10000)),
    "tux-paint": ("Tux Paint's cut-outs", tux_paint),
    "two-tens": ("two classes of ten", two_tens),
    "twenty": ("twenty classes, unbalanced", twenty),
}


def write(folder, classes):
    for label, files in classes.items():
        (folder / label).mkdir(parents=True)
        for at, (name, data) in enumerate(files):
            (folder / label / f"{at:04}-{name}.png").write_bytes(data)


def prepared(name, cache, cifar4):
    """Folders of pictures: to be added, and kept apart or none."""
    make = SETS[name][1]
    if make is None:
        if not cifar4.is_dir():
            raise Failed(f"there is no folder {cifar4}")
        return cifar4, None
    classes, apart = make(cache, random.Random(f"fovea {name}"))
    if apart:
        known = {data for files in classes.values() for _, data in files}
        apart = {label: [file for file in files if file[1] not in known] for label, files in apart.items()}
    folder = cache / "sets" / name
    shutil.rmtree(folder, ignore_errors=True)
    write(folder / "pictures", classes)
    if apart:
        write(folder / "kept-apart", apart)
    return folder / "pictures", folder / "kept-apart" if apart else None


def counts(folder):
    """Pictures by class."""
    classes = sorted(child for child in folder.iterdir() if child.is_dir())
    return {child.name: sum(path.is_file() for path in child.rglob("*")) for child in classes}


# --- What is measured ------------------------------------------------------------------------------------------------


def run(command, **options):
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-3:]
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode}: {' / '.join(said)}")
    return done.stdout


def measure(name, program, data, pictures, apart):
    """One data set's figures."""

    def fovea(*words):
        return run([program, "--data", data, *words, "--json"])

    added = json.loads(fovea("dataset", "add", pictures, "--name", name))
    start = time.perf_counter()
    told = fovea("train", "--dataset", added["dataset"])
    seconds = time.perf_counter() - start
    events = {event["event"]: event for event in map(json.loads, told.splitlines())}
    if not {"end", "results"} <= events.keys():
        raise Failed("`fovea train` told no results")
    results = events["results"]["results"]
    score = json.loads(fovea("evaluate", "--data", apart or added["dataset"]))
    if score["seen"]:
        raise Failed(f"{score['seen']} of the pictures kept apart were fitted on")
    recalls = [of["recall"] for of in score["per_class"] if of["recall"] is not None]
    asked = ask(program, data, apart or pictures, random.Random(f"fovea {name} asked"))
    fovea("train", "--dataset", added["dataset"], *BASELINE)
    baseline = json.loads(fovea("evaluate", "--model", "classifier@v2", "--data", apart or added["dataset"]))
    by_class = {of["name"]: sum(of[split] for split in of if split != "name") for of in added["manifest"]["classes"]}
    return {
        "name": name,
        "classes": len(by_class),
        "pictures": sum(by_class.values()),
        "pictures_by_class": by_class,
        "left_out": len(added["rejected"]),
        "kept_apart": apart is not None,
        "test_pictures": score["pictures"],
        "accuracy": score["accuracy"],
        "accuracy_interval": score["accuracy_interval"],
        "mean_recall": statistics.mean(recalls),
        "train_seconds": seconds,
        # By the trainer's own clock, to its last event: not much less.
        "trainer_seconds": events["end"]["seconds"],
        "model_bytes": results["model_bytes"],
        **asked,
        "baseline_accuracy": baseline["accuracy"],
        "native_ms": results.get("milliseconds_per_picture"),
        "settings": results["settings"],
        "choice": results.get("choice"),
        "val_accuracy": results["val_accuracy"],
        "notes": results["notes"],
        "timings": results["timings"],
        "made_by": results["made_by"],
    }


def ask(program, data, pictures, dice):
    """Milliseconds that the inference function takes for a picture."""
    files = sorted(path for path in pictures.rglob("*") if path.is_file())
    files = [path.read_bytes() for path in dice.choices(files, k=WARM_UP + ASKED)]
    with up(program, data) as (process, port):
        until_it_answers(process, port, files[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked = [post(connection, file) for file in files][WARM_UP:]
    status = next((status for _, status, _ in asked if status != 200), None)
    if status:
        raise Failed(f"the inference function answered {status}")
    own = [function_ms(timing) for _, _, timing in asked]
    return {
        "wasm_ms": statistics.median(took * 1e3 for took, _, _ in asked),
        "wasm_decode_ms": statistics.median(of.get("decode", 0.0) for of in own),
        "wasm_inference_ms": statistics.median(of.get("inference", 0.0) for of in own),
    }


@contextlib.contextmanager
def up(program, data):
    """`fovea up` on ports that are free; the process and the inference function's port."""
    flags = ["--port", "--preprocess-port", "--inference-port", "--ingress-port", "--admin-port"]
    with contextlib.ExitStack() as sockets:
        held = [sockets.enter_context(socket.socket()) for _ in flags]
        for one in held:
            one.bind(("127.0.0.1", 0))
        ports = [str(one.getsockname()[1]) for one in held]
    words = [word for pair in zip(flags, ports) for word in pair]
    with open(data / "up.log", "w") as log:
        process = subprocess.Popen([program, "--data", data, "up", *words], stdout=log, stderr=log)
        try:
            yield process, int(ports[2])
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until_it_answers(process, port, file):
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise Failed(f"`fovea up` ended with {process.returncode}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                if post(connection, file)[1] == 200:
                    return
        time.sleep(0.2)
    raise Failed("the inference function did not answer")


def post(connection, file):
    """Seconds, status, and what the function says where its time went."""
    start = time.perf_counter()
    connection.request("POST", "/predict?include_images=false", file, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    answer.read()
    return time.perf_counter() - start, answer.status, answer.headers.get_all("Server-Timing", [])


def function_ms(timing):
    entries = (entry.strip().split(";dur=") for entry in ",".join(timing).split(","))
    return {entry[0]: float(entry[1]) for entry in entries if len(entry) == 2}


# --- What is printed -------------------------------------------------------------------------------------------------

COLUMNS = ["data set", "classes", "pictures", "accuracy", "of", "baseline", "training", "model", "WASM function", "chosen"]


def row(of):
    least, most = of["accuracy_interval"]
    settings = of["settings"]
    family = settings["family"].replace("_", " ")
    backbone = f" on {settings['backbone']}" if settings.get("backbone") else ""
    return [
        SETS[of["name"]][0],
        str(of["classes"]),
        f"{of['pictures']:,}",
        f"{of['accuracy']:.3f} ({least:.3f} to {most:.3f})",
        f"{of['test_pictures']:,} {'kept apart' if of['kept_apart'] else 'split off'}",
        f"{of['baseline_accuracy']:.3f}",
        f"{of['train_seconds']:.0f} s",
        f"{of['model_bytes'] / 1e6:.1f} MB",
        f"{of['wasm_ms']:.1f} ms",
        f"{family}{backbone}, {settings['input_size']} px",
    ]


def line(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar4", type=pathlib.Path, help="folder of 4 classes of 50 pictures, 32 x 32; else left out")
    parser.add_argument("--only", action="append", choices=SETS, help="one data set; may be said again")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("~/.cache/fovea/datasets"))
    parser.add_argument("--data", type=pathlib.Path, help="where the data folders are kept, one each; else removed")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="a line for each data set, with more in it")
    parser.add_argument("--program", type=pathlib.Path, default=HERE.parent / "target/release/fovea")
    parser.add_argument("--prepare-only", action="store_true", help="fetch and lay out pictures, and count them")
    asked = parser.parse_args()
    asked.cache = asked.cache.expanduser().resolve()
    if not asked.only:
        asked.only = [name for name in SETS if name != "cifar4" or asked.cifar4]
    if "cifar4" in asked.only and not asked.cifar4:
        parser.error("cifar4 is a folder that --cifar4 names")
    if not asked.prepare_only and not asked.program.is_file():
        parser.error(f"there is no program {asked.program}: build it, or name it with --program")
    return asked


def main():
    asked = arguments()
    failed = False
    with contextlib.ExitStack() as stack:
        root = asked.data or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fovea-datasets-")))
        lines = stack.enter_context(open(asked.json, "w")) if asked.json else None
        if not asked.prepare_only:
            line(COLUMNS)
            line(["---"] * len(COLUMNS))
        for name in asked.only:
            try:
                pictures, apart = prepared(name, asked.cache, asked.cifar4)
                if asked.prepare_only:
                    for what, folder in [("to add", pictures), ("kept apart", apart)]:
                        by_class = counts(folder) if folder else {}
                        each = ", ".join(f"{label} {n}" for label, n in by_class.items())
                        print(f"{name}, {what}: {sum(by_class.values())} ({each or 'none'})")
                    continue
                data = root.resolve() / name
                try:
                    data.mkdir(parents=True)
                except FileExistsError as error:
                    raise Failed(f"{data} is there already; a fresh folder is needed") from error
                figures = measure(name, asked.program.resolve(), data, pictures, apart)
            except (Failed, OSError, ValueError, LookupError) as error:
                failed = True
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                if not asked.prepare_only:
                    line([SETS[name][0], "failed", *["–"] * (len(COLUMNS) - 2)])
                continue
            line(row(figures))
            if lines:
                print(json.dumps(figures), file=lines, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
