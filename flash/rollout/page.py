"""A rollout as an HTML page that needs nothing besides itself: whole without a script, and kept up to date by a small one."""

import base64
import hashlib

from jinja2 import Environment

from flash.rollout.progress import HostState
from flash.rollout.status import HostStatus, RolloutStatus
from qtrade.look import say_time

_REFRESH_MS = 3000
_SCRIPT = f"""
const main = document.querySelector("main");
async function refresh() {{
  try {{
    const answer = await fetch(location.pathname + "?part=main", {{cache: "no-store"}});
    if (!answer.ok) throw new Error(answer.status);
    main.innerHTML = await answer.text();
    document.body.classList.remove("stale");
  }} catch (error) {{
    document.body.classList.add("stale");
  }}
}}
setInterval(refresh, {_REFRESH_MS});
"""
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
CONTENT_SECURITY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'; connect-src 'self'; base-uri 'none'"
)
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<noscript><meta http-equiv="refresh" content="10"></noscript>
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-top: 1px solid #8884; }
.hosts { display: flex; flex-wrap: wrap; gap: 3px; list-style: none; margin: .3rem 0; padding: 0; }
.hosts li { width: 12px; height: 12px; border-radius: 2px; background: #8886; }
.hosts .COMMITTED { background: #17a34a; } .hosts .STARTED { background: #2f7bf6; } .hosts .RETURNING { background: #e3a008; }
.hosts .RETURNED { background: #b7791f; } .hosts .SKIPPED { background: #555; } .hosts .FELL_BACK, .hosts .STUCK { background: #d92d20; }
.bad { color: #c4320a; } .good { color: #067647; } .quiet { opacity: .7; }
.stale main { opacity: .4; }
</style>
</head>
<body>
<main>
{{ main }}
</main>
<script>{{ script }}</script>
</body>
</html>
"""
_MAIN = """\
{% if status is none %}
<h1>{{ environment }}</h1>
<p>There was no rollout yet.</p>
{% else %}
<h1>{{ status.recipe }} {{ status.version }} to {{ status.environment }}</h1>
<p><b id="phase" class="{{ 'good' if status.phase in ('DONE', 'UNDONE') else 'bad' if status.phase in ('FAILED', 'RETURNING') else '' }}">\
{{ status.phase }}</b>, wave {{ status.wave }} of {{ status.waves | length }}; {{ status.holder or "nobody" }} runs it; \
last change {{ clock(status.moved) }}</p>
{% if status.why %}<p class="bad">{{ status.why }}</p>{% endif %}
{% if status.blocked %}<p class="bad">The image is blocked: {{ status.failure }}</p>{% endif %}
{% if status.findings %}
<table>
<tr><th>gate</th><th>host</th><th>why</th><th>sample</th></tr>
{% for one in status.findings %}
<tr><td>{{ one.gate }}</td><td>{{ one.host }}</td><td>{{ one.why }}</td>\
<td>{% if one.sample %}{{ one.sample.metric }} {{ one.sample.value }} {{ one.sample.detail }}{% endif %}</td></tr>
{% endfor %}
</table>
{% endif %}
<table>
<tr><th>wave</th><th>judge</th><th>hosts</th></tr>
{% for wave in status.waves %}
<tr><td>{{ loop.index }} {{ wave.name }}</td><td>{{ wave.verdict or "-" }}</td>\
<td>{% for state, count in wave.hosts.items() %}{{ count }} {{ state }}{{ ", " if not loop.last }}{% endfor %}
<ul class="hosts">
{% for host in by_wave[loop.index] %}<li class="{{ host.state }}" title="{{ host.name }} ({{ host.class_name }}): {{ host.state }}\
{{ ', ' + host.why if host.why }}"></li>{% endfor %}

</ul></td></tr>
{% endfor %}
</table>
{% if odd %}
<h2>Hosts to look at</h2>
<table>
<tr><th>host</th><th>class</th><th>state</th><th>since</th><th>why</th></tr>
{% for host in odd %}
<tr><td>{{ host.name }}</td><td>{{ host.class_name }}</td><td>{{ host.state }}</td><td>{{ clock(host.at) }}</td><td>{{ host.why }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% endif %}
<p class="quiet">{{ clock(now) }}</p>
"""
_JINJA = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_ODD = frozenset({HostState.STARTED, HostState.RETURNING, HostState.SKIPPED, HostState.FELL_BACK, HostState.STUCK})


def render_main(environment: str, status: RolloutStatus | None, *, now: float) -> str:
    """Return what changes of the page. What hosts say is escaped."""
    by_wave: dict[int, list[HostStatus]] = {}
    for host in status.hosts if status else ():
        by_wave.setdefault(host.wave, []).append(host)
    numbers = range(1, len(status.waves) + 1) if status else ()
    return _JINJA.from_string(_MAIN).render(
        environment=environment,
        status=status,
        by_wave={number: by_wave.get(number, []) for number in numbers},
        odd=[one for one in status.hosts if one.state in _ODD] if status else [],
        now=now,
        clock=say_time,
    )


def render_page(environment: str, status: RolloutStatus | None, *, now: float) -> str:
    """Return the whole page."""
    phase = status.phase if status else "no rollout"
    page = Environment(autoescape=False).from_string(_PAGE)  # noqa: S701 - its parts are escaped, or ours
    title = _JINJA.from_string("qtrade rollout {{ environment }}: {{ phase }}").render(
        environment=environment, phase=phase
    )
    return page.render(title=title, main=render_main(environment, status, now=now), script=_SCRIPT)
