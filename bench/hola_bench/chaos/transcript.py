"""What a client saw, event by event and connection by connection, with the time of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from hola.types import GenerateEvent, Summary, Tokens
from hola_bench.chaos.behaviour import Plan

DETACHED = "detached"
OVER = "over"


@dataclass(slots=True, kw_only=True)
class Connection:
    """One call: which router, the output position asked for, and what came until `why`."""

    began_s: float
    router: str
    call: str
    position: int
    events: list[tuple[float, GenerateEvent]] = field(default_factory=list)
    why: str = ""


@dataclass(slots=True, kw_only=True)
class Transcript:
    """One stream at its client; times are seconds since the start of the run."""

    plan: Plan
    request_id: str
    began_s: float
    connections: list[Connection] = field(default_factory=list)
    ended_s: float | None = None
    trouble: str = ""

    @property
    def stretches(self) -> list[list[float]]:
        """When events came, in order; another list for each time the client itself hung up."""
        found: list[list[float]] = [[]]
        for each in self.connections:
            found[-1] += [at for at, _ in each.events]
            if each.why == DETACHED:
                found.append([])
        return found

    @property
    def breaks(self) -> int:
        """Connections that ended neither by the client's will nor with the request."""
        return sum(each.why not in {DETACHED, OVER} for each in self.connections)

    @property
    def summary(self) -> Summary | None:
        """The stream's end, if it was a good one."""
        for each in self.connections:
            for _, event in each.events:
                if isinstance(event, Summary):
                    return event
        return None

    @property
    def received(self) -> int:
        """Tokens that came, again and again counted once."""
        ends = (
            event.position + len(event.tokens)
            for each in self.connections
            for _, event in each.events
            if isinstance(event, Tokens)
        )
        return max(ends, default=0)

    def told(self) -> list[str]:
        """The stream in words, one connection a line."""
        lines = [f"{self.request_id}: {self.plan}"]
        for each in self.connections:
            tokens = [event for _, event in each.events if isinstance(event, Tokens)]
            span = (
                f"{tokens[0].position}..{tokens[-1].position + len(tokens[-1].tokens)}"
                if tokens
                else "nothing"
            )
            last = (
                f"last {type(each.events[-1][1]).__name__} at {each.events[-1][0]:.2f} s"
                if (each.events)
                else "no event"
            )
            lines.append(
                f"  {each.began_s:.2f} s {each.call} from {each.position} at {each.router}: "
                f"tokens {span}, {last}; {each.why}"
            )
        if self.trouble:
            lines.append(f"  {self.trouble}")
        return lines
