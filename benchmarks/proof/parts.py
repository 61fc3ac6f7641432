"""The parts of the proof, each from data to a text with tables and plots."""

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.proof import report
from benchmarks.proof.clips import CRFS, coded_clips
from benchmarks.proof.corpus import (
    HELD_OUT,
    Corpus,
    make_dataset,
    measured_recipe,
    picture_recipe,
    rank_recipe,
    stream_view,
    video_recipe,
)
from benchmarks.proof.motion import measure_motion
from benchmarks.proof.runs import Training, train_all
from benchmarks.proof.scores import (
    BICUBIC,
    ClipScore,
    read_scores,
    score_clips,
    score_cubic,
    score_pictures,
)
from benchmarks.proof.variants import FULL, PICTURES, VIDEO
from benchmarks.proof.wiring import measure_wiring
from training.batches import Part
from training.checkpoint import write_atomically
from training.config import TrainConfig
from training.pretrain import PretrainOptions, encoder_of, pretrain
from training.pretraining import STATE_NAME
from training.ranking import PretrainConfig
from training.score_plot import PLOT_NAME
from training.scoring import PairAccuracy

PARTS = ("p0", "p1", "p2", "p3", "p4")
_TEST_STREAMS = ("mpeg2video", "mpeg4", "h264", "hevc", "jpeg", "clean")
_WITH_OTHER_CODES = FULL
_RANKED = ("xs", "m")
_FRAMES = 16  # of each clip of Vid4, from its first


