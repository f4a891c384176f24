package configsrc_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hotsvc/svc/configsrc"
)

type values = configsrc.Values

// layer makes a layer of keys and raw values, all from one source.
func layer(source string, kv ...any) values {
	v := values{}
	for i := 0; i < len(kv); i += 2 {
		v[kv[i].(string)] = configsrc.Value{Raw: kv[i+1], Origin: configsrc.Origin{Source: source}}
	}
	return v
}

// shown is the result as "key=raw source < shadow, shadow", one a line.
func shown(v values) []string {
	var out []string
	for _, key := range v.Keys() {
		line := fmt.Sprintf("%s=%v %s", key, v[key].Raw, v[key].Origin.Source)
		for i, s := range v[key].Shadows {
			line += [...]string{" < ", ", "}[min(i, 1)] + fmt.Sprintf("%s=%v %s", s.Key, s.Raw, s.Origin.Source)
		}
		out = append(out, line)
	}
	return out
}

func TestMerge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		layers []values
		want   []string
	}{
		"nothing":      {nil, nil},
		"empty layers": {[]values{nil, {}, layer("x", "a", "1"), {}}, []string{"a=1 x"}},
		"the higher key wins": {
			[]values{layer("x", "a", "1", "b", "1"), layer("y", "b", "2", "c", "2"), layer("z", "b", "3")},
			[]string{"a=1 x", "b=3 z < b=2 y, b=1 x", "c=2 y"},
		},
		"a list is one value": {
			[]values{layer("x", "l[0]", "1", "l[1]", "2", "l[2]", "3"), layer("y", "l[0]", "9")},
			[]string{"l[0]=9 y < l[0]=1 x, l[1]=2 x, l[2]=3 x"},
		},
		"a longer list": {
			[]values{layer("x", "l[0]", "1"), layer("y", "l[0]", "8", "l[1]", "9")},
			[]string{"l[0]=8 y < l[0]=1 x", "l[1]=9 y"},
		},
		"three lists": {
			[]values{layer("x", "l[0]", "1", "l[1]", "2"), layer("y", "l[0]", "3", "l[1]", "4"), layer("z", "l[0]", "5", "l[1]", "6")},
			[]string{"l[0]=5 z < l[0]=3 y, l[1]=4 y, l[0]=1 x, l[1]=2 x", "l[1]=6 z"},
		},
		"the outermost list counts": {
			[]values{layer("x", "l[0].n", "1", "l[1].m[0]", "2"), layer("y", "l[0].m[0]", "9")},
			[]string{"l[0].m[0]=9 y < l[0].n=1 x, l[1].m[0]=2 x"},
		},
		"order in a list is by number": {
			[]values{layer("x", slices.Concat([]any{"l[10]", "k"}, tenElements())...), layer("y", "l", emptyList)},
			[]string{"l=[] y < l[0]=0 x, l[1]=1 x, l[2]=2 x, l[3]=3 x, l[4]=4 x, l[5]=5 x, l[6]=6 x, l[7]=7 x, l[8]=8 x, l[9]=9 x, l[10]=k x"},
		},
		"a plain value over a list": {[]values{layer("x", "l[0]", "1", "l[1]", "2"), layer("y", "l", "a,b")}, []string{"l=a,b y < l[0]=1 x, l[1]=2 x"}},
		"a list over a plain value": {[]values{layer("x", "l", "a,b"), layer("y", "l[0]", "1", "l[1]", "2")}, []string{"l[0]=1 y < l=a,b x", "l[1]=2 y"}},
		"a list over an empty one":  {[]values{layer("x", "l", emptyList), layer("y", "l[0]", "1")}, []string{"l[0]=1 y < l=[] x"}},
		"empty section below keys":  {[]values{layer("x", "a", emptySection), layer("y", "a.b", "1")}, []string{"a.b=1 y"}},
		"empty section above keys":  {[]values{layer("x", "a.b", "1"), layer("y", "a", emptySection)}, []string{"a.b=1 x"}},
		"empty section far above":   {[]values{layer("x", "a.b.c[0]", "1"), layer("y", "a", emptySection), layer("z", "a.b", emptySection)}, []string{"a.b.c[0]=1 x"}},
		"empty section stays":       {[]values{layer("x", "a", emptySection, "a-b", "1"), layer("y", "a", emptySection)}, []string{"a={} y < a={} x", "a-b=1 x"}},
		"an empty section in a list": {
			[]values{layer("x", "l[0]", emptySection), layer("y", "l[0]", "1"), layer("z", "l[0]", emptySection, "l[1].a", "2")},
			[]string{"l[0]={} z < l[0]=1 y, l[0]={} x", "l[1].a=2 z"},
		},
		"an empty section in a list over a value": {
			[]values{layer("x", "l", "1"), layer("y", "l[0]", emptySection)},
			[]string{"l[0]={} y < l=1 x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := configsrc.Merge(c.layers...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(c.want, shown(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func tenElements() (kv []any) {
	for i := range 10 {
		kv = append(kv, fmt.Sprintf("l[%d]", i), fmt.Sprint(i))
	}
	return kv
}

func TestMergeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		layers []values
		want   []string
	}{
		"section over value":           {[]values{layer("x", "a", "1"), layer("y", "a.b", "2", "a.c", "3")}, []string{"x: a: stands for a value here, and a.b (y) for a section of the same name"}},
		"value over section":           {[]values{layer("x", "a.b", "1"), layer("y", "a", "2")}, []string{"y: a: stands for a value here, and a.b (x) for a section"}},
		"section over list":            {[]values{layer("x", "a[0].z", "1", "a[1]", "1"), layer("y", "a.b", "2")}, []string{"x: a[0].z: stands for a list here, and a.b (y) for a section"}},
		"section over empty list":      {[]values{layer("x", "a", emptyList), layer("y", "a.b.c", "2")}, []string{"x: a: stands for a value here, and a.b.c (y)"}},
		"empty section over value":     {[]values{layer("x", "a", "1"), layer("y", "a", emptySection)}, []string{"x: a: stands for a value here, and a (y) for a section"}},
		"value over empty section":     {[]values{layer("x", "a", emptySection), layer("y", "a", "1")}, []string{"y: a: stands for a value here, and a (x) for a section"}},
		"list over empty section":      {[]values{layer("x", "a", emptySection), layer("y", "a[0]", emptySection)}, []string{"y: a[0]: stands for a list here, and a (x) for a section"}},
		"empty section below a value":  {[]values{layer("x", "a.b", emptySection), layer("y", "a", "1")}, []string{"y: a: stands for a value here, and a.b (x)"}},
		"all at once, by key":          {[]values{layer("x", "a", "1", "b.c[0]", "1", "d", "1"), layer("y", "a.b", "2", "b.c.d", "2", "d", "3")}, []string{"a: stands", "b.c[0]: stands"}},
		"hidden by a third, all alike": {[]values{layer("x", "a.b", "1"), layer("y", "a", "2"), layer("z", "a", "3")}, []string{"z: a: stands for a value here, and a.b (x)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := configsrc.Merge(c.layers...)
			if got != nil {
				t.Errorf("values beside an error: %v", shown(got))
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
		})
	}
}

// drawTree draws a section. Few names and values make the layers meet.
func drawTree(t *rapid.T, depth int) map[string]any {
	section := map[string]any{}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "a-b", "[0]"}), 0, 3, rapid.ID).Draw(t, "names") {
		section[name] = drawNode(t, depth)
	}
	return section
}

