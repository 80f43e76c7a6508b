"""A report of drift as one HTML page that needs nothing besides itself."""

import time

from jinja2 import Environment

from flash.drift.look import HostReport
from flash.drift.report import cure_of, describe_access

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>qtrade drift: {{ drifted }} of {{ reports | length }} hosts</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-top: 1px solid #8884; }
code { font: 13px/1.4 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.drift { color: #c4320a; } .clean { color: #067647; } .quiet { opacity: .7; }
</style>
</head>
<body>
<h1>Drift: {{ drifted }} of {{ reports | length }} hosts</h1>
<p class="quiet">{{ at }} UTC</p>
<table>
<tr><th>host</th><th>environment</th><th>version</th><th>state</th><th>seconds</th></tr>
{% for report in reports %}
<tr><td><a href="#{{ report.host }}">{{ report.host }}</a></td><td>{{ report.environment }}</td><td>{{ report.version or "?" }}</td>
<td>{% if report.drifted %}<b class="drift">{{ report.findings | length }} drifted</b>{% else %}\
<span class="clean">no drift</span>{% endif %}\
{% if report.ignored %} <span class="quiet">({{ report.ignored | length }} ignored)</span>{% endif %}</td>
<td>{{ "%.1f" | format(report.took_s) }}</td></tr>
{% endfor %}
</table>
{% for report in reports if report.findings or report.ignored or report.expired_ignores or report.accesses %}
<h2 id="{{ report.host }}">{{ report.host }}</h2>
{% if report.findings %}
<table>
<tr><th>kind</th><th>subject</th><th>what</th><th>expected</th><th>found</th><th>cure</th></tr>
{% for one in report.findings %}
<tr><td>{{ one.kind }}</td><td><code>{{ one.subject }}</code></td><td>{{ one.what }}</td><td><code>{{ one.expected }}</code></td>\
<td><code>{{ one.found }}</code></td><td>{{ cure_of(one) }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% for one in report.ignored %}
<p class="quiet">ignored until {{ one.expires }} ({{ one.by }}: {{ one.reason }}):
{{ one.finding.kind }} <code>{{ one.finding.subject }}</code></p>
{% endfor %}
{% for line in report.expired_ignores %}
<p class="drift">{{ line }}</p>
{% endfor %}
{% for one in report.accesses %}
<p class="quiet">{{ describe_access(one) }}</p>
{% endfor %}
{% endfor %}
</body>
</html>
"""


def render_page(reports: tuple[HostReport, ...]) -> str:
    """Return the page. What hosts say is escaped, and no script runs in it."""
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)
    at = max((report.at for report in reports), default=0.0)
    return page.render(
        reports=reports,
        drifted=sum(report.drifted for report in reports),
        at=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)),
        cure_of=cure_of,
        describe_access=describe_access,
    )
