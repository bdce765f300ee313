"""What the kernels take, known without them: whoever only asks need not import Pallas."""

HEAD_SIZE = 256
"""The largest head size that there are tiles for on a GPU."""
