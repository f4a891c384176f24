package configsrc_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// problemsOf are the problems of err, which has to be an InvalidError.
func problemsOf(t *testing.T, err error) []configsrc.Problem {
	t.Helper()
	invalid, ok := errors.AsType[*configsrc.InvalidError](err)
	if !ok || len(invalid.Problems) == 0 || !errors.Is(err, configsrc.ErrInvalid) {
		t.Fatalf("error is %v (%T), want an InvalidError with problems", err, err)
	}
	return invalid.Problems
}

func at(raw any, line int) configsrc.Value {
	return configsrc.Value{Raw: raw, Origin: configsrc.Origin{Source: "file", Name: "c.yaml", Line: line}}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	one := func(key string) configsrc.Values { return configsrc.Values{key: at(int64(1), 1)} }
	for name, c := range map[string]struct {
		values configsrc.Values
		limits configsrc.Limits
		want   []string // one problem each, in this order
	}{
		"empty key":         {one(""), configsrc.Limits{}, []string{"c.yaml:1: empty key"}},
		"empty name inside": {one("a..b"), configsrc.Limits{}, []string{"a..b: the key has an empty name"}},
		"empty name first":  {one(".a"), configsrc.Limits{}, []string{"empty name"}},
		"empty name last":   {one("a."), configsrc.Limits{}, []string{"empty name"}},
		"not UTF-8":         {one("a\xff"), configsrc.Limits{}, []string{"a\uFFFD: the key is not valid UTF-8"}},
		"NUL in a key":      {one("a\x00"), configsrc.Limits{}, []string{"control character"}},
		"C1 in a key":       {one("a\u0085"), configsrc.Limits{}, []string{"control character"}},
		"value and section": {
			configsrc.Values{"a": at(true, 1), "a.b": at(true, 2), "a.c": at(true, 3)},
			configsrc.Limits{},
			[]string{"c.yaml:1: a: is a value here, and a.b (c.yaml:2) makes it a section"},
		},
		"value and list": {
			configsrc.Values{"a": at(true, 1), "a[0]": at(true, 2)},
			configsrc.Limits{},
			[]string{"c.yaml:1: a: is a value here, and a[0] (c.yaml:2) makes it a list"},
		},
		"empty section and section": {
			configsrc.Values{"a": at(configsrc.EmptySection, 1), "a.b.c": at(true, 2)},
			configsrc.Limits{},
			[]string{"a: is a value here, and a.b.c (c.yaml:2)"},
		},
		"list and section": {
			configsrc.Values{"x.a.b": at(true, 1), "x.a[0]": at(true, 2)},
			configsrc.Limits{},
			[]string{"x.a.b: makes x.a a section, and x.a[0] (c.yaml:2) makes it a list"},
		},
		"collision far apart in bytes": {
			configsrc.Values{"a": at(true, 1), "a-b": at(true, 2), "a.b": at(true, 3)},
			configsrc.Limits{},
			[]string{"a: is a value here, and a.b (c.yaml:3)"},
		},
		"list not from 0":                   {one("a[1]"), configsrc.Limits{}, []string{"a[1]: the list has a hole: element a[0] is missing"}},
		"hole":                              {configsrc.Values{"a[0]": at(true, 1), "a[2].x": at(true, 2)}, configsrc.Limits{}, []string{"a[2].x: the list has a hole: element a[1] is missing"}},
		"hole inside":                       {configsrc.Values{"a[0][0]": at(true, 1), "a[1][1]": at(true, 2)}, configsrc.Limits{}, []string{"a[1][1]: the list has a hole: element a[1][0] is missing"}},
		"a far index":                       {one("a[1000000000]"), configsrc.Limits{}, []string{"a[0] is missing"}},
		"a farther index":                   {one("a[99999999999999999999]"), configsrc.Limits{}, []string{"a[0] is missing"}},
		"NaN":                               {configsrc.Values{"a": at(math.NaN(), 1)}, configsrc.Limits{}, []string{"a: the number is not finite"}},
		"Inf":                               {configsrc.Values{"a": at(math.Inf(-1), 1)}, configsrc.Limits{}, []string{"a: the number is not finite"}},
		"int":                               {configsrc.Values{"a": at(1, 1)}, configsrc.Limits{}, []string{"a: a int is no"}},
		"a small uint64":                    {configsrc.Values{"a": at(uint64(1), 1)}, configsrc.Limits{}, []string{"uint64 where an int64"}},
		"another Empty":                     {configsrc.Values{"a": at(configsrc.Empty("x"), 1)}, configsrc.Limits{}, []string{"neither an empty list"}},
		"null in a section":                 {configsrc.Values{"a": at(nil, 1)}, configsrc.Limits{}, []string{"null stands in lists only"}},
		"null in a section, bracketed name": {configsrc.Values{"a.[0]": at(nil, 1)}, configsrc.Limits{}, []string{"null stands in lists only"}},
		"text not UTF-8":                    {configsrc.Values{"a": at("\xff", 1)}, configsrc.Limits{}, []string{"not valid UTF-8"}},
		"too many keys":                     {configsrc.Values{"a": at(true, 1), "b": at(true, 1)}, configsrc.Limits{Keys: 1}, []string{"more keys than the limit of 1"}},
		"long key":                          {one("abcd"), configsrc.Limits{KeyBytes: 3}, []string{"abcd: the key is longer than the limit of 3 bytes"}},
		"long value":                        {configsrc.Values{"a": at("abcd", 1)}, configsrc.Limits{ValueBytes: 3}, []string{"a: the value is longer than the limit of 3 bytes"}},
		"much text":                         {configsrc.Values{"a": at("ab", 1), "b": at("cd", 1)}, configsrc.Limits{Bytes: 3}, []string{"the texts together are larger than the limit of 3 bytes"}},
		"deep":                              {one("a.b[0]"), configsrc.Limits{Depth: 2}, []string{"a.b[0]: nested deeper than the limit of 2"}},
		"several": {
			configsrc.Values{"b": at(1, 1), "a": at(math.NaN(), 2), "c[3]": at(true, 3)},
			configsrc.Limits{},
			[]string{"a: the number", "b: a int", "c[3]: the list"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problems := problemsOf(t, c.values.Check(c.limits))
			if len(problems) != len(c.want) {
				t.Fatalf("problems are %v, want %d", problems, len(c.want))
			}
			for i, want := range c.want {
				if got := problems[i].String(); !strings.Contains(got, want) {
					t.Errorf("problem %d is %q, want %q in it", i, got, want)
				}
			}
		})
	}
}

