"""Small templates that each exercise a part of Jinja or of Python, for goldens.py."""

# Values that expressions are tried on.
STRINGS = ["''", "'abc'", "'  a b  c '", "'Hello, World'", "'éÀ ß 漢字😀'", "'a,b,,c'", "'12'", "'-3.5'",
           "'x\\ny\\r\\nz\\n'", "'it\\'s'", "'\"q\"'", "'a\\\\b'", "'tab\\t'", "'TITLE case-word (x'"]
LISTS = ["[]", "[1]", "[3, 1, 2]", "['b', 'A', 'c', 'a']", "[1, 2.5, True]", "[[1, 2], [3]]",
         "[{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'y'}, {'a': 1}]", "('x', 'y')", "(1,)", "()", "range(5)"]
DICTS = ["{}", "{'b': 1, 'a': 2, 'C': 3}", "{'x': {'y': [1, {'z': None}]}}", "{1: 'one', 2.0: 'two', none: 3, true: 4}"]
SCALARS = ["none", "true", "false", "0", "1", "-7", "42", "3.0", "2.5", "-0.0", "1e20", "1.5e-7", "123456789012345678",
           "missing"]
ALL = STRINGS + LISTS + DICTS + SCALARS

STRING_CALLS = [
    ".strip()", ".lstrip()", ".rstrip()", ".strip('ac ')", ".upper()", ".lower()", ".title()", ".capitalize()",
    ".swapcase()", ".casefold()", ".split()", ".split(',')", ".split(' ', 1)", ".split(None, 1)", ".rsplit(None, 1)",
    ".rsplit(',', 1)", ".split(maxsplit=1)", ".split(sep='b')", ".splitlines()", ".splitlines(true)",
    ".replace('a', 'bb')", ".replace('a', 'b', 1)", ".replace('', '-')", ".startswith('a')", ".startswith(('x', 'H'))",
    ".endswith('c')", ".find('b')", ".find('zz')", ".find('b', 2)", ".rfind('b')", ".rfind('a', 0, -1)", ".count('a')",
    ".count('')", ".index('b')", ".rindex('c')", ".isdigit()", ".isalpha()", ".isalnum()", ".isspace()", ".islower()",
    ".isupper()", ".istitle()", ".isnumeric()", ".isdecimal()", ".isascii()", ".center(9)", ".center(10, '*')",
    ".ljust(8) ~ '|'", ".rjust(8, '.')", ".zfill(6)", ".partition(' ')", ".rpartition('b')", ".removeprefix('a')",
    ".removesuffix('c')", ".expandtabs(4)", ".join(['1', '2', '3'])", ".join('xyz')", "[0]", "[-1]", "[1:]", "[:-1]",
    "[::-1]", "[1:3]", "[::2]", "[-2:]", "[5:2]", "[99]", "|length", "|reverse", "|first", "|last", "|list",
    "|wordcount", "|title", "|capitalize", "|upper", "|lower", "|trim", "|trim('a')", "|replace('a', 'b')",
    "|replace('a', 'b', 1)", "|int", "|float", "|int(-1)", "|int(0, 16)", "|indent", "|indent(2, true)",
    "|indent(2, true, true)", "|indent('> ')", "|truncate(5)", "|truncate(6, true)", "|truncate(4, false, '.', 0)",
    "|center(12) ~ '|'", "|string", "|tojson", "|sort", "|unique|list", "|join('-')", "|map('upper')|list",
    "|batch(2)|list", "|select('ne', 'a')|list", " * 2", " ~ 1", " + 'z'", " in 'abc'", " == 'abc'", " < 'b'",
    " is string", " is sequence", " is iterable", " is mapping", " is number", " is lower", " is upper", " is none",
    " is defined", ".format(1)", " % 1", "|format(1)", "|e", "|default('d')", "|default('d', true)", "|escape ~ ''",
]
LIST_CALLS = [
    "|length", "|count", "|first", "|last", "|list", "|sort", "|sort(reverse=true)", "|sort(case_sensitive=true)",
    "|sort(attribute='a')", "|sort(attribute='a,b')", "|reverse|list", "|unique|list", "|join", "|join(', ')",
    "|join('-', attribute='a')", "|map('string')|list", "|map(attribute='a')|list", "|map(attribute='b', default='-')|list",
    "|map('default', 9)|list", "|select|list", "|reject|list", "|select('odd')|list", "|reject('equalto', 1)|list",
    "|selectattr('a')|list", "|selectattr('a', 'equalto', 1)|list", "|rejectattr('a', 'gt', 1)|list",
    "|selectattr('b', 'defined')|list", "|rejectattr('b', 'undefined')|map(attribute='a')|list", "|groupby('a')",
    "|batch(2)|list", "|batch(2, 'x')|list", "|slice(2)|list", "|slice(2, 'x')|list", "|sum", "|sum(start=10)",
    "|sum(attribute='a')", "|min", "|max", "|max(attribute='a')", "|tojson", "|tojson(indent=2)", "|string", "|pprint",
    "[0]", "[-1]", "[1:]", "[::-1]", "[:1]", "[7]", ".count(1)", ".index(1)", ".copy()", ".append(1)", " + [9]",
    " + (9,)", " * 2", " ~ ''", " in [[1]]", " == [1]", " < [2]", " is sequence", " is iterable", " is mapping",
    " is string", " is callable", "|map('upper')", "|dictsort", "|items|list", "|default('d', true)", "|attr('count')",
    " and 1", " or 1", "|abs", "|round", "|int", "|float", ".x", "['x']", "|unique(attribute='a')|list", "|upper",
    "|trim", "|replace('1', '2')", "|xmlattr", "|random is defined",
]
DICT_CALLS = [
    "|length", "|list", "|first", "|last", "|items|list", "|dictsort", "|dictsort(true)", "|dictsort(by='value')",
    "|dictsort(reverse=true)", "|tojson", "|tojson(indent=4)", "|tojson(sort_keys=true)", "|tojson(indent='\t')",
    "|tojson(separators=(',', ':'))", "|tojson(ensure_ascii=true)", "|string", ".items()", ".keys()", ".values()",
    ".items()|list", ".keys()|list", ".values()|list|first", ".items()|length", ".get('a')", ".get('zz')", ".get('zz', 7)",
    ".get(1)", "['a']", "['zz']", "['x']['y'][1]", ".x.y[0]", ".a", ".zz is defined", ".copy()", ".update({})", ".pop('a')",
    " == {'b': 1, 'a': 2, 'C': 3}", " is mapping", " is sequence", " is iterable", "|join(',')", "|sort|join",
    "|map('string')|list", " and 1", " ~ ''", "|reverse|list", ".items is callable", ".keys() is sequence",
    "'a' in ", "|select|list", "|attr('b')", "|default('d', true)", ".items()|sort|list", ".values()|sum", "[1]", "[none]",
    "[true]", "[1:2]", ".items()|tojson", "|urlencode",
]
SCALAR_CALLS = [
    "|int", "|float", "|string", "|abs", "|round", "|round(1)", "|round(0, 'floor')", "|round(1, 'ceil')", "|round(-1)",
    "|tojson", "|default('d')", "|default('d', true)", "|length", "|upper", "|list", "|first", "|join", " + 1", " - 1",
    " * 3", " / 2", " // 2", " % 3", " ** 2", " ** -1", " ~ 'x'", " == 1", " != 1", " < 3", " >= 0", " in [1, none]",
    " is none", " is number", " is integer", " is float", " is boolean", " is true", " is false", " is odd", " is even",
    " is divisibleby 3", " is defined", " is undefined", " is string", " is iterable", " is sequence", " is mapping",
    " is sameas none", " is callable", ".x is defined", "['x'] is defined", "[0]", "[1:]", "|trim", "|replace('1', '2')",
    "|indent", "|capitalize", "|sort", "|select|list", "|map('upper')|list", " and 'y'", " or 'n'", " if 1 else 2",
    "|format", " + 1.5", " + 'a'", " is eq 1", " is in [1, 2]", " is lt 5", "|dictsort", "|items|list", "|reverse|list",
    "|sum", "|wordcount", "|title", "|truncate(2)", "|bool", "|batch(1)|list", "|unique|list", "|center(5)", "|e",
]