@dataclass(frozen=True)
class Proof:
    """What is measured, and where it is kept."""

    corpus: Corpus
    output: Path
    seeds: int
    steps: int
    picture_steps: int
    pretrain_steps: int
    processes: int

    def p0(self) -> str:
        """Wiring."""
        found = [measure_wiring(name) for name in ("xs", "m", "cavsr", "paper-compat")]
        return f"## P0: wiring\n\n{report.wiring_table(found)}\n"

    def p1(self) -> str:
        """Ranking."""
        texts = ["## P1: ranking of held-out videos"]
        for config in _RANKED:
            self._pretrain(config)
            runs = [self._encoder(config, seed) for seed in self._seeds]
            found = [
                [
                    PairAccuracy.model_validate(row)
                    for row in _json(run / "scores.json")["accuracies"]
                ]
                for run in runs
            ]
            write_atomically(
                self.output / f"ranking-{config}.png", (runs[0] / PLOT_NAME).read_bytes()
            )
            texts += [
                f"Encoder of {config}, {self.pretrain_steps} steps.",
                report.accuracy_rows(found),
                f"![scores](ranking-{config}.png)",
            ]
        return "\n\n".join(texts) + "\n"

    def p2(self) -> str:
        """Motion."""
        found = measure_motion(self.output / "coded", self.corpus.vid4)
        head = "## P2: motion\n\nPSNR in dB of warped frames, from the previous / the next one."
        return f"{head}\n\n{report.motion_table(found)}\n"

    def p3(self) -> str:
        """Networks of clips."""
        self._pretrain("xs")
        recipe = video_recipe("cavsr")
        dataset = make_dataset(self._datasets / "video", self.corpus.videos, recipe, HELD_OUT)
        train_all(self._video_trainings(dataset), self.processes)
        self._score_videos()
        found = {name: self._scores(VIDEO_RUNS, name, "vid4.json") for name in VIDEO}
        cubic = self.output / "cubic.json"
        if not cubic.exists():
            score_cubic(cubic, self.output / "coded", self.corpus.vid4, _FRAMES)
        with_cubic = {BICUBIC: [read_scores(cubic)], **found}
        compared = report.curves(found)
        codes = report.other_code_differences(found[FULL])
        by_type = [
            report.differences(
                f"{FULL} - without MP, {kind} frames",
                found[FULL],
                found["without MP"],
                kind,
                report.STREAMS[1:],
            )
            for kind in "PB"
        ]
        report.plot_differences(
            self.output / "mechanisms.png", [*compared, *codes], "What each mechanism adds, Vid4"
        )
        budget = f"{self.steps} steps, {self.seeds} seeds, the first {_FRAMES} frames of each clip"
        return "\n\n".join(
            [
                "## P3: networks of clips",
                f"Configuration xs, {budget}. PSNR of Y in dB.",
                report.mean_table(with_cubic, report.STREAMS, ClipScore.mean_psnr),
                "Paired differences, mean and 95 % interval over seeds and clips:",
                report.difference_table([*compared, *by_type, *codes]),
                "![differences](mechanisms.png)\n",
            ]
        )

    def p4(self) -> str:
        """Networks of pictures."""
        dataset = make_dataset(
            self._datasets / "pictures",
            self.corpus.photos,
            picture_recipe(),
            ["*/blue-periwinkle*"],
        )
        tests = {
            name: make_dataset(self._datasets / name, [folder], measured_recipe())
            for name, folder in {"kodak": self.corpus.kodak, "vid4": self.corpus.vid4}.items()
        }
        train_all(self._picture_trainings(dataset), self.processes)
        for name, test in tests.items():
            score_pictures(None, self.output / f"{name}-bicubic.json", test)
            self._in_processes(
                [
                    (score_pictures, (run, run / f"{name}.json", test))
                    for variant in PICTURES
                    for run in self._runs(PICTURE_RUNS, variant)
                ]
            )
        parts = [
            "## P4: networks of pictures",
            f"Configuration compact, {self.picture_steps} steps, {self.seeds} seeds.",
        ]
        for name in tests:
            found = {v: self._scores(PICTURE_RUNS, v, f"{name}.json") for v in PICTURES}
            bicubic = [read_scores(self.output / f"{name}-bicubic.json")]
            with_bicubic = {BICUBIC: bicubic, **found}
            best, *others = PICTURES
            compared = [
                report.differences(f"{best} - {v}", found[best], found[v], streams=_TEST_STREAMS)
                for v in others
            ]
            parts += [
                f"### {name}: PSNR of Y in dB",
                report.mean_table(with_bicubic, _TEST_STREAMS, ClipScore.mean_psnr),
                "SSIM of Y:",
                report.mean_table(with_bicubic, _TEST_STREAMS, ClipScore.mean_ssim),
                "Paired differences, mean and 95 % interval over seeds and clips:",
                report.difference_table(compared, _TEST_STREAMS),
                f"![differences](pictures-{name}.png)\n",
            ]
            title = f"Trained on frames from codecs, or otherwise: {name}"
            report.plot_differences(self.output / f"pictures-{name}.png", compared, title)
        return "\n\n".join(parts)

    @property
    def _datasets(self) -> Path:
        return self.output / "datasets"

    def _encoder(self, config: str, seed: int) -> Path:
        return self.output / "encoders" / f"{config}-{seed}"

    def _pretrain(self, config: str) -> None:
        inputs = [*self.corpus.videos, *self.corpus.photos]
        dataset = make_dataset(self._datasets / "ranks", inputs, rank_recipe(), HELD_OUT)
        self._in_processes(
            [
                (
                    _pretrain_one,
                    (dataset, config, self._encoder(config, seed), seed, self.pretrain_steps),
                )
                for seed in self._seeds
            ]
        )

    @property
    def _seeds(self) -> range:
        return range(self.seeds)

    def _video_trainings(self, dataset: Path) -> list[Training]:
        config = TrainConfig(frames=7, crop=40, batch_size=1, steps=self.steps)
        views = {v.stream: stream_view(dataset, v.stream) for v in VIDEO.values() if v.stream}
        # Seed by seed: whoever stops early has whole pairs.
        return [
            Training(
                name=name,
                variant=variant,
                seed=seed,
                dataset=dataset,
                view=views.get(variant.stream),
                encoder=self._encoder("xs", seed) if variant.pretrained else None,
                config=config.model_copy(update={"trains_encoder": not variant.pretrained}),
                run=self._run(VIDEO_RUNS, name, seed),
            )
            for seed in self._seeds
            for name, variant in VIDEO.items()
        ]

    def _picture_trainings(self, dataset: Path) -> list[Training]:
        config = TrainConfig(frames=4, crop=32, batch_size=2, steps=self.picture_steps)
        views = {v.stream: stream_view(dataset, v.stream) for v in PICTURES.values()}
        return [
            Training(
                name=name,
                variant=variant,
                seed=seed,
                dataset=dataset,
                view=views[variant.stream],
                encoder=None,
                config=config,
                run=self._run(PICTURE_RUNS, name, seed),
            )
            for seed in self._seeds
            for name, variant in PICTURES.items()
        ]

    def _score_videos(self) -> None:
        folder, vid4 = self.output / "coded", self.corpus.vid4
        for variant in VIDEO.values():  # kept before processes look for them at once
            list(coded_clips(folder, vid4, [None, *CRFS], variant.flow))
        self._in_processes(
            [
                (_score_one, (run, folder, vid4, variant.flow, name == _WITH_OTHER_CODES))
                for name, variant in VIDEO.items()
                for run in self._runs(VIDEO_RUNS, name)
            ]
        )

    def _in_processes(self, jobs: Sequence[tuple[Callable[..., None], tuple]]) -> None:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.processes, context) as pool:
            for future in [pool.submit(function, *given) for function, given in jobs]:
                future.result()

    def _run(self, kind: str, name: str, seed: int) -> Path:
        return self.output / kind / f"{name.replace(' ', '-')}-{seed}"

    def _runs(self, kind: str, name: str) -> list[Path]:
        return [self._run(kind, name, seed) for seed in self._seeds]

    def _scores(self, kind: str, name: str, file: str) -> list[list[ClipScore]]:
        return [read_scores(run / file) for run in self._runs(kind, name)]


VIDEO_RUNS, PICTURE_RUNS = "video-runs", "picture-runs"


def _score_one(run: Path, folder: Path, vid4: Path, flow: str, other_codes: bool) -> None:
    score_clips(run, folder, vid4, flow, _FRAMES, other_codes=other_codes)


def _pretrain_one(dataset: Path, config_name: str, run: Path, seed: int, steps: int) -> None:
    torch.set_num_threads(1)
    done = run / "scores.json"
    if done.exists() and _json(done)["step"] == steps:
        return
    config = PretrainConfig(seed=seed, steps=steps)
    options = PretrainOptions(
        run=run,
        device="cpu",
        workers=0,
        validate_every=1000,
        resume=(run / STATE_NAME).exists(),
    )
    pretrain([Part(dataset)], encoder_of(config_name), config, options)


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())
