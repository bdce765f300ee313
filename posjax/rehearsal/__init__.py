"""A training step rehearsed for devices that are not there: compiled ahead of time, and weighed."""

from posjax.rehearsal.chips import CHIPS as CHIPS, Chip as Chip
from posjax.rehearsal.rehearse import (
    DeviceMemory as DeviceMemory,
    Rehearsal as Rehearsal,
    Work as Work,
    rehearse as rehearse,
)
from posjax.rehearsal.topology import devices as devices
from posjax.rehearsal.words import advice as advice, lines as lines