func TestCheckAccepts(t *testing.T) {
	t.Parallel()
	v := configsrc.Values{
		"a": at(nil, 0), "Port": at(int64(1), 0), "port": at(int64(1), 0), "x.[/api/**]": at("v", 0), "[0]": at(true, 0),
		"l[0]": at(nil, 0), "l[1][0]": at(configsrc.EmptySection, 0), "l[1][1].x": at(uint64(math.MaxUint64), 0), "a-b": at("", 0),
		"e": at(configsrc.EmptyList, 0), "a[01]": at(1.5, 0), "é.ü": at("\x00", 0), "b.c": at(math.Copysign(0, -1), 0),
	}
	delete(v, "a")
	if err := v.Check(configsrc.Limits{}); err != nil {
		t.Error(err)
	}
	if err := configsrc.Values(nil).Check(configsrc.Limits{}); err != nil {
		t.Error(err)
	}
}

func TestCheckListsTwentyProblemsAndCountsTheRest(t *testing.T) {
	t.Parallel()
	v := configsrc.Values{}
	for i := range 5000 {
		v[fmt.Sprintf("k%04d", i)] = at(i, 1)
	}
	problems := problemsOf(t, v.Check(configsrc.Limits{}))
	if len(problems) != 21 || problems[0].Key != "k0000" || problems[20].Reason != "and 4980 more problems" {
		t.Errorf("problems are %v", problems)
	}
}

func TestCheckIsQuick(t *testing.T) {
	v := configsrc.Values{}
	for i := range 10_000 {
		v[fmt.Sprintf("section%d.list[%d]", i%7, 1_000_000_000+i)] = at(true, 1)
	}
	start := time.Now()
	problemsOf(t, v.Check(configsrc.Limits{}))
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestReadAll(t *testing.T) {
	t.Parallel()
	limits := configsrc.Limits{Bytes: 4}
	if data, err := limits.ReadAll(strings.NewReader("1234"), configsrc.Origin{}); err != nil || string(data) != "1234" {
		t.Errorf("at the limit: %q, %v", data, err)
	}
	r := strings.NewReader("123456789")
	_, err := limits.ReadAll(r, configsrc.Origin{Name: "c.yaml"})
	problemsOf(t, err)
	if want := "c.yaml: document is larger than the limit of 4 bytes"; err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	if r.Len() != 4 {
		t.Errorf("%d bytes left unread, want 4", r.Len())
	}
	huge := configsrc.Limits{Bytes: math.MaxInt, Keys: math.MaxInt, KeyBytes: math.MaxInt, ValueBytes: math.MaxInt, Depth: math.MaxInt}
	data, err := huge.ReadAll(strings.NewReader("a: &a [1]\nb: *a"), configsrc.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := configsrc.Flatten(configsrc.YAML, data, configsrc.Origin{}, huge); err != nil || len(v) != 2 {
		t.Errorf("with huge limits: %v, %v", v.Keys(), err)
	}
	broken := errors.New("broken")
	if _, err := limits.ReadAll(errReader{broken}, configsrc.Origin{}); !errors.Is(err, broken) || errors.Is(err, configsrc.ErrInvalid) {
		t.Errorf("error is %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
