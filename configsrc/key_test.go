package configsrc_test

import (
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hotsvc/svc/configsrc"
)

func TestCompareKeysOrder(t *testing.T) {
	t.Parallel()
	want := []string{
		"", ".a", "a", "a.b", "a.b.c", "a.b[0]", "a.c", "a[0]", "a[0].x", "a[0][0]", "a[0][1]", "a[1]", "a[2]", "a[10]",
		"a[99999999999999999999]", "a[100000000000000000000]", "a-b", "a[01]", "a[1]x", "b", "b.[/api/**]", "b.[0]",
	}
	for i, a := range want {
		for j, b := range want {
			if c := configsrc.CompareKeys(a, b); cmp.Compare(c, 0) != cmp.Compare(i, j) {
				t.Errorf("CompareKeys(%q, %q) = %d", a, b, c)
			}
		}
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, configsrc.CompareKeys)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestListRoot(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"a": "", "a.b": "", "a[0]": "a", "a.b[0].c[1]": "a.b", "a[0][1]": "a", "a[0].b": "a", "[0]": "", "a.[0]": "",
		"a[x]": "", "a[]": "", "a[00]": "", "a[0]x.b[3].c": "a[0]x.b", "": "", "a]": "", "x.[0][1].y": "x.[0]", "a[-1]": "",
	} {
		got, ok := configsrc.ListRoot(key)
		if got != want || ok != (want != "") {
			t.Errorf("ListRoot(%q) = %q, %v; want %q", key, got, ok, want)
		}
	}
}

// anyKey makes keys that are close to each other, well-formed or not.
func anyKey() *rapid.Generator[string] {
	return rapid.StringMatching(`(a|b|\.|\[|\]|\[0\]|\[1\]|\[10\]|\[01\]|-|1|é){0,7}`)
}

func checkOrder(t interface{ Errorf(string, ...any) }, a, b, c string) {
	sign := func(x, y string) int { return cmp.Compare(configsrc.CompareKeys(x, y), 0) }
	if sign(a, b) != -sign(b, a) {
		t.Errorf("not antisymmetric: %q, %q: %d, %d", a, b, sign(a, b), sign(b, a))
	}
	if (sign(a, b) == 0) != (a == b) {
		t.Errorf("%q and %q are not the same key, or are", a, b)
	}
	if sign(a, b) <= 0 && sign(b, c) <= 0 && sign(a, c) > 0 {
		t.Errorf("not transitive: %q, %q, %q", a, b, c)
	}
}

func TestCompareKeysIsATotalOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		checkOrder(t, anyKey().Draw(t, "a"), anyKey().Draw(t, "b"), anyKey().Draw(t, "c"))
	})
}

func FuzzCompareKeys(f *testing.F) {
	f.Add("a[1]b", "a[10]", "a[2]")
	f.Add("a.b", "a-b", "a[0]")
	f.Add("", ".", "..")
	f.Add("a[0]]", "a[0].]", "[0]")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, keys := range [][3]string{{a, b, c}, {a, c, b}, {b, a, c}, {b, c, a}, {c, a, b}, {c, b, a}} {
			checkOrder(t, keys[0], keys[1], keys[2])
		}
	})
}