FORMS = ["{{ %s }}", "{{ [%s] }}", "{{ (%s,) }}", "{{ {'k': %s} }}", "{{ not %s }}", "{{ -%s }}",
         "{%% if %s %%}T{%% else %%}F{%% endif %%}", "{%% for x in %s %%}{{ loop.index }}:{{ x }};{%% endfor %%}",
         "{%% set v = %s %%}{{ v }}", "{{ '%%s,%%r' %% (%s, 1) }}", "{{ '{}'.format(%s) }}",
         "{{ namespace(x=%s).x }}", "{{ dict(a=%s) }}", "{{ [1] + [%s] }}", "{{ missing == %s }}"]


def expressions():
    """Every call with the values to try it on, and what makes a template of a value."""
    for values, calls in [(STRINGS, STRING_CALLS), (LISTS, LIST_CALLS), (DICTS, DICT_CALLS), (SCALARS, SCALAR_CALLS)]:
        for call in calls:
            # The operator `in` has the value on its right.
            form = "{{ %s%s }}" if call.endswith("in ") else "{{ (%s)%s }}"
            order = (lambda value, call: (call, value)) if call.endswith("in ") else (lambda value, call: (value, call))
            yield call, values, lambda value, call=call, form=form, order=order: form % order(value, call)
    for form in FORMS:
        yield form, ALL, lambda value, form=form: form % value


