"""How the rows of any evaluation are called: by the label of a method and the variant that they were measured of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from posjax.report import marks
from posjax.report.values import Report, ReportedRun, ReportedVariant
from posjax.results import Measurement

Method = tuple[str, str]
"""A label and a variant's name, empty where a row has none."""


@dataclasses.dataclass(frozen=True)
class Names:
    """The variants of a report's other evaluations by name, each beside a run that has it, in the order of tables."""

    variants: Mapping[str, tuple[ReportedRun, ReportedVariant]]

    @classmethod
    def of(cls, report: Report) -> Names:
        """The names of one report."""
        found: dict[str, tuple[ReportedRun, ReportedVariant]] = {}
        for run in report.other:
            for variant in run.variants:
                found.setdefault(variant.name, (run, variant))
        return cls(found)

    def kind(self, variant: str) -> str:
        """The kind of a variant; what is measured of none is measured of the model as trained."""
        if variant not in self.variants:
            return "raw"
        return self.variants[variant][1].kind

    def short(self, method: Method) -> str:
        """The name of a variant where its method is plain from the place."""
        label, variant = method
        if self.kind(variant) == "raw":
            return label
        return marks.short(*self.variants[variant])

    def full(self, method: Method) -> str:
        """ "RoPE + Yarn" for a variant, the label alone for the model as trained."""
        label, variant = method
        if self.kind(variant) == "raw":
            return label
        run, known = self.variants[variant]
        # A label may say more than its run's, whose place it takes.
        return label + marks.name(run, known).removeprefix(run.label)

    def methods(self, rows: Iterable[Measurement]) -> list[Method]:
        """The methods that rows have, each label's variants together, in the order of the report's tables."""
        found = list(dict.fromkeys(map(method_of, rows)))
        # Sorted by places and not by names, so that tables of one report list methods alike.
        labels = list(dict.fromkeys(label for label, _ in found))
        variants = list(self.variants)
        return sorted(found, key=lambda method: (labels.index(method[0]), _place(variants, method[1])))


def method_of(row: Measurement) -> Method:
    """Whose number a row is."""
    return str(row.at("label")), str(row.at("variant") or "")


def _place(variants: list[str], variant: str) -> int:
    # The model as trained stands before what was tried on it.
    if variant not in variants:
        return -1
    return variants.index(variant)