func drawNode(t *rapid.T, depth int) any {
	kind := rapid.SampledFrom([]string{"value", "list", "section", "empty list", "empty section"}).Draw(t, "kind")
	switch {
	case kind == "list" && depth > 0:
		var list []any
		for range rapid.IntRange(1, 12).Draw(t, "length") {
			element := any(true)
			if rapid.IntRange(0, 3).Draw(t, "nest") == 0 {
				element = drawNode(t, depth-1)
			}
			list = append(list, element)
		}
		return list
	case kind == "section" && depth > 0:
		return drawTree(t, depth-1)
	case kind == "empty list":
		return []any{}
	case kind == "empty section":
		return map[string]any{}
	}
	return int64(rapid.IntRange(0, 2).Draw(t, "value"))
}

func drawLayers(t *rapid.T) []values {
	var layers []values
	for i := range rapid.IntRange(0, 5).Draw(t, "layers") {
		v, err := configsrc.FromTree(drawTree(t, 2), configsrc.Origin{Source: fmt.Sprint("layer", i)})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, v)
	}
	return layers
}

func clone(layers []values) []values {
	var out []values
	for _, v := range layers {
		c := maps.Clone(v)
		for key, value := range c {
			value.Shadows = slices.Clone(value.Shadows)
			c[key] = value
		}
		out = append(out, c)
	}
	return out
}