TEMPLATES = r"""
{{ 1 if false }}|{{ (1 if false) is defined }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 > 2 >= 2 != 1 }} {{ 1 in [1] == true }}
{{ 'a' 'b' "c" }}
{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 7 // -2 }} {{ -7 % 3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 10 / 4 }} {{ 10 / 5 }}
{{ 1 / 0 }}
{{ 5 % 0 }}
{{ 2 ** 100 }} {{ 2 ** 0.5 }} {{ 10 ** 20 }} {{ 9007199254740993 * 3 }}
{{ 1e16 }} {{ 123456.789e3 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1.0 }} {{ 100000000000000000000.0 }} {{ 0.1 + 0.2 }} {{ 1e300 * 10 }}
{{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1_0.5 }}
{{ true + true }} {{ true and 'x' or 'y' }} {{ not true or true }} {{ none or 0 or 'z' }}
{{ '%s is %d years, %.2f%% %5s|%-5s|%05d|%x|%X|%o|%e|%g|%c|%r' % ('Bob', 42, 3.14159, 'r', 'l', 42, 255, 255, 8, 12345.678, 0.0001, 'c', "q'q") }}
{{ '%(a)s-%(b)03d' % {'a': 1, 'b': 2} }} {{ '%+d % d %+.1f' % (5, 5, 2.55) }} {{ '%s' % [1, 'a'] }} {{ '%*d' % (5, 42) }}
{{ '%d' % '3' }}
{{ '%s %s' % 'x' }}
{{ '%s' % ('a', 'b') }}
{{ '%5.1f|%-8s|%08.3f' % (3.14159, 'ab', 2.5) }}
{{ '{} {}'.format('a', 2) }} {{ '{0} {1} {0}'.format('a', 'b') }} {{ '{x} {y[0]} {z[k]}'.format(x=1, y=[2], z={'k': 3}) }} {{ '{{}}'.format() }}
{{ '{:>5}|{:<5}|{:^5}|{:*^7}|{:05d}|{:.2f}|{:,}|{:x}|{:+d}|{:e}|{!r}|{:%}'.format('a', 'b', 'c', 'd', 42, 3.14159, 1234567, 255, 5, 1234.5, 'r', 0.25) }}
{{ '{} {0}'.format(1) }}
{{ '{}'.format() }}
{{ "%s, %s!"|format('Hello', name='x') }}
{{ "%s, %s!"|format('Hello', 'World') }} {{ "%(a)s"|format(a=3) }}
{{ [1, 2, 3][1:] + [4] }} {{ [1, 2, 3, 4, 5][::2] }} {{ [1, 2, 3][-2:] }} {{ 'abcdef'[4:1:-1] }} {{ [1,2,3][5:] }} {{ (1, 2, 3)[::-1] }}
{{ {'a': 1}['a'] }} {{ {'a': {'b': 2}}.a.b }} {{ {'a': [1]}.a.0 }} {{ [[1, 2]].0.1 }} {{ {'items': 5}['items'] }}
{% if {'items': 0}.items %}method{% else %}item{% endif %}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% set x = 3 %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(found=false, n=0) %}{% for i in range(4) %}{% if i == 2 %}{% set ns.found = true %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.found }} {{ ns.n }} {{ ns.zz is defined }}
{% set ns = namespace(b=1, a='x') %}{{ ns }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}
{% set ns = namespace() %}{% set ns.x %}block {{ 1 + 1 }}{% endset %}[{{ ns.x }}]
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = [3, 4] %}{{ c }}{{ d }}
{% set t = 1, 2 %}{{ t }}
{% set x | upper %}hello {{ 'w' }}{% endset %}{{ x }}
{% filter upper | replace('A', 'b') %}a {{ 'c' }}{% endfilter %}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
{% macro m(a, b='x', c=none) %}[{{ a }},{{ b }},{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(c=3, a=1) }}{{ m() }}{{ m.name }}
{% macro m(a) %}{{ a }}{{ caller is defined }}{% endmacro %}{{ m(1) }}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body{% endcall %}
{% macro m(xs) %}{% for x in xs %}<{{ caller(x) }}>{% endfor %}{% endmacro %}{% call(x) m([1, 2]) %}{{ x * 2 }}{% endcall %}
{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}
{% set g = 'G' %}{% macro m() %}{{ g }}{{ messages|length }}{% endmacro %}{{ m() }}{% set g = 'H' %}{{ m() }}
{% macro m(x) %}{{ x }}{% endmacro %}{{ m(1, 2) }}
{% macro m(x) %}{{ x }}{% endmacro %}{{ m(y=2) }}
{% macro m(x) %}{% set y = x %}{{ y }}{% endmacro %}{{ m(1) }}{{ y is defined }}{{ m('a')|upper }}{{ m(2) ~ m(3) }}
{% macro m() %}{{ varargs }}{% endmacro %}{{ m(1) }}
{% macro outer() %}{% macro inner(x) %}({{ x }}){% endmacro %}{{ inner(1) }}{{ inner(2) }}{% endmacro %}{{ outer() }}
{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.depth }} {{ loop.depth0 }} {{ loop.cycle('a', 'b') }} {{ loop.changed(m.role) }} {{ loop.previtem.role if loop.previtem is defined }} {{ loop.nextitem.role if loop.nextitem is defined }};{% endfor %}
{% for m in messages %}{% if loop.index > 1 and loop.previtem['role'] != 'assistant' %}{{ ' ' }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}
{% for m in messages %}{{ m.role }}{% if loop.nextitem is defined and loop.nextitem.role == 'assistant' %}->A{% endif %};{% endfor %}
{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ loop.length }}{{ m.role }}{% else %}none{% endfor %}
{% for x in [] %}x{% else %}empty{% endfor %}{% for x in missing %}x{% else %}undef{% endfor %}
{% for x in none %}x{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in {'S1': 'Violent', 'S2': 'Theft', 'S10': 'Hate'} %}{{ k }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}
{% for t in [{'n': 1, 'c': [{'n': 2, 'c': []}]}] recursive %}{{ t.n }}@{{ loop.depth }}[{{ loop(t.c) }}]{% endfor %}
{% for i in range(2) %}{% for j in range(2) %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for c in 'añ😀' %}{{ c }}.{% endfor %}{% for i in range(3, 0, -1) %}{{ i }}{% endfor %}{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}
{{ range(3) }} {{ range(1, 5)|list }} {{ range(0, 10, 3) }} {{ range(3)[-1] }} {{ 2 in range(3) }} {{ range(3)|length }}
{{ range(100001) }}
{{ range(1.5) }}
{{ lipsum is defined }} {{ foo.bar is defined }}
{{ foo.bar.baz }}
{{ foo() }}
{{ foo + 1 }}
{{ foo ~ 'x' }}{{ foo }}{{ [foo] }}{{ foo|default('d') }}{{ foo is undefined }}{{ foo|length }}{{ not foo }}{{ foo == none }}{{ foo|list }}
{{ foo < 1 }}
{{ foo[0] }}
{{ none.x is defined }} {{ 'abc'.x is defined }} {{ (1).x is defined }} {{ [].x is defined }} {{ none['x'] is defined }}
{{ messages[0].role }} {{ messages[-1]['content'] }} {{ messages[99] is defined }} {{ messages[0].zz is defined }} {{ messages[0]['zz'] }}
{{ messages[99].role }}
{{ messages[1:]|length }} {{ messages[:-1]|map(attribute='role')|join(',') }} {{ messages|map(attribute='content')|map('length')|list }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|rejectattr('role', 'in', ['user', 'assistant'])|map(attribute='content')|list }}
{% if messages|selectattr('role', 'equalto', 'zz') %}generators are true{% endif %}
{{ messages|selectattr('role', 'equalto', 'user') }}
{{ (messages|selectattr('role', 'equalto', 'user'))|length }}
{{ (messages|selectattr('role', 'equalto', 'user')|first).content }} {{ messages|map(attribute='role')|unique|list }} {{ messages|groupby('role') }}
{% for g in messages|groupby('role') %}{{ g.grouper }}:{{ g.list|length }}:{{ g[0] }};{% endfor %}{% for r, ms in messages|groupby('role') %}{{ r }}{{ ms|map(attribute='content')|list }}{% endfor %}
{{ messages }}
{{ messages|tojson }}
{{ messages|tojson(indent=2) }}
{{ messages|string }} {{ messages[0]|tojson(sort_keys=true) }} {{ messages[0].items()|list }} {{ messages[0]|dictsort }} {{ messages[0].keys()|list }}
{{ 'a\nb\t"\\/<>&\u00e9\x7f\x01' | tojson }} {{ 'é<😀>' | tojson(ensure_ascii=true) }} {{ "use \\u003cb\\u003e" | tojson }}
{{ [1, 1.5, 1e20, true, none, 'x', [], {}, [[]], {'a': []}] | tojson }} {{ {'a': [1, {'b': []}], 'c': {}} | tojson(indent=2) }}
{{ {1: 1, 2.5: 2, true: 3, none: 4} | tojson }} {{ {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=True, indent=1) }} {{ [1, 2] | tojson(separators=(',', ':')) }} {{ [1, [2]] | tojson(indent=0) }} {{ [1] | tojson(indent='--') }} {{ [1,2] | tojson(False, 2) }} {{ {'a':1} | tojson(indent=-1) }} {{ (1, 2) | tojson }} {{ [1] | tojson(indent=true) }}
{{ foo | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ range(3) | tojson }}
{{ raise_exception('Roles must alternate') }}
{% if not raise_exception is defined %}x{% endif %}{{ strftime_now('%Y') | length }}
{{ "a\
b" }}|{{ 'x\
\
y' }}
{{ '\x41\u00e9\U0001F600\101\0\a\b\f\v\t\r\n\'\"\\\q\d\ ' }}
{{ "\é\😀" }} {{ '\/' }}
{{ '\x4' }}
{{ '\u12' }}
{{ '\N{BULLET}' }}
{{ '\ud83d\ude00' }}
{# comment {{ x }} {% if %} #}a{#- b -#} c {#+ d #}
{#}#}x
{{ '{%}' }}{# {%} #}{% raw %}{%}{{ x }}{% endraw %}
{%}
{{ '{% generation %}' }}{% generation %}x{% set y = 1 %}{% endgeneration %}{{ y is defined }}
{% for m in messages %}{%- generation -%} {{ m.role }} {%- endgeneration %} {% endfor %}
{% raw %}{% generation %}{% endraw %}
a {%- if true -%} b {%- endif -%} c
a {%+ if true +%} b {%+ endif +%} c
{{- ' x ' -}}   y   {{- 'z' }}
{% raw -%}  a  {%- endraw %} b
{%- raw %} a {% endraw -%}  b
  {% if true %}
    x
  {% endif %}
y
{% if true %} {{ 1 }} {% endif %} {{ 2 }}
  {{ 1 }}
  {# c #}
  d
{%- set x = 1 %}

{{ x }}
line

{%- if 1 %}
 a{% endif %}

b
{% if 0 %}{% elif 0 %}{% elif 1 %}c{% else %}d{% endif %}
{{ [1, 2,] }}{{ {'a': 1,} }}{{ (1, 2,) }}
{{ {'a': 1, 'a': 2} }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ [1, 2] == (1, 2) }} {{ 1 == 1.0 == true }} {{ '1' == 1 }} {{ [1, [2]] == [1, [2]] }}
{{ [] == [] }} {{ {} == {} }} {{ [] is sameas [] }} {{ none is sameas none }} {{ 'a' is sameas 'b' }}
{{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1,) < (1, 2) }} {{ 'B' < 'a' }} {{ 1 < 1.5 }} {{ true < 2 }}
{{ 'a' < 1 }}
{{ none < 1 }}
{{ {} < {} }}
{{ 'a' in {'a': 1} }} {{ 'b' not in ['a'] }} {{ 1 in (1, 2) }} {{ '' in 'abc' }} {{ 'k' in missing }} {{ [1] in [[1]] }} {{ 'a' in 'abc' and not 'z' in 'abc' }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ none in none }}
{{ [3, 'a']|sort }}
{{ [none, 1]|max }}
{{ ['b', 'a']|min }} {{ []|max is defined }} {{ [3, 1, 2]|max }} {{ ['a', 'B']|max }} {{ [{'a': 2}, {'a': 1}]|min(attribute='a') }}
{{ 'x'|bogus }}
{{ 'x' is bogus }}
{{ 'x'.bogus() }}
{{ {'a': 1}.bogus() }}
{{ [1].append(2) }}
{{ {'a': 1}.update({'b': 2}) }}
{{ 'abc'.__class__ }}
{{ 42.55|round }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 1234|round(-2) }} {{ 42|round }} {{ 42.1|round(0, 'ceil') }} {{ -42.9|round(0, 'floor') }} {{ 42|round(0, 'ceil') }} {{ 2.5|round|int }} {{ 1.25|round(1, 'ceil') }} {{ true|round }}
{{ ' 12 '|int }} {{ '1_000'|int }} {{ '0x1f'|int(base=16) }} {{ '1f'|int(0, 16) }} {{ '12.9'|int }} {{ 'abc'|int }} {{ 'abc'|int(7) }} {{ 3.99|int }} {{ -3.99|int }} {{ none|int }} {{ [1]|int }} {{ '1e3'|int }} {{ 'inf'|int }} {{ true|int }}
{{ '1e3'|float }} {{ ' 2.5 '|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ none|float }} {{ 'nan'|float }} {{ 'inf'|float }} {{ 3|float }} {{ '1_0.5'|float }} {{ '.5'|float }} {{ '5.'|float }}
{{ 'a-b_c d(e'|title }} {{ "they're bill's"|title }} {{ "they're bill's".title() }} {{ 'ÀÉ'|lower }} {{ 'straße'|upper }} {{ 'hELLO wORLD'|capitalize }} {{ 'ǆ'.title() }} {{ 'ΑΣ'.lower() }}
{{ 'a b'|replace(' ', '_') }} {{ 'aaa'|replace('a', 'b', 2) }} {{ 5|replace('5', '6') }} {{ 'abc'.replace('b', '') }}
{{ ['a', 1, none, true, 2.0]|join('|') }} {{ 'abc'|join('-') }} {{ {'a': 1, 'b': 2}|join }} {{ [[1], {'a': 'b'}]|join(', ') }} {{ ['x']|join(d=',') }}
{{ '-'.join(['a', 1]) }}
{{ [1, 2, 3, 4, 5]|batch(2)|map('join', '-')|join('|') }} {{ [1, 2, 3]|batch(2, 0)|list }} {{ range(7)|slice(3)|map('list')|list }} {{ range(7)|slice(3, 'x')|list }}
{{ 'one two three four'|truncate(9) }} {{ 'one two three four'|truncate(9, true) }} {{ 'abcdefghij'|truncate(5, true, '…', 0) }} {{ 'short'|truncate(3) }}
{{ 'a\n\nb\n'|indent }}|{{ 'a\nb'|indent(2, first=true) }}|{{ 'a\n\nb'|indent(width=1, blank=true) }}|{{ ''|indent }}|{{ 'a\r\nb'|indent(1) }}
{{ [1, 2]|first }} {{ []|first is defined }} {{ 'abc'|last }} {{ {'a': 1}|first }} {{ missing|first is defined }} {{ [1, 2]|last }} {{ []|last is defined }}
{{ [{'n': 'b', 'v': 1}, {'n': 'a', 'v': 2}]|sort(attribute='n')|map(attribute='v')|list }} {{ ['a', 'C', 'b']|sort }} {{ ['a', 'C', 'b']|sort(case_sensitive=true) }} {{ {'b': 1, 'a': 2}|sort }} {{ 'cab'|sort }} {{ [(1, 'b'), (0, 'z'), (1, 'a')]|sort(attribute='1') }}
{{ ['a', 'A', 'b', 'a']|unique|list }} {{ ['a', 'A']|unique(true)|list }} {{ [1, 1.0, true, 2]|unique|list }}
{{ [[1], [1]]|unique|list }}
{{ [1, 2, 3]|sum }} {{ [0.1, 0.2]|sum }} {{ [{'a': 1}, {'a': 2}]|sum('a') }} {{ [[1], [2]]|sum(start=[]) }} {{ [true, true]|sum }}
{{ ['a']|sum }}
{{ {'b': 2, 'A': 1, 'c': 3}|dictsort }} {{ {'b': 2, 'A': 1}|dictsort(true) }} {{ {'a': 2, 'b': 1}|dictsort(false, 'value') }} {{ {'a': 2, 'b': 1}|dictsort(reverse=true) }}
{{ {1: 2, 'a': 3}|dictsort }}
{{ ['x', '', none, 0, 'y']|select|list }} {{ ['x', '', 0]|reject|list }} {{ [1, 2, 3]|select('gt', 1)|list }} {{ [1, 'a', none]|select('string')|list }} {{ [1, 2, 3, 4]|select('divisibleby', 2)|list }} {{ ['a', 'b']|select('in', ['b'])|list }} {{ [1, none]|reject('none')|list }} {{ ['ab', 'cd']|select('==', 'ab')|list }}
{{ ['a', 'b']|map('upper')|list }} {{ [1, 2]|map('string')|join }} {{ ['a b', 'c']|map('replace', ' ', '-')|list }} {{ [{'a': {'b': 1}}]|map(attribute='a.b')|list }} {{ [[1, 2], [3, 4]]|map(attribute=1)|list }} {{ [{'x': 1}, {}]|map(attribute='x', default=0)|list }} {{ [[2, 1]]|map('sort')|list }} {{ [{}]|map(attribute='x')|list }}
{{ [1]|map('bogus')|list }}
{{ [1]|map|list }}
{{ [{}]|map(attribute='a.b')|list }}
{{ 'abc'|reverse }} {{ [1, 2]|reverse|list }} {{ {'a': 1, 'b': 2}|reverse|list }} {{ (1, 2)|reverse|first }} {{ [1, 2]|reverse is iterable }}
{{ 5|reverse }}
{{ [1, 2]|length }} {{ 'é😀'|length }} {{ {}|length }} {{ 'ab'|count }}
{{ 5|length }}
{{ none|length }}
{{ none|list }}
{{ '<a href="x">\'&'|e }} {{ '<b>'|safe }} {{ 5|e }} {{ ('<b>'|safe) is escaped }}
{{ ('<b>'|safe) ~ '<' }} {{ +1 }} {{ + 2 - +3 }}
{{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ true is number }} {{ 'a' is number }} {{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby(3) }} {{ 1 is eq(1) }} {{ 1 is ne 2 }} {{ 2 is ge 2 }} {{ 1 is lessthan 2 }} {{ 'a' is in ['a'] }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 'zz' is filter }} {{ 'ABC' is upper }} {{ 'abc' is lower }} {{ '123' is lower }}
{{ 1 is not none and 2 is not undefined }} {{ not 1 is none }} {{ x is not defined or y }}
{{ 'a' is odd }}
{{ {}.items is callable }} {{ range is callable }} {{ 5 is callable }}
{{ -1|abs }} {{ (-1)|abs }} {{ -5 + 3 }} {{ - 5 }} {{ 3 - -2 }} {{ --1 }} {{ +1 }}
{{ 'abc'|attr('upper') is callable }} {{ {'a': 1}|attr('a') is defined }} {{ namespace(a=1)|attr('a') }}
{{ "a" ~ 1 ~ none ~ true ~ 1.0 ~ [1] ~ {'a': 'b'} ~ (1,) }} {{ 1 ~ 2 + 3 }} {{ 'a' + 'b' ~ 'c' }} {{ 2 * 3 ~ 4 }}
{{ 'a' * 3 }} {{ 3 * 'a' }} {{ [1] * 2 }} {{ 'a' * -1 }} {{ (1, 2) * 2 }} {{ 'ab' * true }} {{ [] * 3 }}
{{ 'a' * 1.5 }}
{{ 'a' + 1 }}
{{ [1] + (2,) }}
{{ 'a' - 'b' }}
{{ {'a': 1} + {'b': 2} }}
{{ none + 1 }}
{{ 'it\'s' }} {{ ["it's", 'q"q', 'b\'o"th', 'n\nl', 'é', '\x00\x7f\xa0\u200b\u2028😀\u0301'] }} {{ {'k\'': "v"} }}
{{ ('a',) }} {{ () }} {{ (1, 'b', [2]) }} {{ ((1)) }} {{ [(1, 2)] }} {{ {'t': (1,)} }} {{ [none, true, 1.0, missing] }}
{{ {'a': 1}.items() }} {{ {'a': 1}.keys() }} {{ {'a': 1}.values() }} {{ 'a' in {'a': 1}.keys() }} {{ {'a': 1}.items()|first }} {{ ({'a': 1}.items())[0] is defined }} {% if {}.items() %}T{% else %}F{% endif %}
{{ dict(a=1, b=2) }} {{ dict([('x', 1)]) }} {{ dict({'a': 1}, b=2) }} {{ dict() }} {{ dict(b=1, a=2).keys()|list }}
{% set d = {'a': 1} %}{% set d2 = dict(d, c=3) %}{{ d }}{{ d2 }}
{% set x = [1, 2] %}{% set y = x %}{{ x is sameas y }} {{ x is sameas [1, 2] }}
{{ [1, 2, 3] | join(',') | replace(',', ';') | upper | length + 1 }}
{{ 'a' if true else 'b' if false else 'c' }} {{ ('x' if 0) ~ 'y' }} {{ 1 if 0 else 2 if 0 else 3 }}
{{ foo.bar if foo is defined and foo.bar else 'none' }}
{{ messages|last|attr('role') }} {{ (messages|last).role }} {{ messages[0]|attr('get') is callable }}
{% set roles = [] %}{% for m in messages %}{% set roles = roles + [m.role] %}{% endfor %}{{ roles }}
{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m.role] %}{% endfor %}{{ ns.l }} {{ ns.l|join(',') }}
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}
{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}
{% for m in messages %}{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ c }}|{% endfor %}
{% set content = messages[0].content %}{% if content is string %}S{{ content }}{% elif content is iterable %}{% for p in content %}{{ p.text }}{% endfor %}{% endif %}
{{ messages|map(attribute='content')|join('\n')|upper|trim }} {{ messages|map(attribute='role')|list|tojson }} {{ (messages|map(attribute='content')|list)[-1][:3] }}
{% if true %}{% endif %}{% endfor %}
{% for x in [1] %}
{{ 'unclosed }}
{{ x
{% if %}
{% bogus %}
{{ 1 + }}
{{ [1 }}
{% set 1 = 2 %}
{% set true = 2 %}
{% set x.y = 2 %}
{% set d = {} %}{% set d.y = 2 %}
{% include 'x' %}
{% do messages.append(1) %}
{{ a.b.c.d }}
{% break %}
{% macro x %}{% endmacro %}
{{ x|upper( }}
{{ self }}
{% set x = {'a': 1, 'b': [1, 2, {'c': 'd'}]} %}{{ x.b[2].c }}{{ x['b'][-1]['c'] }}{{ x.b.2.c }}{{ x.b|last }}
{{ ''.join(['a', 'b']) }}{{ ' '.join(messages|map(attribute='role')) }}
{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'abc'[5] is defined }}{{ 'abc'[0:2] }}{{ 'añb'[1] }}
{{ 1.5e3 }} {{ 1E3 }} {{ .5 }}
{{ 10 // 3 * 3 + 10 % 3 }} {{ (1 + 2) * 3 }} {{ 2 + 3 * 4 ** 2 / 8 }} {{ 1 - 2 - 3 }} {{ 100 / 10 / 2 }}
{{ true == 1 }} {{ false == 0 }} {{ none == false }} {{ '' == false }} {{ [] == false }}
{{ 'x' if messages else 'y' }} {{ (messages and messages[0].role) or 'none' }}
{{ namespace(a=1) == namespace(a=1) }}
{% set x = namespace(a=namespace(b=1)) %}{% set x.a.b = 2 %}{{ x.a.b }}
{% for i in range(3) %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}
{% for k, v in {'a': 1}|items %}{{ k }}{{ v }}{% endfor %}{% for k, v in {'b': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% endfor %}
{% set it = messages|map(attribute='role') %}{{ it|list|length }}{{ it|list|length }}
{% for m in messages|map(attribute='role') %}{{ loop.index }}{{ loop.length }}{{ loop.last }}{% endfor %}
{{ messages|map(attribute='role')|reverse|list }}
{{ messages|map(attribute='role')|last }}
{% set x %}  spaced  {% endset %}[{{ x }}][{{ x|trim }}]
{% set x = 'a' %}{% macro f(y=x) %}{{ y }}{% endmacro %}{{ f() }}
{% if x is defined and x %}1{% elif y is undefined %}2{% endif %}
{{ loop is defined }}{% for i in [1] %}{% if loop is defined %}L{% endif %}{% endfor %}
{% for i in [1, 2] %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}
{% for i in [1, 2, 3] %}{% set last = loop.last %}{{ last }}{% endfor %}{{ last is defined }}
{{ caller is defined }} {{ varargs is defined }}
{{ '\u00a0 x \x1c'.strip() }}|{{ '\u00a0x\x1c' | trim }}|{{ 'a\x1cb\x85c\u2028d'.splitlines() }}|{{ 'a\u2003b'.split() }}
{{ '١٢'.isdigit() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '½'.isnumeric() }} {{ '漢'.isalpha() }} {{ 'a1'.isalnum() }} {{ 'é'.islower() }} {{ 'ª'.isalpha() }} {{ '_'.isalnum() }}
{{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith('b', 0, 2) }} {{ 'abcabc'.count('b', 2) }} {{ 'aaa'.count('aa') }} {{ 'abcabc'.find('c', -2) }} {{ 'abc'.find('', 3) }} {{ 'abc'.find('', 4) }}
{{ 'abc'.startswith(['a']) }}
{{ 'abc'.startswith(1) }}
{{ 'a,b'.split(',', -1) }} {{ 'a,b,c'.split(',', 0) }} {{ 'a b c '.split(' ') }} {{ ''.split(',') }} {{ ''.split() }} {{ ' a '.split(None, 0) }} {{ '  a  b  c  '.rsplit(None, 1) }}
{{ 'abc'.split('') }}
{{ 'abc'.foo }}|{{ 'abc'.upper is defined }}|{{ messages.count is defined }}
{{ 'a%sb' % 'x' }} {{ '100%' }} {{ '%d%%' % 50 }} {{ '%s' % none }} {{ '%s' % true }} {{ '%s' % 1.0 }} {{ '%.3s|' % 'abcdef' }} {{ '%i' % 3.9 }} {{ '%r' % 'a' }} {{ '%s' % {'a': 1} }}
{% for i in [1,2,3] %}{% for j in [1,2] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }}{% endfor %}{% if i == 2 %}{% continue %}{% endif %};{% endfor %}end
{% for i in [1,2] %}{% generation %}{% continue %}{% endgeneration %}{% endfor %}
{% for i in [1,2] %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}
{% set y %}{% set x = 1 %}{% endset %}{{ x is defined }}{% filter upper %}{% set z = 1 %}{% endfilter %}{{ z is defined }}
{% for c in 'abc' %}{{ loop.length }}{{ loop.last }}{{ loop.revindex }}{% endfor %}
{% macro f() %}{% for i in [1,2] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}{% endmacro %}{{ f() }}{{ f() }}
{% set x = 1 %}{% for i in [1,2] %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
{% for i in [1,2] %}{% if loop.first %}{% set q = 1 %}{% endif %}{{ q is defined }}{% endfor %}
{% macro f() %}{% set x = 2 %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}{{ x }}
{% macro f() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}{% for i in [1] %}{% set x = 5 %}{{ f() }}{% endfor %}
{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}G{% endmacro %}{{ f() }}
{% for m in messages %}{% macro f() %}{{ m.role }}{{ loop.index }}{% endmacro %}{{ f() }}{% endfor %}
{% with x=1 %}{% macro f() %}{{ x }}{% endmacro %}{% endwith %}{{ f is defined }}
{% if 1 %}{% macro f() %}F{% endmacro %}{% endif %}{{ f() }}
{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(3) }}
{% macro f(a, b=[]) %}{{ b }}{% endmacro %}{{ f(3) }}{{ f(1, b=2) }}
{% macro f(m) %}{% for x in m recursive %}{{ x }}{% endfor %}{% endmacro %}{{ f([1]) }}
{% macro f(caller) %}{{ caller }}{% endmacro %}{{ f(1) }}
{% call foo() %}{% endcall %}
{% macro f() %}a{% endmacro %}{% call f() %}b{% endcall %}
{% macro f() %}{{ caller(1, x=2) }}{% endmacro %}{% call(y, x=3) f() %}{{ y }}{{ x }}{% endcall %}
{% set f = namespace() %}{% macro g() %}G{% endmacro %}{% set f.g = g %}{{ f.g() }}
{% set x = range %}{{ x(3)|list }}
{{ messages.0.role }}
{% for a in [1] %}{% for b in [2] %}{{ loop.parent is defined }}{% endfor %}{% endfor %}
{% set outer = 'o' %}{% for i in [1] %}{{ outer }}{% set outer = 'i' %}{{ outer }}{% endfor %}{{ outer }}
{% for i in [1,2] %}{{ x is defined }}{% set x = 1 %}{{ x }}{% endfor %}
{% if false %}{% set z = 1 %}{% endif %}{{ z is defined }}
{{ z is defined }}{% set z = 1 %}
{% macro f() %}{{ messages[0].role }}{{ bos_token }}{% endmacro %}{{ f() }}
{% set messages = messages[1:] %}{{ messages|length }}{% macro f() %}{{ messages|length }}{% endmacro %}{{ f() }}
{% set bos_token = 'X' %}{% macro f() %}{{ bos_token }}{% endmacro %}{{ f() }}
{% macro f() %}{% set bos_token = 'Y' %}{{ bos_token }}{% endmacro %}{{ f() }}{{ bos_token }}
{% for message in messages %}{% set content = message.content %}{% if message.role == 'user' %}{% set content = 'U' + content %}{% endif %}{{ content }}{% endfor %}
{% set i = 10 %}{% for i in [1,2] %}{{ i }}{% endfor %}{{ i }}
{% for loop in [1] %}{{ loop }}{% endfor %}
{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(3) }}{{ f(3, 4) }}
{% macro f(a='d') %}[{{ a }}]{% endmacro %}{{ f() }}{{ f(missing) }}{{ f(a=missing) }}{{ f(none) }}{{ f('x') }}
{% macro f(a, b='B') %}{{ a is defined }}{{ b is defined }}{% endmacro %}{{ f() }}{{ f(missing, missing) }}{{ f(1) }}
{% macro f(a='d') %}[{{ a }}]{% endmacro %}{% set ns = namespace(f=f) %}{{ ns.f(missing) }}{{ ns.f() }}{{ ns.f(a=missing) }}
{% macro f() %}{{ caller(missing) }}{{ caller() }}{% endmacro %}{% call(x='D') f() %}[{{ x }}]{% endcall %}
{% macro f(x='D') %}[{{ x }}{{ caller() }}]{% endmacro %}{% call f(missing) %}c{% endcall %}{% call f() %}c{% endcall %}
{% set x = 'o' %}{% macro f(y=x, z=y) %}{{ y }}{{ z }}{% endmacro %}{{ f() }}{% set x = 'p' %}{{ f() }}{{ f(z=1) }}
{% macro f(a, b=2, c=3) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1, c=5) }}{{ f(*[7, 8]) }}{{ f(**{'a': 1, 'b': 9}) }}
{% macro f(x=x) %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}{{ f(2) }}
{% macro f(n=3) %}{{ n }}{% if n %}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f() }}
{% for x in [1] %}{% else %}{% break %}{% endfor %}
{% macro f(a) %}{% for i in [1] %}{{ a }}{% set a = 5 %}{{ a }}{% endfor %}{{ a }}{% endmacro %}{{ f(1) }}
{% macro f(a='x') %}{{ a }}{% endmacro %}{% for i in [1,2] %}{{ f() }}{{ f(i) }}{% endfor %}
{% macro f(tools=none, x=[]) %}{{ tools is none }}{{ x }}{% endmacro %}{{ f(tools) }}{{ f(tools=missing) }}
"""


def templates():
    """The templates of a line each, some of them together, and those with line ends."""
    lines = TEMPLATES.strip("\n").split("\n")
    yield from lines
    # Neighbouring lines together try line ends and white space.
    for size in (2, 3):
        for at in range(0, len(lines) - size, 23):
            yield "\n".join(lines[at : at + size]) + "\n"
    for end in ("\r\n", "\r", "\n"):
        yield end.join(["{% for m in messages %}", "{{ m.role }}:", "  {{ m.content }}", "  {% endfor %}", "end:", "", ""])
        yield f'{{%- set s = "One.\\{end}Two.\\{end}\\{end}Three{end}four" -%}}{end}{{{{ s }}}}{end}'
