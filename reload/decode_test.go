package reload

import (
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hotsvc/svc/configsrc"
)

type kinds struct {
	Bool     bool             `config:"bool"`
	Int8     int8             `config:"int8"`
	Int      int              `config:"int"`
	Uint16   uint16           `config:"uint16"`
	Uint64   uint64           `config:"uint64"`
	Float    float64          `config:"float"`
	Float32  float32          `config:"float32"`
	Text     string           `config:"text"`
	Duration time.Duration    `config:"duration"`
	Addr     netip.Addr       `config:"addr"`
	Secret   configsrc.Secret `config:"secret"`
	List     []string         `config:"list"`
	Numbers  []int            `config:"numbers"`
	Delays   []time.Duration  `config:"delays"`
	Routes   []route          `config:"routes"`
	Labels   map[string]int   `config:"labels"`
	Any      any              `config:"any"`
	Open     map[string]any   `config:"open"`
	Optional *int             `config:"optional"`
	Part     *part            `config:"part"`
	hidden   int              //nolint:unused // no setting
	Left     func()           `config:"-"`
}

type route struct {
	Path string `config:"path"`
	Port int    `config:"port"`
}

type part struct {
	Size int `config:"size"`
}

func kindsSchema(t testing.TB) *schema {
	t.Helper()
	s, err := newSchema(reflect.TypeFor[kinds]())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConversions(t *testing.T) {
	const text, number, other = "other text", "a number", "out of range"
	three := 3
	for _, c := range []struct {
		yaml string
		want kinds  // where no problem is expected
		says string // else in the one problem
	}{
		{yaml: "bool: true", want: kinds{Bool: true}},
		{yaml: "bool: 'TRUE'", want: kinds{Bool: true}},
		{yaml: "bool: yes please", says: text},
		{yaml: "bool: 1", says: number},
		{yaml: "int8: -128", want: kinds{Int8: -128}},
		{yaml: "int8: 128", says: other},
		{yaml: "int8: '12'", want: kinds{Int8: 12}},
		{yaml: "int: 1.0", says: number},
		{yaml: "int: 1.5", says: number},
		{yaml: "int: 9223372036854775808", says: other},
		{yaml: "uint16: -1", says: other},
		{yaml: "uint16: 65535", want: kinds{Uint16: 65535}},
		{yaml: "uint64: 18446744073709551615", want: kinds{Uint64: math.MaxUint64}},
		{yaml: "uint64: '18446744073709551615'", want: kinds{Uint64: math.MaxUint64}},
		{yaml: "float: 1", want: kinds{Float: 1}},
		{yaml: "float: '1e3'", want: kinds{Float: 1000}},
		{yaml: "float: 'NaN'", says: text},
		{yaml: "float32: 1e300", says: other},
		{yaml: "text: abc", want: kinds{Text: "abc"}},
		{yaml: "text: 1.10", says: "quotes"},
		{yaml: "text: no", want: kinds{Text: "no"}},
		{yaml: "text: false", says: "quotes"},
		{yaml: "duration: 1500ms", want: kinds{Duration: 1500 * time.Millisecond}},
		{yaml: "duration: 1500", want: kinds{Duration: 1500 * time.Millisecond}},
		{yaml: "duration: '1500'", want: kinds{Duration: 1500 * time.Millisecond}},
		{yaml: "duration: 1.5", says: number},
		{yaml: "duration: 5 parsecs", says: "units are"},
		{yaml: "duration: 3days", says: "units are"},
		{yaml: "duration: 9223372036854775807", says: other},
		{yaml: "addr: 10.0.0.1", want: kinds{Addr: netip.MustParseAddr("10.0.0.1")}},
		{yaml: "addr: nowhere", says: text},
		{yaml: "secret: hush", want: kinds{Secret: "hush"}},
		{yaml: "secret: 1234", says: "quotes"},
		{yaml: "list: [a, b]", want: kinds{List: []string{"a", "b"}}},
		{yaml: "list: a, b", want: kinds{List: []string{"a", "b"}}},
		{yaml: "list: ''", want: kinds{List: []string{}}},
		{yaml: "list: []", want: kinds{List: []string{}}},
		{yaml: "list: 7", says: "want a list"},
		{yaml: "list: [a, 7]", says: "quotes"},
		{yaml: "list: {a: 1}", says: "list.a: list is a list"},
		{yaml: "numbers: 1, 2", want: kinds{Numbers: []int{1, 2}}},
		{yaml: "delays: [1s, 20]", want: kinds{Delays: []time.Duration{time.Second, 20 * time.Millisecond}}},
		{yaml: "routes: [{path: /, port: 1}]", want: kinds{Routes: []route{{"/", 1}}}},
		{yaml: "routes: [{path: /, prot: 1}]", says: "routes[0].prot"},
		{yaml: "routes: [{path: /, port: x}]", says: "routes[0].port"},
		{yaml: "labels: {a: 1}", want: kinds{Labels: map[string]int{"a": 1}}},
		{yaml: "labels: {a: x}", says: "labels.a: want a whole number"},
		{yaml: "any: 3", want: kinds{Any: int64(3)}},
		{yaml: "open: {a: {b: [1, x]}}", want: kinds{Open: map[string]any{"a": map[string]any{"b": []any{int64(1), "x"}}}}},
		{yaml: "optional: 3", want: kinds{Optional: &three}},
		{yaml: "part: {size: 3}", want: kinds{Part: &part{3}}},
		{yaml: "part: {}", want: kinds{}},
		{yaml: "part: 3", says: "part: is a section, not one value: set part.size"},
		{yaml: "int: {a: 1}", says: "int.a: int is one value"},
		{yaml: "Int: 1", says: "Int: no setting has this name, did you mean int?"},
		{yaml: "hidden: 1", says: "no setting"},
		{yaml: "left: 1", says: "no setting"},
	} {
		t.Run(c.yaml, func(t *testing.T) {
			values, err := configsrc.Flatten(configsrc.YAML, []byte(c.yaml), configsrc.Origin{Name: "f"}, configsrc.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			var got kinds
			problems, unknown := kindsSchema(t).decode(values, &got)
			problems = append(problems, unknown...)
			if c.says != "" {
				if len(problems) != 1 || !strings.Contains(problems[0].String(), c.says) || problems[0].Origin.Line != 1 {
					t.Fatalf("problems %v, want one that says %q", problems, c.says)
				}
				return
			}
			if len(problems) > 0 {
				t.Fatalf("problems %v", problems)
			}
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(kinds{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Left" }, cmp.Ignore())); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestListReplacesTheDefaultWhole(t *testing.T) {
	s := kindsSchema(t)
	got := kinds{List: []string{"x", "y", "z"}, Routes: []route{{"/a", 1}, {"/b", 2}}}
	values := configsrc.Values{"list[0]": {Raw: "n"}, "routes[0].path": {Raw: "/n"}}
	if problems, _ := s.decode(values, &got); len(problems) > 0 {
		t.Fatal(problems)
	}
	if !reflect.DeepEqual(got.List, []string{"n"}) || !reflect.DeepEqual(got.Routes, []route{{"/n", 0}}) {
		t.Errorf("got %v %v", got.List, got.Routes)
	}
}

func TestConfigTypesThatAreRefused(t *testing.T) {
	type loop struct {
		Next *loop `config:"next"`
	}
	for name, typ := range map[string]reflect.Type{
		"no tag": reflect.TypeFor[struct{ Name string }](),
		"twice": reflect.TypeFor[struct {
			A, B int `config:"a"`
		}](),
		"dotted": reflect.TypeFor[struct {
			A int `config:"a.b"`
		}](),
		"func": reflect.TypeFor[struct {
			A func() `config:"a"`
		}](),
		"map by int": reflect.TypeFor[struct {
			A map[int]string `config:"a"`
		}](),
		"no struct": reflect.TypeFor[int](),
		"in itself": reflect.TypeFor[loop](),
		"alias is key": reflect.TypeFor[struct {
			A int `config:"a" alias:"b"`
			B int `config:"b"`
		}](),
		"optional section live in part": reflect.TypeFor[struct {
			A *struct {
				B int `config:"b"`
				C int `config:"c" reload:"live"`
			} `config:"a"`
		}](),
		"alias twice": reflect.TypeFor[struct {
			A int `config:"a" alias:"c"`
			B int `config:"b" alias:"c"`
		}](),
	} {
		if _, err := newSchema(typ); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestEncodeIsCanonical: whatever a decoded config was written as, encoding it,
// flattening and decoding that gives the same config.
func TestEncodeIsCanonical(t *testing.T) {
	s := kindsSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		three := rapid.Int().Draw(t, "optional")
		in := kinds{
			Bool: rapid.Bool().Draw(t, "bool"), Int8: rapid.Int8().Draw(t, "int8"), Uint64: rapid.Uint64().Draw(t, "uint64"),
			Float: rapid.Float64Range(-1e300, 1e300).Draw(t, "float"), Text: rapid.String().Draw(t, "text"),
			Duration: time.Duration(rapid.Int64().Draw(t, "duration")), Secret: configsrc.Secret(rapid.String().Draw(t, "secret")),
			List: rapid.SliceOf(rapid.String()).Draw(t, "list"), Optional: &three,
			Routes: rapid.SliceOf(rapid.Custom(func(t *rapid.T) route {
				return route{rapid.String().Draw(t, "path"), rapid.Int().Draw(t, "port")}
			})).Draw(t, "routes"),
		}
		first := s.encode(&in)
		tree := map[string]any{}
		for k, v := range first {
			if k != "addr" && k != "any" { // a zero Addr has no text that parses
				tree[k] = v
			}
		}
		values, err := configsrc.FromTree(tree, configsrc.Origin{})
		if err != nil {
			t.Skip("text that no configuration holds") // invalid UTF-8, control characters in keys
		}
		var out kinds
		if problems, unknown := s.decode(values, &out); len(problems)+len(unknown) > 0 {
			t.Fatalf("%v %v", problems, unknown)
		}
		second := s.encode(&out)
		if d := first.diff(second); len(d) > 0 {
			t.Fatalf("differs in %v", d)
		}
	})
}

func TestCombine(t *testing.T) {
	s, err := newSchema(reflect.TypeFor[settings]())
	if err != nil {
		t.Fatal(err)
	}
	running, next := defaults(), defaults()
	next.Workers, next.Timeout, next.Listen = 9, time.Minute, []string{"x"}
	got, _ := s.combine(&running, &next).(*settings)
	if got.Workers != running.Workers || got.Timeout != next.Timeout || got.Listen[0] != running.Listen[0] {
		t.Errorf("combined %+v", got)
	}
	if next.Workers != 9 || running.Timeout != time.Second {
		t.Error("an input was changed")
	}
	values := s.combineValues(
		configsrc.Values{"workers": {Raw: int64(1)}, "timeout": {Raw: "1s"}, "listen[0]": {Raw: "a"}, "listen[1]": {Raw: "b"}, "unknown": {Raw: "old"}},
		configsrc.Values{"workers": {Raw: int64(2)}, "timeout": {Raw: "2s"}, "listen[0]": {Raw: "c"}, "unknown": {Raw: "new"}})
	if values["workers"].Raw != int64(1) || values["timeout"].Raw != "2s" || values["listen[1]"].Raw != "b" || values["unknown"].Raw != "new" {
		t.Errorf("combined %v", values.Keys())
	}
}

func TestDiffHasChangedAddedAndRemovedKeys(t *testing.T) {
	before := effective{"same": int64(1), "changed": "a", "removed": true, "list": []any{"x"}}
	after := effective{"same": int64(1), "changed": "b", "added": true, "list": []any{"x", "y"}}
	if got, want := after.diff(before), []string{"added", "changed", "list", "removed"}; !slices.Equal(got, want) {
		t.Errorf("differs in %v, want %v", got, want)
	}
}

// FuzzDecode: any flat content is decoded wholly or refused, without a panic.
func FuzzDecode(f *testing.F) {
	f.Add("duration: 3s\nlist: [a]\nroutes: [{path: x}]\n")
	f.Add("labels: {a: 1}\nopen: {b: [1, {c: ~}]}\npart: {size: 1}\nany: []\n")
	f.Add("int: [1]\nlist: [[a], {b: 1}]\nroutes: a,b\nlabels: [x]\n'labels': 1\n")
	f.Add("optional: {}\npart: []\ndelays: 1s,2\n\"a[0]\": 1\n")
	s := kindsSchema(f)
	checker := newValidate()
	f.Fuzz(func(t *testing.T, yaml string) {
		values, err := configsrc.Flatten(configsrc.YAML, []byte(yaml), configsrc.Origin{}, configsrc.Limits{})
		if err != nil {
			return
		}
		defaults := kinds{List: []string{"default"}, Int: 7}
		untouched := defaults
		got := defaults
		problems, _ := s.decode(values, &got)
		again := untouched
		problems2, _ := s.decode(values, &again)
		if !reflect.DeepEqual(problems, problems2) {
			t.Fatalf("decoded twice, differently: %v, %v", problems, problems2)
		}
		if len(problems) == 0 {
			s.validate(checker, &got, values)
			if d := s.encode(&got).diff(s.encode(&again)); len(d) > 0 {
				t.Fatalf("decoded twice, differently: %v", d)
			}
		}
		if !reflect.DeepEqual(defaults.List, untouched.List) {
			t.Fatal("the defaults were changed")
		}
		for _, p := range problems {
			if p.Key == "" {
				t.Errorf("a problem without a key: %v", p)
			}
		}
	})
}
