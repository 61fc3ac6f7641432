"""The proof, from data to tables: `python -m benchmarks.proof --data FOLDER`."""

import argparse
import platform
from pathlib import Path

import torch

from benchmarks.proof.corpus import Corpus
from benchmarks.proof.parts import PARTS, Proof
from training.checkpoint import write_atomically


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.proof",
        description="Measure what this project claims; hours on two cores.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with video/, images/ and vid4/")
    add("--output", type=Path, default=Path("build/proof"), help="runs, scores, tables, plots")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    add("--seeds", type=int, default=3, help="trainings of each kind")
    add("--steps", type=int, default=3000, help="of each network of clips")
    add("--picture-steps", type=int, default=3000, help="of each network of pictures")
    add("--pretrain-steps", type=int, default=2500, help="of each encoder")
    add("--processes", type=int, default=2, help="trainings side by side, one core each")
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    given = parse_arguments()
    proof = Proof(
        corpus=Corpus(given.data.resolve()),
        output=given.output.resolve(),
        seeds=given.seeds,
        steps=given.steps,
        picture_steps=given.picture_steps,
        pretrain_steps=given.pretrain_steps,
        processes=given.processes,
    )
    proof.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for part in given.parts:
        text = getattr(proof, part)()
        write_atomically(proof.output / f"{part}.md", text.encode())
        print(text)
    found = [proof.output / f"{part}.md" for part in PARTS]
    head = f"# Proof\n\nPyTorch {torch.__version__}, {platform.machine()}.\n"
    texts = [head, *(path.read_text() for path in found if path.exists())]
    write_atomically(proof.output / "proof.md", "\n".join(texts).encode())


if __name__ == "__main__":
    main()
