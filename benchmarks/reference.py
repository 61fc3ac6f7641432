"""FFmpeg's command line as the reference that PyAV is held against.

The only user of ffmpeg-python. The binary is imageio-ffmpeg's, another build than the one in
PyAV's wheel: decoders agree bit for bit, encoders as well as two versions of x264 do.
"""

import subprocess
from collections.abc import Mapping
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np

_SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
_TO_YUV = {
    "flags": _SCALE_FLAGS,
    "out_color_matrix": "bt709",
    "out_range": "tv",
    "out_chroma_loc": "left",
}
_TO_RGB = {
    "flags": _SCALE_FLAGS,
    "in_color_matrix": "bt709",
    "in_range": "tv",
    "in_chroma_loc": "left",
    "out_range": "pc",
}
_COLOUR_TAGS = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
_OUTPUT_TAGS = {**_COLOUR_TAGS, "color_range": "tv"}
_FRAME_TAGS = {**_COLOUR_TAGS, "range": "tv"}  # what the filter setparams calls it


def reference_round_trip(
    frames: np.ndarray,
    encoder: str,
    options: Mapping[str, str],
    pixel_format: str = "yuv420p",
    fps: int = 25,
) -> tuple[bytes, np.ndarray]:
    """Encode a clip and decode it again, colour conversion included.

    Args:
        frames: (T, H, W, 3) uint8 RGB, H and W even.
        encoder: FFmpeg's name of it, such as libx264.
        options: the encoder's, without the leading dash, such as `{"crf": "25"}`.
        pixel_format: what is encoded.
        fps: nominal frame rate.

    Returns:
        The bitstream in NUT, and the decoded frames, (T, H, W, 3) uint8 RGB.

    Raises:
        RuntimeError: if FFmpeg fails; the message is FFmpeg's.
    """
    _, height, width, _ = frames.shape
    rgb = ffmpeg.input("pipe:", **_raw_video("rgb24", height, width, fps))
    yuv = rgb.filter("scale", **_TO_YUV).filter("format", pix_fmts=pixel_format)
    bitstream = _run(_encoded(yuv, encoder, options), frames.tobytes())
    rgb = ffmpeg.input("pipe:", format="nut").filter("scale", **_TO_RGB)
    decoded = _run(_raw_output(rgb, "rgb24"), bitstream)
    return bitstream, np.frombuffer(decoded, np.uint8).reshape(-1, height, width, 3)


def reference_encode(
    planes: bytes,
    height: int,
    width: int,
    encoder: str,
    options: Mapping[str, str],
    pixel_format: str = "yuv420p",
    fps: int = 25,
) -> bytes:
    """Encode frames that are YUV already.

    Args:
        planes: the frames one after the other, each as its Y, U and V planes without padding.
        height: rows of the Y plane.
        width: columns of the Y plane.
        encoder: FFmpeg's name of it.
        options: the encoder's.
        pixel_format: of the planes and of the stream.
        fps: nominal frame rate.

    Returns:
        The bitstream in NUT.

    Raises:
        RuntimeError: if FFmpeg fails.
    """
    yuv = ffmpeg.input("pipe:", **_raw_video(pixel_format, height, width, fps))
    # FFmpeg converts what is not tagged as the output is to be.
    tagged = yuv.filter("setparams", **_FRAME_TAGS)
    return _run(_encoded(tagged, encoder, options), planes)


def reference_decode(bitstream: bytes, container: str = "nut") -> bytes:
    """Decode a video to the planes that are coded in it.

    Args:
        bitstream: one video stream.
        container: FFmpeg's name of what it is in: nut, or h264 for a bare stream.

    Returns:
        The frames one after the other, each as its Y, U and V planes without padding.

    Raises:
        RuntimeError: if FFmpeg fails.
    """
    return _run(_raw_output(ffmpeg.input("pipe:", format=container), None), bitstream)


def run_ffmpeg(*arguments: str) -> None:
    """Run the command line as given, on files.

    Raises:
        RuntimeError: if FFmpeg fails; the message is FFmpeg's.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", *arguments]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"FFmpeg failed: {done.stderr.strip()}")


def _raw_video(pixel_format: str, height: int, width: int, fps: int) -> dict[str, Any]:
    return {
        "format": "rawvideo",
        "pix_fmt": pixel_format,
        "s": f"{width}x{height}",
        "framerate": fps,
    }


def _encoded(video: Any, encoder: str, options: Mapping[str, str]) -> Any:
    # One thread: with more, x264 and the MPEG encoders cut frames into slices.
    pins = {"format": "nut", "fflags": "+bitexact", "fps_mode": "passthrough", "threads": 1}
    return video.output("pipe:", vcodec=encoder, **pins, **_OUTPUT_TAGS, **options)


def _raw_output(video: Any, pixel_format: str | None) -> Any:
    # Without a name, rawvideo takes the decoder's format as it is.
    wanted = {"pix_fmt": pixel_format} if pixel_format else {}
    return video.output("pipe:", format="rawvideo", fps_mode="passthrough", **wanted)


def _run(command: Any, standard_input: bytes) -> bytes:
    try:
        output, _ = command.global_args("-loglevel", "error").run(
            cmd=imageio_ffmpeg.get_ffmpeg_exe(),
            input=standard_input,
            capture_stdout=True,
            capture_stderr=True,
        )
    except ffmpeg.Error as error:
        raise RuntimeError(f"FFmpeg failed: {error.stderr.decode().strip()}") from error
    return output
