"""How a release goes through an environment: the share of each wave, how long it is watched, and how many hosts may be under way."""

from datetime import datetime, time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from qtrade.manifest.base import HostRole, Model

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# A number of hosts, or a share of those of the role.
Cap = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^([1-9][0-9]?|100)%$")]
_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_DAY = timedelta(days=1)


class Window(Model):
    """When hosts may be started: on these days, from one time of day up to another; past midnight where `until` is not later."""

    days: tuple[Day, ...] = Field(default=DAYS, min_length=1)
    start: str = Field(
        default="00:00", pattern=_CLOCK, description="time of day, in quotes: YAML reads 22:00 as a number else"
    )
    until: str = Field(
        default="00:00", pattern=_CLOCK, description="time of day, in quotes; that of `start` is a whole day"
    )
    time_zone: str = Field(default="UTC", description="such as Europe/Zurich")

    @field_validator("start", "until", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        if isinstance(value, int):
            raise ValueError(  # noqa: TRY004 - pydantic takes it for a fault of the value
                f'write it in quotes, such as "22:00": without, YAML reads {value // 60:02}:{value % 60:02} as the number {value}'
            )
        return value

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {name!r:.80}; write one such as Europe/Zurich or UTC") from error
        return name

    def opens(self, now: float) -> float:
        """Return when it is open next, in Unix seconds: `now` itself while it is open."""
        zone = ZoneInfo(self.time_zone)
        here = datetime.fromtimestamp(now, zone)
        for offset in range(-1, 9):
            day = (here + offset * _DAY).date()
            if DAYS[day.weekday()] not in self.days:
                continue
            begins = datetime.combine(day, time.fromisoformat(self.start), zone).timestamp()
            last = day if self.until > self.start else day + _DAY
            if now < datetime.combine(last, time.fromisoformat(self.until), zone).timestamp():
                return max(begins, now)
        raise AssertionError("a window opens every week")


class Step(Model):
    """A wave: up to which share of all hosts it reaches, and how long they are watched then."""

    percent: int = Field(ge=1, le=100)
    soak_s: int = Field(default=1800, ge=0)


class RolloutPolicy(Model):
    """How `qtrade rollout` brings a version to the hosts of an environment. What is not said is careful.

    The canary is of each class, which is provider, hardware class and role, some hosts. With `safe_mode`, one of them alone comes first:
    nothing else starts before it is COMMITTED and was watched. Then come the `steps`. After each wave its hosts are watched for the soak
    time, and only a pass goes on.
    """

    canaries_per_class: int = Field(default=1, ge=1, le=100)
    first_soak_s: int = Field(default=600, ge=0, description="how long the first host alone is watched, in safe mode")
    canary_soak_s: int = Field(default=3600, ge=0)
    steps: tuple[Step, ...] = Field(
        default=(Step(percent=10), Step(percent=25), Step(percent=50), Step(percent=100)), min_length=1
    )
    safe_mode: bool = True
    max_parallel: int = Field(default=8, ge=1, le=256, description="hosts under way at once, in all")
    max_unavailable: dict[HostRole, Cap] = Field(
        default_factory=dict,
        description="hosts of a role under way at once, a number or a share such as 5%; 1 where nothing is said",
    )
    per_account: int = Field(default=4, ge=1, description="hosts under way at once of one account at a provider")
    windows: tuple[Window, ...] = Field(
        default=(), description="when hosts may be started; any time where there is none"
    )
    failure_limit: int = Field(
        default=0,
        ge=0,
        description="hosts that may fail on the new version before it counts as bad; they fell back or got stuck",
    )
    skip_percent: int = Field(
        default=5,
        ge=0,
        le=100,
        description="share of hosts that may be passed over, still on what they ran; more pauses",
    )
    judge_every_s: int = Field(
        default=15, ge=1, description="seconds from one look at hosts, and the judge's word on it, to the next"
    )
    controls_per_class: int = Field(
        default=3, ge=1, le=50, description="hosts of each class that are observed to compare with"
    )
    host_deadline_s: int = Field(
        default=4 * 3600, ge=60, description="how long one host may take before it counts as stuck"
    )
    progress_deadline_s: int = Field(
        default=24 * 3600, ge=60, description="pauses when no host changed for so long, though the window was open"
    )

    @model_validator(mode="after")
    def _steps_rise(self) -> "RolloutPolicy":
        shares = [step.percent for step in self.steps]
        if shares != sorted(set(shares)) or shares[-1] != 100:
            raise ValueError(f"steps go up to 100 percent, each further than the one before, not {shares}")
        return self

    def cap_of(self, role: HostRole, hosts: int) -> int:
        """Return how many of a role's hosts may be under way at once: a share is rounded down, and is at least one."""
        cap = self.max_unavailable.get(role, 1)
        if isinstance(cap, int):
            return cap
        return max(1, hosts * int(cap.removesuffix("%")) // 100)

    def opens(self, now: float) -> float:
        """Return when a host may be started, in Unix seconds: `now` itself in a window."""
        return min((window.opens(now) for window in self.windows), default=now)
