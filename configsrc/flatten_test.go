package configsrc_test

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
)

const (
	emptyList    = configsrc.EmptyList
	emptySection = configsrc.EmptySection
)

// raws are the values of v without origins, for comparing.
func raws(v configsrc.Values) map[string]any {
	m := make(map[string]any, len(v))
	for key, value := range v {
		m[key] = value.Raw
	}
	return m
}

func lines(v configsrc.Values) map[string]int {
	m := make(map[string]int, len(v))
	for key, value := range v {
		m[key] = value.Origin.Line
	}
	return m
}

type document struct {
	name   string
	format configsrc.Format
	text   string
	want   map[string]any
}

func documents() []document {
	type m = map[string]any
	const y, j, t, p = configsrc.YAML, configsrc.JSON, configsrc.TOML, configsrc.Properties
	return []document{
		{"nothing", y, "", m{}},
		{"comments", y, "# a\n---\n# b\n", m{}},
		{"an empty root", y, "{}", m{}},
		{"dotted and nested", y, "a.b: 1\na:\n  c: 2\n", m{"a.b": int64(1), "a.c": int64(2)}},
		{"dotted list", y, "a[0]: x\na[1]: y\n", m{"a[0]": "x", "a[1]": "y"}},
		{"null", y, "a: null\nb: ~\nc:\nd: [null, 1]\n", m{"d[0]": nil, "d[1]": int64(1)}},
		{"only nulls", y, "a:\n  b:\n  c: ~\n", m{"a": emptySection}},
		{"empty", y, "a: []\nb: {}\nc: [[], {}]\n", m{"a": emptyList, "b": emptySection, "c[0]": emptyList, "c[1]": emptySection}},
		{
			"scalars", y, "a: true\nb: True\nc: yes\nd: 1\ne: -1\nf: 1.5\ng: 1e3\nh: 0x10\ni: 0o17\nj: 0b11\nk: 1_000\nl: '1'\nm: \"2\"\n",
			m{"a": true, "b": true, "c": "yes", "d": int64(1), "e": int64(-1), "f": 1.5, "g": 1000.0, "h": int64(16), "i": int64(15), "j": int64(3), "k": int64(1000), "l": "1", "m": "2"},
		},
		{
			"large", y, "a: 9223372036854775807\nb: 9223372036854775808\nc: 18446744073709551615\nd: -9223372036854775808\n",
			m{"a": int64(9223372036854775807), "b": uint64(9223372036854775808), "c": uint64(18446744073709551615), "d": int64(-9223372036854775808)},
		},
		{
			"text", y, "a: 2001-01-01\nb: 2001-01-01T10:00:00Z\nc: !!binary aGk=\nd: !Ref x\ne: !!str 5\nf: |\n  x\n  y\ng: 5s\nh: 1.2.3\ni: \"\"\n",
			m{"a": "2001-01-01", "b": "2001-01-01T10:00:00Z", "c": "aGk=", "d": "x", "e": "5", "f": "x\ny\n", "g": "5s", "h": "1.2.3", "i": ""},
		},
		{"tags", y, "a: !!float 1\nb: !!int \"7\"\nc: !!bool \"true\"\nd: !Map {x: 1}\ne: !!float 18446744073709551616\nf: \"1e999\"\n", m{"e": 18446744073709551616.0, "f": "1e999", "a": 1.0, "b": int64(7), "c": true, "d.x": int64(1)}},
		{"keys as written", y, "1: a\ntrue: b\nnull: c\n0x10: d\n\"<<\": e\n", m{"1": "a", "true": "b", "null": "c", "0x10": "d", "<<": "e"}},
		{
			"alias", y, "a: &x {p: 1}\nb: *x\nc: &s text\nd: [*s, *x]\n*s : key\n",
			m{"a.p": int64(1), "b.p": int64(1), "c": "text", "d[0]": "text", "d[1].p": int64(1), "text": "key"},
		},
		{
			"merge", y, "a: &a {p: 1, q: 1}\nb: &b {q: 2, r: 2}\nc:\n  <<: [*a, *b]\n  p: 3\nd: {<<: *b, <<x: 1}\ne: {p: 5, <<: {p: 6, s: 6}}\n",
			m{
				"a.p": int64(1), "a.q": int64(1), "b.q": int64(2), "b.r": int64(2), "c.p": int64(3), "c.q": int64(1), "c.r": int64(2),
				"d.q": int64(2), "d.r": int64(2), "d.<<x": int64(1), "e.p": int64(5), "e.s": int64(6),
			},
		},
		{"merge of a merge", y, "a: &a {p: 1}\nb: &b {<<: *a, q: 2}\nc: {<<: *b}\n", m{"a.p": int64(1), "b.p": int64(1), "b.q": int64(2), "c.p": int64(1), "c.q": int64(2)}},
		{
			"a merge and a dotted key", y, "b: &b {s.p: 1, s.h: x}\nc: &c {s: {p: 1, h: x}}\nd: &d {s: {p: 1}}\n" +
				"e: {<<: *b, s: {p: 2}}\nf: {<<: *c, s.p: 2}\ng: {<<: [*b, *c, {s.q: 3}]}\nh: {<<: *d, s.p: 2}\n" +
				"i: {s: {<<: {p: 1}}, s.p: 2}\nj: {<<: {<<: *b, s: {p: 4}}, s: {h: y}}\n",
			m{
				"b.s.p": int64(1), "b.s.h": "x", "c.s.p": int64(1), "c.s.h": "x", "d.s.p": int64(1), "e.s.p": int64(2), "e.s.h": "x",
				"f.s.p": int64(2), "f.s.h": "x", "g.s.p": int64(1), "g.s.h": "x", "g.s.q": int64(3), "h.s.p": int64(2), "i.s.p": int64(2),
				"j.s.p": int64(1), "j.s.h": "y",
			},
		},
		{"directive", y, "# x\n%YAML 1.2 # y\n---\na: 1\n", m{"a": int64(1)}},
		{"an older directive", y, "%YAML 1.1\n---\na: '%YAML 1.2'\nb: |\n  %YAML 1.2\n", m{"a": "%YAML 1.2", "b": "%YAML 1.2\n"}},
		{
			"not numbers", y, "a: 123456789012345678901abc\nb: 99999999999999999999-prod\nc: 1e999x\nd: 0xFFFFFFFFFFFFFFFFFFG\ne: .1_0e999\nf: +99999999999999999999.9.9\ng: 1e9999-1\nh: 0b2222222222\n",
			m{
				"a": "123456789012345678901abc", "b": "99999999999999999999-prod", "c": "1e999x", "d": "0xFFFFFFFFFFFFFFFFFFG", "e": ".1_0e999",
				"f": "+99999999999999999999.9.9", "g": "1e9999-1", "h": "0b2222222222",
			},
		},
		{"numbers of two versions", y, "a: 0777\nb: 08\nc: 0o777\nd: 1_0.5\ne: on\nf: 12:30:45\n", m{"a": int64(511), "b": 8.0, "c": int64(511), "d": 10.5, "e": "on", "f": "12:30:45"}},
		{"CRLF and BOM", y, "\uFEFFa: 1\r\nb: x\r\n", m{"a": int64(1), "b": "x"}},
		{"case", y, "a: 1\nA: 2\n", m{"a": int64(1), "A": int64(2)}},
		{"Spring's brackets", y, "a:\n  \"[/api/**]\": 1\n", m{"a.[/api/**]": int64(1)}},

		{"nothing", j, " \r\n", m{}},
		{"an empty root", j, "{}", m{}},
		{
			"all", j, `{"a.b":1,"a":{"c":[1,"x",null,{},[],{"d":true}],"n":null},"e":{},"f":{"g":null}}`,
			m{"a.b": int64(1), "a.c[0]": int64(1), "a.c[1]": "x", "a.c[2]": nil, "a.c[3]": emptySection, "a.c[4]": emptyList, "a.c[5].d": true, "e": emptySection, "f": emptySection},
		},
		{
			"numbers", j, `{"a":1,"b":1.0,"c":1e3,"d":-0,"e":18446744073709551615,"f":-1.5E-2}`,
			m{"a": int64(1), "b": 1.0, "c": 1000.0, "d": int64(0), "e": uint64(18446744073709551615), "f": -0.015},
		},
		{"escapes", j, `{"a\u0062":"\ud83d\ude00\n\"\\\/","c":"\\u00"}`, m{"ab": "😀\n\"\\/", "c": `\u00`}},
		{"CRLF and BOM", j, "\uFEFF{\r\n\"a\":1\r\n}\r\n", m{"a": int64(1)}},

		{"nothing", t, "# x\n", m{}},
		{
			"all", t, "a.b = 1\n\"c.d\" = 'x'\n[t]\nx = 1.5\ny = [1, \"z\", [true], {k = 1}, []]\n[t.u]\n[e]\n[[l]]\nn = 1\n[[l]]\n[l.s]\nm = 2\n[[l]]\n[[l.q]]\nz = 0x10\n",
			m{
				"a.b": int64(1), "c.d": "x", "t.x": 1.5, "t.y[0]": int64(1), "t.y[1]": "z", "t.y[2][0]": true, "t.y[3].k": int64(1), "t.y[4]": emptyList, "t.u": emptySection,
				"e": emptySection, "l[0].n": int64(1), "l[1].s.m": int64(2), "l[2].q[0].z": int64(16),
			},
		},
		{"empty tables", t, "a = {}\n[b]\n[b.c]\n[[d]]\n[[d]]\n", m{"a": emptySection, "b.c": emptySection, "d[0]": emptySection, "d[1]": emptySection}},
		{
			"times", t, "a = 1979-05-27T07:32:00.5Z\nb = 1979-05-27 07:32:00\nc = 1979-05-27\nd = 07:32:00\n",
			m{"a": "1979-05-27T07:32:00.5Z", "b": "1979-05-27 07:32:00", "c": "1979-05-27", "d": "07:32:00"},
		},
		{"numbers", t, "a = +1_000\nb = -1\nc = 0o17\nd = 1e3\ne = 0b11\nf = -0.0\n", m{"a": int64(1000), "b": int64(-1), "c": int64(15), "d": 1000.0, "e": int64(3), "f": 0.0}},
		{"comment in a list", t, "a = [ # one\n 1, # two\n 2\n]\n", m{"a[0]": int64(1), "a[1]": int64(2)}},
		{"CRLF and BOM", t, "\uFEFFa = 1\r\nb = \"x\"\r\n", m{"a": int64(1), "b": "x"}},

		{"nothing", p, "# x\n! y\n\n  \n", m{}},
		{"all", p, "a.b=1\nc : x y \n d\te\nf\ng[0]=x\ng[1]=y\nk\\ e\\:y=v=w\n", m{"a.b": "1", "c": "x y ", "d": "e", "f": "", "g[0]": "x", "g[1]": "y", "k e:y": "v=w"}},
		{"continued", p, "a=1,\\\n   2,\\\r\n\t3\nb\\\n c=x\\\\\n# no \\\nd=\\ty\\u00e9\\uD83D\\uDE00\\z", m{"a": "1,2,3", "bc": `x\`, "d": "\tyé😀z"}},
		{"continued into a blank line", p, "\\\n\na=1\n  \\\r\n \t\\\n\r\nb=2\nc\\\n\nd=\\\n\ne=3\n\\\n f=4\n\\\n", m{"a": "1", "b": "2", "c": "", "d": "", "e": "3", "f": "4"}},
		{"no expansion", p, "a=${b}\nb=${a}\n", m{"a": "${b}", "b": "${a}"}},
		{"CRLF, CR and BOM", p, "\uFEFFa=1\r\nb=2\rc=3\n", m{"a": "1", "b": "2", "c": "3"}},
	}
}

func TestFlatten(t *testing.T) {
	t.Parallel()
	for _, d := range documents() {
		t.Run(string(d.format)+"/"+d.name, func(t *testing.T) {
			t.Parallel()
			v, err := configsrc.Flatten(d.format, []byte(d.text), configsrc.Origin{Source: "file", Name: "c"}, configsrc.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(d.want, raws(v)); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
			for key, value := range v {
				if o := value.Origin; o.Source != "file" || o.Name != "c" || o.Line < 1 {
					t.Errorf("origin of %s is %+v", key, o)
				}
			}
		})
	}
}

func TestFlattenLines(t *testing.T) {
	t.Parallel()
	for format, text := range map[configsrc.Format]string{
		configsrc.YAML:       "# x\na:\n  b: 1\n  c:\n    - x\n    - |\n      y\n\n  d: {}\n",
		configsrc.JSON:       "\n{\"a\":{\n\"b\":1,\"c\":[\n\n\"x\",\n\"y\"],\n\n\"d\"\n:{}}}",
		configsrc.TOML:       "\n[a]\nb = 1\nc = [\n \"x\",\n \"y\"]\n\n\n[a.d]\n",
		configsrc.Properties: "\n\na.b=1\\\n\na.c[0]=x\na.c[1]=y\n\n\na.d=z\n",
	} {
		v, err := configsrc.Flatten(format, []byte(text), configsrc.Origin{}, configsrc.Limits{})
		if err != nil {
			t.Fatal(format, err)
		}
		want := map[string]int{"a.b": 3, "a.c[0]": 5, "a.c[1]": 6, "a.d": 9}
		if format == configsrc.JSON {
			want["a.d"] = 8 // the line of the key
		}
		if diff := gocmp.Diff(want, lines(v)); diff != "" {
			t.Errorf("%s: lines (-want +got):\n%s", format, diff)
		}
	}
}

func TestFormatOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]configsrc.Format{
		"a.yaml": configsrc.YAML, "/x/a.b.YML": configsrc.YAML, "a.json": configsrc.JSON, "a.toml": configsrc.TOML,
		"a.properties": configsrc.Properties, "a": "", "yaml": "", "a.yaml~": "", "": "", "a.d/b": "",
	} {
		if got, ok := configsrc.FormatOf(name); got != want || ok != (want != "") {
			t.Errorf("FormatOf(%q) = %q, %v", name, got, ok)
		}
	}
}

// canary stands for a secret in a document: no message may hold it.
const canary = "hunter2canary"

func TestFlattenRefuses(t *testing.T) {
	t.Parallel()
	const y, j, tm, p = configsrc.YAML, configsrc.JSON, configsrc.TOML, configsrc.Properties
	for _, c := range []struct {
		name   string
		format configsrc.Format
		text   string
		want   []string // one problem each
	}{
		{"a list as root", y, "- " + canary, []string{"c:1: the document must be a mapping"}},
		{"a text as root", y, "\n" + canary, []string{"c:2: the document must be a mapping"}},
		{"null as root", y, "null", []string{"must be a mapping"}},
		{"two documents", y, "a: 1\n---\nb: " + canary + "\n", []string{"c:2: a second YAML document"}},
		{"a broken second document", y, "a: 1\n---\nb: [" + canary + "\n", []string{"not YAML"}},
		{"tab", y, "a:\n\tb: " + canary + "\n", []string{"c:2: not YAML: a tab stands in the indentation, and YAML indents by spaces only"}},
		{"unclosed", y, "a: [" + canary + "\nb: 1", []string{"not YAML: did not find expected ',' or ']'"}},
		{"unknown anchor", y, "password: *" + canary, []string{"not YAML: an alias (*name) has no anchor"}},
		{"colon in text", y, "a: x: " + canary, []string{"not YAML: mapping values are not allowed"}},
		{"unclosed quote", y, "a: \"" + canary + "\n", []string{"not YAML: found unexpected end of stream"}},
		{"duplicate", y, "a: 1\nb: 2\na: " + canary, []string{"c:3: a: duplicate key: it stands in line 1 too"}},
		{
			"duplicates", y, "x:\n  a: 1\n  a: 2\ny: {b: 1, b: 2}\n1: a\n\"1\": b\n",
			[]string{"c:3: x.a: duplicate key: it stands in line 2", "c:4: y.b: duplicate key: it stands in line 4", "c:6: 1: duplicate key: it stands in line 5"},
		},
		{"duplicate null", y, "a: ~\na: 1\n", []string{"c:2: a: duplicate"}},
		{"duplicate merge key", y, "a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", []string{"c:4: b: duplicate merge key"}},
		{"a duplicate behind an anchor once", y, "a: &a {x: 1, x: 2}\nb: *a\nc: {<<: *a}\n", []string{"c:1: a.x: duplicate"}},
		{"flat and nested", y, "a.b: 1\na:\n  b: " + canary, []string{"c:3: a.b: duplicate key: it stands in line 1"}},
		{"value and section", y, "a: " + canary + "\na.b: 1\n", []string{"c:1: a: is a value here, and a.b (c:2) makes it a section"}},
		{
			"too large", y, "a: 18446744073709551616\nb: -9223372036854775809\nc: 0xFFFFFFFFFFFFFFFFFF\nd: 1e999\n",
			[]string{"c:1: a: number out of range", "c:2: b: number out of range", "c:3: c: number out of range", "c:4: d: number out of range"},
		},
		{
			"too large in other forms", y, "a: +1_0e999\nb: -.5E+999\nc: 0b" + strings.Repeat("1", 65) + "\nd: 1.e999\ne: .1e999\n",
			[]string{"c:1: a: number out of range", "c:2: b: number", "c:3: c: number", "c:4: d: number", "c:5: e: number"},
		},
		{"a duplicate in what is merged", y, "a:\n  <<:\n    b.c: 1\n    b: {c: " + canary + "}\n", []string{"c:4: a.b.c: duplicate key: it stands in line 3"}},
		{"another YAML", y, "%YAML 2.0\n---\na: 1\n", []string{"not YAML: found incompatible YAML document"}},
		{"two directives", y, "%YAML 1.2\n%YAML 1.2\n---\na: 1\n", []string{"not YAML: found"}},
		{"no document behind a directive", y, "%YAML 1.2\na: 1\n", []string{"c:2: not YAML: mapping values are not allowed"}},
		{"not finite", y, "a: .nan\nb: [-.inf, 1]\n", []string{"a: the number is not finite", "b[0]: the number is not finite"}},
		{
			"wrong tag", y, "a: !!int " + canary + "\nb: !!bool " + canary + "\nc: !!float " + canary + "\nd: !!null " + canary,
			[]string{"a: the value is not of the type that its tag !!int", "b: the value", "c: the value", "d: the value"},
		},
		{"a list as key", y, "? [" + canary + "]\n: 1\n", []string{"c:1: a key must be text"}},
		{"an empty key", y, "\"\": 1\na: {\"\": {b: 2}}\n", []string{"c:1: empty key", "c:2: a..b: the key has an empty name"}},
		{"an empty key of a list", y, "\"\": [1, 2]\na: {\"\": [], b.: [~]}\n", []string{"c:1: the key has an empty name", "c:1: the key", "c:2: a.: the key has an empty name", "c:2: a.b.: the key has"}},
		{"control in a key", y, "\"a\\0b\": 1\n", []string{"control character"}},
		{"a wrong merge", y, "a:\n  <<: " + canary, []string{"c:2: a: a merge key (<<) takes"}},
		{"an anchor in itself", y, "a: &a\n  b: [*a]\n", []string{"c:2: a.b[0]: the alias stands inside its own anchor"}},
		{"a merge in itself", y, "a: &a\n  b: 1\n  <<: *a\n", []string{"the alias stands inside its own anchor"}},
		{"control character", y, "a: \x01" + canary, []string{"control characters are not allowed"}},

		{"a list as root", j, "[\"" + canary + "\"]", []string{"c:1: the document must be a mapping"}},
		{"null as root", j, "null", []string{"must be a mapping"}},
		{"syntax", j, "{\n\"a\": " + canary + "}", []string{"c:2: not JSON: syntax error at column 6"}},
		{"trailing comma", j, "{\"a\": 1,\n}", []string{"c:2: not JSON: syntax error at column 1"}},
		{"cut off", j, "{\"a\":\n \"" + canary, []string{"c:2: not JSON: the document ends too early"}},
		{"cut off in a section", j, "{\"a\":\n {", []string{"c:2: not JSON: the document ends too early"}},
		{"more", j, "{}\n{}", []string{"c:2: not JSON: there is more behind the end of the document, at column 1"}},
		{"comment", j, "{\"a\":1 // x\n}", []string{"c:1: not JSON: syntax error at column 8"}},
		{"duplicate", j, "{\"a\":1,\n\"b\":2,\n\"a\":{\"x\":[1,\"]\"]}}", []string{"c:3: a: duplicate key: it stands in line 1"}},
		{"duplicate null", j, "{\"a\":null,\n\"a\":1}", []string{"c:2: a: duplicate"}},
		{"flat and nested", j, "{\"a.b\":1,\n\"a\":{\"b\":2}}", []string{"c:2: a.b: duplicate key: it stands in line 1"}},
		{
			"half pairs", j, `{"a":"\ud800` + canary + `","b":["\udc00"],"c\ud800x":{"d":1},"e":"\ud800\u0041","f":"\ud800"}`,
			[]string{"a key has half a surrogate pair", "a: half", "b[0]: half", "e: half", "f: half"},
		},
		{"too large", j, `{"a":18446744073709551616,"b":-9223372036854775809,"c":[1e999,2]}`, []string{"a: number out of range", "b: number", "c[0]: number"}},

		{"syntax", tm, "a = 1\nb = " + canary, []string{"c:2: not TOML: "}},
		{"duplicate", tm, "a = 1\nb = 2\na = \"" + canary + "\"", []string{"c:3: a: duplicate key: it stands in line 1"}},
		{"duplicate table", tm, "[a]\nx = 1\n[b]\n[a]\ny = 1\n", []string{"c:4: a key or table is defined twice"}},
		{"table over value", tm, "a = \"" + canary + "\"\n[a]\nx = 1\n", []string{"a: is a value here, and a.x", "c:2: a key or table is defined twice"}},
		{"empty table over value", tm, "a = \"" + canary + "\"\n[a]\n", []string{"c:2: a key or table is defined twice"}},
		{"not finite", tm, "a = nan\nb = [-inf, 1.0]\n", []string{"a: the number is not finite", "b[0]: the number is not finite"}},
		{"too large", tm, "a = 9223372036854775808\nb = 1e999\n", []string{"a: number out of range", "b: number out of range"}},
		{"an impossible date", tm, "a = 2021-02-30\n", []string{"c:1: not TOML: impossible date"}},
		{"an empty key", tm, "\"\" = 1\n", []string{"c:1: empty key"}},
		{"a leading zero", tm, "a = 01\n", []string{"c:1: not TOML: integers cannot have leading zeroes"}},

		{"duplicate", p, "a=1\nb=2\na : " + canary, []string{"c:3: a: duplicate key: it stands in line 1"}},
		{
			"broken escapes", p, "a=1\nb=\\u12" + canary + "\nc=\\ud800" + canary + "\nd\\u=x\ne=\\udc00\\ud800\nf=\\u12\ng=\\ud800",
			[]string{"c:2: b: not a .properties file: \\u takes four", "c:3: c: half a surrogate", "c:4: d: not a", "c:5: e: half", "c:6: f: not a", "c:7: g: half"},
		},
		{"no key", p, "=" + canary + "\n", []string{"c:1: empty key"}},
		{"value and section", p, "a=1\na.b=2\n", []string{"a: is a value here"}},
		{"hole", p, "a[0]=1\na[2]=2\n", []string{"c:2: a[2]: the list has a hole"}},

		{"format", "ini", "", []string{"unknown format"}},
	} {
		t.Run(string(c.format)+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			v, err := configsrc.Flatten(c.format, []byte(c.text), configsrc.Origin{Source: "file", Name: "c"}, configsrc.Limits{})
			if v != nil {
				t.Errorf("values beside an error: %v", v.Keys())
			}
			problems := problemsOf(t, err)
			if len(problems) != len(c.want) {
				t.Fatalf("problems are %q, want %d", problems, len(c.want))
			}
			for i, want := range c.want {
				if got := problems[i].String(); !strings.Contains(got, want) {
					t.Errorf("problem %d is %q, want %q in it", i, got, want)
				}
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the message quotes a value: %v", err)
			}
		})
	}
}

func TestFlattenNotText(t *testing.T) {
	t.Parallel()
	for _, format := range []configsrc.Format{configsrc.YAML, configsrc.JSON, configsrc.TOML, configsrc.Properties} {
		for text, want := range map[string]string{
			"\xff\xfea\x00":  "UTF-16: save it as UTF-8",
			"\xfe\xff\x00a":  "UTF-16",
			"\n\na\x00b":     "c:3: not text: the document holds a NUL byte",
			"a\n=\xc3\x28\n": "c:2: not text: the document is not valid UTF-8",
			"\n\xed\xa0\x80": "c:2: not text", // a surrogate
		} {
			_, err := configsrc.Flatten(format, []byte(text), configsrc.Origin{Name: "c"}, configsrc.Limits{})
			problemsOf(t, err)
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %q: %v, want %q in it", format, text, err, want)
			}
		}
	}
}
