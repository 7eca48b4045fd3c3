"""The template of the report's page (Jinja). Wide tables scroll inside themselves: phones show the rest."""

STYLE = """
:root{--ink:#1a1a1a;--soft:#666;--line:#d8d8d8;--mark:#eef5fb}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);max-width:80rem;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;margin:.5rem 0 0}h2{font-size:1.3rem;margin:2.5rem 0 .3rem;scroll-margin-top:1rem}
.soft{color:var(--soft);margin:.2rem 0;font-size:.9rem;overflow-wrap:anywhere}
ul.findings{padding-left:1.2rem}ul.findings li{margin:.25rem 0}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:6px;margin:1rem 0}
table{border-collapse:collapse;font-size:.9rem;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.45rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child td,tr:last-child th{border-bottom:0}thead th{white-space:normal;vertical-align:bottom}
th:first-child{text-align:left;position:sticky;left:0;background:#fff;font-weight:600}
td a{color:inherit;text-decoration-color:#999}
.text{text-align:left}td.text{white-space:normal;min-width:15rem;color:var(--soft);font-size:.8rem}
tr.best td,tr.best th{background:var(--mark)}
figure{margin:1.5rem 0}figure img{max-width:100%;height:auto;display:block}
figcaption{font-size:.9rem;color:var(--soft);max-width:60rem}figcaption b{color:var(--ink)}
pre{font-size:.75rem;margin:0;padding:.6rem}:target{background:#fff7d6}
nav a{margin-right:1rem}a{color:#0b5394}code{overflow-wrap:anywhere;font-size:.9em}
@media(max-width:40rem){.picture{overflow-x:auto}figure img{max-width:none;width:40rem}
body{font-size:15px;padding:.7rem}th,td{padding:.4rem .5rem}
th:first-child{white-space:normal;min-width:7.5rem}}
"""

PAGE = """{% macro linked(value, path) %}
{% if path in chains.of %}<a href="#{{ chains.of[path][0] }}">{{ value }}</a>{% else %}{{ value }}{% endif %}
{% endmacro %}
{% macro chain(path) %}
{% if path in chains.of %} {{ linked(chains.of[path][1], path) }}{% endif %}
{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Ambient Diffusion Omni, scale {{ scale }}: results</title>
<style>""" + STYLE + """</style>
</head>
<body>
<h1>Ambient Diffusion Omni: results at the scale {{ scale }}</h1>
<p class="soft">Made {{ ended }} from {{ commits }}.
Distances to the full clean dataset: lower is better.</p>
{% if sections | length > 1 or others %}
<nav class="soft">
{% for one in sections %}<a href="#{{ one.name }}">{{ one.title.split(":")[0] }}</a>{% endfor %}
{% if others %}<a href="#figures">Figures</a>{% endif %}
</nav>
{% endif %}
{% if read %}
<section id="images">
<h2>Images read</h2>
<ul class="findings">
{% for one in read %}
<li><b>{{ one.name }}</b>: {{ "{:,}".format(one.images) }} of {{ "{:,}".format(one.files) }} image files.
Converted: {{ one.converted | join("; ") or "nothing" }}.
Left out: {{ one.left_out | join("; ") or "nothing" }}.{{ chain(one.path) }}</li>
{% endfor %}
</ul>
</section>
{% endif %}
{% for one in sections %}
<section id="{{ one.name }}">
<h2>{{ one.title }}</h2>
<p class="soft">Ours: {{ one.targets }}.
{% if one.paper %} {{ one.paper[0] | upper }}{{ one.paper[1:] }}.{% endif %}</p>
<ul class="findings">
{% for sentence in one.findings %}
<li>{{ sentence.text }}{{ chain(sentence.path) }}</li>
{% endfor %}
</ul>
<div class="wide"><table>
<thead><tr><th scope="col">method</th>
{% for title in one.table.columns %}<th scope="col">{{ title }}</th>{% endfor %}
<th scope="col">provenance</th><th scope="col" class="text">protocol of ours</th></tr></thead>
<tbody>
{% for row in one.table.rows %}
{% set story = one.audit ~ "#t0-" ~ loop.index0 %}
<tr{% if row.best %} class="best"{% endif %}><th scope="row">{{ row.label }}</th>
{% for value in row.cells %}<td><a href="{{ story }}">{{ value }}</a></td>{% endfor %}
<td><a href="{{ story }}">level {{ one.level }}</a></td>
<td class="text">{{ row.protocol }}{% if row.note %}. Paper: {{ row.note }}{% endif %}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="soft">{{ one.table.notes | join(" ") }}
<a href="{{ one.csv }}">{{ one.csv }}</a> holds every column. Provenance levels: 1 intact,
2 closed to raw data, 3 derived again from what it was made from;
<a href="{{ one.audit }}">{{ one.audit }}</a> shows each cell's chain.</p>
{% for known in one.landmarks %}
<h3>What known images score: {{ known.label }}</h3>
<div class="wide"><table>
<thead><tr><th scope="col">images</th><th scope="col">metric</th><th scope="col">distance</th>
<th scope="col">± draws</th><th scope="col">how many</th><th scope="col">compared with</th></tr></thead>
<tbody>
{% for row in known.rows %}
<tr><th scope="row">{{ row.images }}</th>
{% for value in row.cells %}<td>{{ linked(value, known.path) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="soft">Real images in the place of samples: held-out good ones are the floor, which no model that
draws new images is expected to pass; a model of all images alike would at best be where both are mixed.
Distances grow as fewer images are compared: read them beside a score of as many samples.
<a href="{{ known.csv }}">{{ known.csv }}</a>{{ chain(known.path) }}</p>
{% endfor %}
{% for figure in one.pictures %}
<figure id="{{ figure.name }}"><div class="picture"><img alt="{{ one.title }}: {{ figure.title | lower }}"
 src="data:image/png;base64,{{ figure.data }}"></div>
<figcaption><b>{{ figure.title }}.</b> {{ figure.caption }}
<a href="{{ figure.pdf }}">PDF</a>{{ chain(figure.path) }}</figcaption></figure>
{% endfor %}
</section>
{% endfor %}
{% if others %}
<section id="figures">
<h2>Figures</h2>
{% for figure in others %}
<figure id="{{ figure.name }}"><div class="picture"><img alt="{{ figure.title }}"
 src="data:image/png;base64,{{ figure.data }}"></div>
<figcaption><b>{{ figure.title }}.</b> {{ figure.caption }}
<a href="{{ figure.pdf }}">PDF</a>{{ chain(figure.path) }}</figcaption></figure>
{% endfor %}
</section>
{% endif %}
{% if chains.lines %}
<section id="chains">
<h2>Where everything comes from</h2>
<p class="soft">Each file is followed by those that it was made from, down to raw data, which have their
SHA-256. The levels are those of the audit when this page was made, in which figures were not drawn
again.</p>
<div class="wide"><pre>
{% for anchor, text in chains.lines %}
<span{% if anchor %} id="{{ anchor }}"{% endif %}>{{ text }}
</span>
{%- endfor %}
</pre></div>
</section>
{% endif %}
<p class="soft">Check it: <code>python -m ambient audit {{ folder }}</code> follows every number back to raw
images.</p>
</body>
</html>
"""
