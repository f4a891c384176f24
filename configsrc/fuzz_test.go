package configsrc_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/magiconair/properties"
	"go.yaml.in/yaml/v3"

	"github.com/hotsvc/svc/configsrc"
)

// tight limits, so that fuzzing meets them.
func tight() configsrc.Limits {
	return configsrc.Limits{Bytes: 4096, Keys: 60, KeyBytes: 40, ValueBytes: 100, Depth: 6}
}

// checkFlatten is what holds for every document.
func checkFlatten(t *testing.T, format configsrc.Format, data []byte) {
	t.Helper()
	origin := configsrc.Origin{Source: "fuzz", Name: "c"}
	for _, limits := range []configsrc.Limits{{}, tight()} {
		v, err := configsrc.Flatten(format, data, origin, limits)
		again, errAgain := configsrc.Flatten(format, data, origin, limits)
		if diff := gocmp.Diff(v, again); diff != "" || (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
			t.Fatalf("twice the same document: %v, %v\n%s", err, errAgain, diff)
		}
		if err != nil {
			if v != nil {
				t.Fatal("values beside an error")
			}
			for _, p := range problemsOf(t, err) {
				if p.Reason == "" || p.Origin.Line < 0 || p.Origin.Line > 1+bytes.Count(data, []byte{'\n'})+bytes.Count(data, []byte{'\r'})+strings.Count(string(data), "\u2028")+strings.Count(string(data), "\u2029")+strings.Count(string(data), "\u0085") {
					t.Fatalf("problem %+v", p)
				}
			}
			continue
		}
		if err := v.Check(limits); err != nil {
			t.Fatalf("the result does not pass: %v", err)
		}
		for key, value := range v {
			if value.Origin.Line < 1 || value.Origin.Source != "fuzz" || value.Shadows != nil {
				t.Fatalf("%s: %+v", key, value.Origin)
			}
		}
		if back, err := configsrc.FromTree(v.Tree(), origin); limits == (configsrc.Limits{}) && (err != nil || back.Hash() != v.Hash()) {
			t.Fatalf("its tree flattens to something else: %v", err)
		}
	}
}

func fuzzFormat(f *testing.F, format configsrc.Format, seeds ...string) {
	f.Helper()
	for _, d := range documents() {
		if d.format == format {
			f.Add([]byte(d.text))
		}
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkFlatten(t, format, data) })
}

func FuzzFlattenYAML(f *testing.F) {
	fuzzFormat(f, configsrc.YAML, "a: &a\n  b: *a\n", "a: 1\na: 2\n", "a:\n\tb", "? [a]\n: b\n", "a: *x", "a: 1\n---\nb: 2\n", "%YAML 1.2\n---\na: 1\n...\n",
		"a: &a {x: 1}\nb: {<<: [*a, {y: 2}], x: 3}\n", "a: 0x_1\nb: .inf\nc: 1e999\nd: 089\n", "a: !!int x\n", strings.Repeat("{a: ", 70), "a: \"\\ud800\\x85\"\n")
}

func FuzzFlattenJSON(f *testing.F) {
	fuzzFormat(f, configsrc.JSON, `{"a":1,"a":2}`, `{"a":"\ud800"}`, `{"a":[1,{"b":[[[[[[[1]]]]]]]}]}`, `{"a":`, `{}{}`, `[]`, `{"a":1e999,"":2}`, `{"a":"\\\""}`)
}

func FuzzFlattenTOML(f *testing.F) {
	fuzzFormat(f, configsrc.TOML, "a=1\na=2", "[a]\n[a]", "[[a]]\n[a]\n", "a=[{b=1},{c=[2]}]\n[[d.e]]\n[d.e.f]\ng=1\n[[d.e]]", "a=\"\"\"\nx\\\n y\"\"\"", "a.b.c.d.e.f.g=1",
		"\"\"=1", "a=nan", "a=1979-05-27T07:32:00Z", "x='''\n'''", "a=[[[[[[[1]]]]]]]", "\"a[0]\"=1\n[[a]]")
}

func FuzzFlattenProperties(f *testing.F) {
	fuzzFormat(f, configsrc.Properties, "a=1\na=2", "a=\\u00", "a\\", "=x", "a[0]=1\na[2]=2", "a\\\n\\\n=b", "\\", "a=\\ud83d\\ude00")
}

