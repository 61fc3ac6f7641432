"""The model card of a run: what the weights are, what they were trained on, how well they do.

In the form of the Hugging Face Hub: a README.md that begins with YAML.
"""

import json
from collections.abc import Sequence

import torch
import yaml

from schemas.wording import counted
from training.checkpoint import CONFIG_NAME, WEIGHTS_NAME, RunConfig, TrainedOn
from training.validation import StreamScore

CARD_NAME = "README.md"

_TITLES = {
    "cavsr": "Recurrent network after CAVSR",
    "compact": "Compact residual network",
    "rrdb": "RRDBNet",
}


def model_card(config: RunConfig, step: int, parameters: int, scores: Sequence[StreamScore]) -> str:
    """The text of a model card.

    Args:
        config: of the run.
        step: optimizer steps taken.
        parameters: of the network.
        scores: of the last validation.
    """
    front = {
        "library_name": "pytorch",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "video-super-resolution", "compressed-video"],
    }
    model, training = config.model, config.training
    shown = "videos" if model.kind == "cavsr" else "pictures"
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {_TITLES[model.kind]}, x{model.scale}, {parameters:,} parameters

Super-resolution of compressed {shown}. {counted(step, "step")} of {training.steps} taken; the
weights are the moving average of the trained ones (decay {training.ema_decay:g}).

## Use

```python
from pathlib import Path
from training.checkpoint import load_model

network = load_model(Path("."))  # this folder: {CONFIG_NAME} and {WEIGHTS_NAME}
# (B, T, 3, h, w) RGB in [0, 1]; of the codec, where known: frame types, and motion into the frame
# before and the frame behind
hr = network(lr, frame_type, flow_previous, flow_next)
```

or `python -m training.restore in.mp4 out.mp4 --weights .`

## Training data

{_data(config.data)}

The licences are those of the datasets and their sources; see each dataset's card.

## Validation

PSNR in dB on the first dataset's validation split, bicubic interpolation beside it.

{_scores(scores)}

## Configuration

```json
{json.dumps({"model": model.model_dump(), "training": training.model_dump()}, indent=2)}
```

Trained with PyTorch {torch.__version__}.
"""


def _data(data: Sequence[TrainedOn]) -> str:
    lines = [
        "| dataset | manifest (SHA-256) | ratio | view (SHA-256) |",
        "| --- | --- | --- | --- |",
    ]
    for part in data:
        view = f"`{part.view_sha256}`" if part.view_sha256 else "the whole split"
        cells = [part.dataset_name, f"`{part.manifest_sha256}`", str(part.ratio), view]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores(scores: Sequence[StreamScore]) -> str:
    if not scores:
        return "The dataset has no validation split."
    lines = ["| stream | Y, bicubic | Y | RGB, bicubic | RGB |", "| --- | --- | --- | --- | --- |"]
    for x in scores:
        values = [x.bicubic_psnr_y, x.model_psnr_y, x.bicubic_psnr_rgb, x.model_psnr_rgb]
        lines.append(f"| {x.stream} | {' | '.join(f'{value:.2f}' for value in values)} |")
    return "\n".join(lines)
