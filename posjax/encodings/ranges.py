"""Types of fields that several encodings and schedules have: numbers with a range, and the words of its error."""

from __future__ import annotations

from typing import Annotated

from posjax.fields import Above, AtLeast

Base = Annotated[float, Above(1, ", usually 10,000")]
Deviation = Annotated[float, AtLeast(0, "a standard deviation")]
Factor = Annotated[float, AtLeast(1, hint=", the extended length divided by the trained one")]
TrainedLength = Annotated[int, AtLeast(1, "the trained length in tokens")]
