package configsrc_test

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hotsvc/svc/configsrc"
)

func TestTree(t *testing.T) {
	t.Parallel()
	v := layer("x", "a.b", int64(1), "a.l[0].x", true, "a.l[0].y[0][0]", nil, "a.l[1]", "t", "e", emptyList, "s", emptySection,
		"m[0]", emptyList, "m[1]", emptySection, "[0]", uint64(math.MaxUint64), "a-b", 1.5)
	want := map[string]any{
		"a": map[string]any{"b": int64(1), "l": []any{map[string]any{"x": true, "y": []any{[]any{nil}}}, "t"}},
		"e": []any{}, "s": map[string]any{}, "m": []any{[]any{}, map[string]any{}}, "[0]": uint64(math.MaxUint64), "a-b": 1.5,
	}
	if diff := gocmp.Diff(want, v.Tree()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := values(nil).Tree(); got == nil || len(got) != 0 {
		t.Errorf("no values make %v", got)
	}
}

func TestTreeOfUncheckedValues(t *testing.T) {
	t.Parallel()
	v := layer("x", "a", "1", "a.b", "2", "a[0]", "3", "l[3]", "x", "l[1000000000]", "y", "l[99999999999999999999999]", "z",
		"s.a", true, "s[0]", false, "", "root", ".", "dot", "q..r", "two")
	want := map[string]any{
		"a": "1", "l": []any{"x", "y", "z"}, "s": map[string]any{"a": true}, "": "root",
		"q": map[string]any{"": map[string]any{"r": "two"}},
	}
	if diff := gocmp.Diff(want, v.Tree()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := values{}
		for _, key := range rapid.SliceOfN(anyKey(), 0, 8).Draw(t, "keys") {
			v[key] = configsrc.Value{Raw: true}
		}
		v.Tree() // does not panic
	})
}

func TestFromTreeUndoesTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		origin := configsrc.Origin{Source: "x"}
		v, err := configsrc.FromTree(drawTree(t, 3), origin)
		if err != nil {
			t.Fatal(err)
		}
		again, err := configsrc.FromTree(v.Tree(), origin)
		if diff := gocmp.Diff(v, again); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func TestFromTreeTypes(t *testing.T) {
	t.Parallel()
	got, err := configsrc.FromTree(map[string]any{
		"i": []any{int(-1), int8(2), int16(3), int32(4), int64(5), uint(6), uint8(7), uint16(8), uint32(9), uint64(10), uint64(math.MaxUint64)},
		"f": []any{float32(0.5), 1.5}, "o": []any{true, "x", nil, map[string]any{}, []any{}}, "n": nil, "s": map[string]any{"n": nil}, "a.b": 1,
	}, configsrc.Origin{Source: "x", Line: 7})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"i[0]": int64(-1), "i[1]": int64(2), "i[2]": int64(3), "i[3]": int64(4), "i[4]": int64(5), "i[5]": int64(6), "i[6]": int64(7),
		"i[7]": int64(8), "i[8]": int64(9), "i[9]": int64(10), "i[10]": uint64(math.MaxUint64), "f[0]": 0.5, "f[1]": 1.5,
		"o[0]": true, "o[1]": "x", "o[2]": nil, "o[3]": emptySection, "o[4]": emptyList, "s": emptySection, "a.b": int64(1),
	}
	if diff := gocmp.Diff(want, raws(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if o := got["a.b"].Origin; o != (configsrc.Origin{Source: "x", Line: 7}) {
		t.Errorf("origin is %+v", o)
	}
}

func TestFromTreeRefuses(t *testing.T) {
	t.Parallel()
	itself := map[string]any{}
	itself["a"] = []any{itself}
	for name, c := range map[string]struct {
		tree map[string]any
		want string
	}{
		"a type":    {map[string]any{"a": []any{1, time.Second}}, "a[1]: a time.Duration is no configuration value"},
		"strings":   {map[string]any{"a": []string{"x"}}, "a: a []string is no"},
		"NaN":       {map[string]any{"a": math.NaN()}, "a: the number is not finite"},
		"itself":    {itself, "a[0]: the tree contains itself here"},
		"duplicate": {map[string]any{"a.b": 1, "a": map[string]any{"b": 2}}, "a.b: duplicate key"},
		"collision": {map[string]any{"a.b": 1, "a": 2}, "a: is a value here, and a.b"},
		"empty key": {map[string]any{"": 1}, "empty key"},
	} {
		_, err := configsrc.FromTree(c.tree, configsrc.Origin{})
		if problems := problemsOf(t, err); len(problems) != 1 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one problem with %q", name, err, c.want)
		}
	}
}

func TestFromTreeOfMapsInEachOther(t *testing.T) {
	t.Parallel()
	twice := map[string]any{}
	twice["a"], twice["b"] = twice, twice
	list := []any{nil, nil}
	list[0], list[1] = list, list
	shared, null := any(map[string]any{}), any(map[string]any{"a": nil})
	for range 60 {
		shared = map[string]any{"a": shared, "b": shared}
		null = []any{null, null}
	}
	for name, c := range map[string]struct {
		tree map[string]any
		want []string
	}{
		"itself twice":     {twice, []string{"a: the tree contains itself here", "b: the tree contains itself here"}},
		"a list in itself": {map[string]any{"a": list}, []string{"a[0]: the tree contains itself here", "a[1]: the tree contains itself here"}},
		"shared":           {map[string]any{"a": shared}, []string{"more keys than the limit of 10000"}},
		"shared nulls":     {map[string]any{"a": map[string]any{"b": null}}, []string{"more keys than the limit of 10000"}},
	} {
		start := time.Now()
		_, err := configsrc.FromTree(c.tree, configsrc.Origin{})
		problems := problemsOf(t, err)
		for i, want := range c.want {
			if len(problems) != len(c.want) || !strings.Contains(problems[i].String(), want) {
				t.Errorf("%s: problems are %.300q, want %q", name, problems, c.want)
				break
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	section := make(map[string]any)
	for i := range 300_000 {
		section[strconv.Itoa(i)] = nil
	}
	_, err := configsrc.FromTree(section, configsrc.Origin{})
	if problems := problemsOf(t, err); len(problems) != 1 || !strings.Contains(err.Error(), "more values than the limit of 200000") {
		t.Errorf("nulls: %.300v", err)
	}
	leaf := map[string]any{"x": 1}
	v, err := configsrc.FromTree(map[string]any{"a": leaf, "b": []any{leaf, leaf}}, configsrc.Origin{})
	if diff := gocmp.Diff(map[string]any{"a.x": int64(1), "b[0].x": int64(1), "b[1].x": int64(1)}, raws(v)); err != nil || diff != "" {
		t.Errorf("the same map side by side: %v\n%s", err, diff)
	}
}

func TestUnder(t *testing.T) {
	t.Parallel()
	v := layer("x", "a", 1, "a.b", 2, "a.b.c", 3, "a.b[0]", 4, "a[0].b", 5, "ab.c", 6, "a.a.b", 7)
	for prefix, want := range map[string]map[string]any{
		"a": {"b": 2, "b.c": 3, "b[0]": 4, "a.b": 7}, "a.b": {"c": 3}, "b": {}, "a[0]": {"b": 5}, "": raws(v),
	} {
		if diff := gocmp.Diff(want, raws(v.Under(prefix))); diff != "" {
			t.Errorf("Under(%q) (-want +got):\n%s", prefix, diff)
		}
	}
	if got := v.Under("a")["b"].Origin.Source; got != "x" {
		t.Errorf("origin is %q", got)
	}
}
