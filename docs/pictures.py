"""Copy pictures that examples made to the gallery, small enough for a page: docs/pictures.py RUNS GALLERY."""

import sys
from pathlib import Path

from PIL import Image

# Picture of a run -> its name in the gallery.
PICTURES = {
    "checkerboard/decision.png": "decision.png",
    "noise/occupation.png": "occupation.png",
    "noise/funnels.png": "funnels.png",
    "lj7/disconnectivity.png": "lj7.png",
}
WIDTH, COLOURS = 1000, 128


def main() -> None:
    """Those that are there; says which are not."""
    runs, gallery = map(Path, sys.argv[1:3])
    gallery.mkdir(parents=True, exist_ok=True)
    for source, name in PICTURES.items():
        if not (runs / source).exists():
            sys.stderr.write(f"{source} is not there\n")
            continue
        picture = Image.open(runs / source).convert("RGB")
        if picture.width > WIDTH:
            size = WIDTH, round(picture.height * WIDTH / picture.width)
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        picture.quantize(COLOURS).save(gallery / name, optimize=True)


if __name__ == "__main__":
    main()