func checkMerge(t *rapid.T) {
	layers := drawLayers(t)
	before := clone(layers)
	got, err := configsrc.Merge(layers...)

	want, ok := expectedMerge(layers)
	if (err == nil) != ok {
		t.Fatalf("error is %v, want one: %v", err, !ok)
	}
	if ok {
		bare := values{}
		for key, value := range got {
			value.Shadows = nil
			bare[key] = value
		}
		if diff := gocmp.Diff(want, bare); diff != "" {
			t.Fatalf("winners (-want +got):\n%s", diff)
		}
		if err := got.Check(configsrc.Limits{}); err != nil {
			t.Fatalf("the result does not pass: %v", err)
		}
		checkNothingLost(t, layers, got)
		checkListsWhole(t, got)
	}

	for split := range len(layers) + 1 {
		low, lowErr := configsrc.Merge(layers[:split]...)
		high, highErr := configsrc.Merge(layers[split:]...)
		both, bothErr := configsrc.Merge(low, high)
		if failed := lowErr != nil || highErr != nil || bothErr != nil; failed != (err != nil) {
			t.Fatalf("split at %d: errors are %v, %v, %v, in one go %v", split, lowErr, highErr, bothErr, err)
		}
		if err == nil {
			if diff := gocmp.Diff(got, both); diff != "" {
				t.Fatalf("split at %d (-one go +split):\n%s", split, diff)
			}
		}
	}
	if at := rapid.IntRange(0, len(layers)).Draw(t, "empty at"); err == nil {
		with, err := configsrc.Merge(slices.Insert(slices.Clone(layers), at, values{})...)
		if diff := gocmp.Diff(got, with); err != nil || diff != "" {
			t.Fatalf("an empty layer changes something: %v\n%s", err, diff)
		}
	}
	if diff := gocmp.Diff(before, clone(layers)); diff != "" {
		t.Fatalf("Merge changed its input:\n%s", diff)
	}
}

// expectedMerge says by the rules, one by one and without regard to cost, which
// keys win; false when the layers cannot be ordered.
func expectedMerge(layers []values) (values, bool) {
	unitOf := func(key string) string {
		if root, ok := configsrc.ListRoot(key); ok {
			return root
		}
		return key
	}
	sections := map[string]bool{} // what anything stands below
	empties := map[string]bool{}
	real := map[string]bool{}
	for _, v := range layers {
		for key, value := range v {
			unit := unitOf(key)
			if unit == key && value.Raw == emptySection {
				empties[unit] = true
			} else {
				real[unit] = true
			}
			for i := range len(unit) {
				if unit[i] == '.' {
					sections[unit[:i]] = true
				}
			}
		}
	}
	for unit := range real {
		if sections[unit] || empties[unit] {
			return nil, false
		}
	}
	want := values{}
	for i, v := range layers {
		for key, value := range v {
			hidden := unitOf(key) == key && value.Raw == emptySection && sections[key]
			for _, higher := range layers[i+1:] {
				for other := range higher {
					hidden = hidden || unitOf(other) == unitOf(key)
				}
			}
			if !hidden {
				want[key] = value
			}
		}
	}
	return want, true
}

// checkNothingLost: what went in comes out, as a value or as a shadow, but for
// empty sections that are not empty any more.
func checkNothingLost(t *rapid.T, layers []values, got values) {
	count := map[configsrc.Shadow]int{}
	for _, v := range layers {
		for key, value := range v {
			count[configsrc.Shadow{Key: key, Raw: value.Raw, Origin: value.Origin}]++
		}
	}
	for key, value := range got {
		count[configsrc.Shadow{Key: key, Raw: value.Raw, Origin: value.Origin}]--
		for _, shadow := range value.Shadows {
			count[configsrc.Shadow{Key: shadow.Key, Raw: shadow.Raw, Origin: shadow.Origin}]--
		}
	}
	for entry, n := range count {
		if n != 0 && (entry.Raw != emptySection || n < 0) {
			t.Fatalf("%s of %v is there %+d times", entry.Key, entry.Origin, -n)
		}
	}
}

func checkListsWhole(t *rapid.T, got values) {
	from := map[string]configsrc.Origin{}
	for key, value := range got {
		root, ok := configsrc.ListRoot(key)
		if !ok {
			continue
		}
		if other, ok := from[root]; ok && other != value.Origin {
			t.Fatalf("list %s is mixed of %v and %v", root, other, value.Origin)
		}
		from[root] = value.Origin
	}
}

func TestMergeProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, checkMerge)
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(rapid.MakeFuzz(checkMerge))
}

func TestMergeLeavesSharedShadowsAlone(t *testing.T) {
	t.Parallel()
	shadows := append(make([]configsrc.Shadow, 0, 8), configsrc.Shadow{Key: "a", Raw: "0"})
	top := values{"a": {Raw: "2", Shadows: shadows}}
	for _, lower := range []string{"x", "y"} {
		got, err := configsrc.Merge(layer(lower, "a", lower), top)
		if err != nil || len(got["a"].Shadows) != 2 || got["a"].Shadows[1].Raw != lower {
			t.Errorf("%v, %v", shown(got), err)
		}
	}
	if s := shadows[:2]; s[1] != (configsrc.Shadow{}) {
		t.Errorf("the layer's own shadows were written to: %+v", s[1].Key)
	}
}