// FuzzFlattenAlike: JSON is YAML too, and both say what the tree says that was
// written.
func FuzzFlattenAlike(f *testing.F) {
	for _, d := range documents() {
		if d.format == configsrc.JSON {
			f.Add([]byte(d.text))
		}
	}
	f.Add([]byte(`{"a":"yes","b":"1","c":"~","d":"<<","<<":{"x":"2001-01-01"},"e":[null,1.5,-3,1e30,"\t\n\u2028x"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var tree map[string]any
		if json.Unmarshal(data, &tree) != nil || tree == nil {
			t.Skip("no tree in it")
		}
		written, err := json.MarshalIndent(tree, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		fromJSON, errJSON := configsrc.Flatten(configsrc.JSON, written, configsrc.Origin{}, configsrc.Limits{})
		// A float of 2^63 and more is written like an integer.
		if fromTree, errTree := configsrc.FromTree(tree, configsrc.Origin{}); errJSON == nil || !strings.Contains(errJSON.Error(), "out of range") {
			if diff := gocmp.Diff(numbers(fromTree), numbers(fromJSON)); diff != "" || (errTree == nil) != (errJSON == nil) {
				t.Fatalf("tree: %v, JSON: %v\n%s\n%s", errTree, errJSON, diff, written)
			}
		}
		// YAML does not take these characters as they are.
		if bytes.ContainsFunc(written, func(r rune) bool { return r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff }) {
			return
		}
		fromYAML, errYAML := configsrc.Flatten(configsrc.YAML, written, configsrc.Origin{}, configsrc.Limits{})
		if diff := gocmp.Diff(raws(fromJSON), raws(fromYAML)); diff != "" || (errYAML == nil) != (errJSON == nil) {
			t.Fatalf("JSON: %v, YAML: %v\n%s\n%s", errJSON, errYAML, diff, written)
		}
	})
}

// numbers are the raw values with every number as a float64, which is what
// encoding/json makes of an untyped one.
func numbers(v configsrc.Values) map[string]any {
	m := raws(v)
	for key, raw := range m {
		switch n := raw.(type) {
		case int64:
			m[key] = float64(n)
		case uint64:
			m[key] = float64(n)
		}
	}
	return m
}

// FuzzPropertiesAlike: what the library reads, we read the same way. It is the
// test of our reader; what Java says and the library does not is in the table
// of TestFlatten.
func FuzzPropertiesAlike(f *testing.F) {
	for _, d := range documents() {
		if d.format == configsrc.Properties {
			f.Add([]byte(d.text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// The library takes a \r for an end of line in the middle of \r\n, does
		// not continue a line in a key or before a separator, ends a file in a
		// backslash with an error, and makes no pairs of \u escapes.
		text := string(data)
		if strings.ContainsAny(text, "\r") || strings.Contains(text, "\\\n") || strings.HasSuffix(text, "\\") || strings.Contains(strings.ToLower(text), `\ud`) {
			t.Skip("not alike on purpose")
		}
		got, err := configsrc.Flatten(configsrc.Properties, data, configsrc.Origin{}, configsrc.Limits{})
		if err != nil {
			t.Skip("refused: the library takes more")
		}
		loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
		want, err := loader.LoadBytes(bytes.TrimPrefix(data, []byte("\uFEFF")))
		if err != nil {
			t.Fatalf("the library refuses it: %v\n%q", err, text)
		}
		if diff := gocmp.Diff(want.Map(), texts(got)); diff != "" {
			t.Fatalf("(-library +ours):\n%s\n%q", diff, text)
		}
	})
}

func texts(v configsrc.Values) map[string]string {
	m := make(map[string]string, len(v))
	for key, value := range v {
		m[key], _ = value.Raw.(string)
	}
	return m
}

// FuzzYAMLScalars: a scalar is what the library's own decoder makes of it.
func FuzzYAMLScalars(f *testing.F) {
	for _, s := range []string{
		"1", "0x1F", "0o17", "017", "0b1", "-0b1", "1_0", "_1", "089", "1e3", ".5", "+5", "-.5e-3", "true", "True", "yes", "~", "null", "Null", "",
		"1.", "1e", "0x", "0o8", "+0x1", "-0x_1", "!!float 3", "!!int '5'", "!!str 5", "! 5", ".inf", "2001-01-01", "18446744073709551615", "<<",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		document := []byte("a: " + s + "\n")
		var want map[string]any
		if yaml.Unmarshal(document, &want) != nil || len(want) != 1 {
			t.Skip("not one scalar")
		}
		got, err := configsrc.Flatten(configsrc.YAML, document, configsrc.Origin{}, configsrc.Limits{})
		if err != nil {
			t.Skip("refused")
		}
		raw := got["a"].Raw
		switch n := want["a"].(type) {
		case nil, bool, string, float64, int64, uint64:
			if raw != n && !strings.Contains(s, "!!binary") {
				t.Fatalf("%q is %#v, in the library %#v", s, raw, n)
			}
		case int:
			if raw != int64(n) {
				t.Fatalf("%q is %#v, in the library %#v", s, raw, n)
			}
		}
	})
}
