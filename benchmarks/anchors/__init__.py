"""How others degrade on a CPU: the chains that ours is timed against.

Written anew after what two released chains do, step by step, with their batching, libraries and
formulas, but without the code: VCISR's (arXiv 2311.00996; torch on a batch, then FFmpeg's command
line and PNG files) and RealBasicVSR's as mmagic has it (CVPR 2022; NumPy and OpenCV frame by
frame, then PyAV). What only changes pixels and not the time is done right instead of as released:
channels are RGB, a frame that FFmpeg does not return is an error.
"""
