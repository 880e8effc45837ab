"""What a rule would have done in the last day, from the samples of that day."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from console.monitoring import evaluation, reading
from console.monitoring.catalogue import SERIES_BY_NAME
from console.monitoring.models import Rule
from tenants import clock

SPAN = timedelta(days=1)
STEP_S = 60


@dataclass(frozen=True, slots=True)
class Preview:
    """fired: when it would have begun to fire. newest: its value now, None where there is none."""

    fired: list[datetime]
    firing_s: int
    newest: float | None
    has_samples: bool


def preview(rule: Rule) -> Preview:
    """Hold the rule, saved or not, against the samples of the last day."""
    series, until = SERIES_BY_NAME[rule.series], clock.now()
    parts = reading.parts([rule.series], since=until - SPAN, until=until, step_s=STEP_S)
    window = max(1, rule.window_s // STEP_S)
    held_s, clear_s, firing_s, is_firing = 0.0, 0.0, 0, False
    fired: list[datetime] = []
    value = None
    for number, (start, _part) in enumerate(parts):
        seen = [part for _start, part in parts[max(0, number + 1 - window) : number + 1]]
        value = evaluation.aggregate(series, rule.aggregation, seen[::-1], a_point=1)
        if evaluation.holds(rule, value):
            clear_s = 0.0
            if not is_firing and held_s >= rule.for_s:
                is_firing = True
                fired.append(start + timedelta(seconds=STEP_S))
            held_s += STEP_S
        else:
            held_s, clear_s = 0.0, clear_s + STEP_S
            is_firing = is_firing and clear_s < evaluation.CLEAR_S
        firing_s += STEP_S if is_firing else 0
    return Preview(fired=fired, firing_s=firing_s, newest=value, has_samples=bool(parts))
