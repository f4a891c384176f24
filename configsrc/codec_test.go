package configsrc_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hotsvc/svc/configsrc"
)

func TestCodecKeepsEverything(t *testing.T) {
	t.Parallel()
	v := layer("x", "a.b", int64(math.MinInt64), "a.c", int64(math.MaxInt64), "u", uint64(math.MaxUint64), "f", 0.1, "g", 1e21, "h", math.Copysign(0, -1),
		"i", 5.0, "s", "5", "t", "<&>\u2028\x00\"\\", "l[0]", nil, "l[1]", true, "l[2]", false, "l[3]", "", "l[4]", emptyList, "l[5]", emptySection,
		"e", emptyList, "m", emptySection, "k<\u2028é", math.SmallestNonzeroFloat64)
	value := v["a.b"]
	value.Origin = configsrc.Origin{Source: "file", Name: "/etc/c d.yaml", Line: 12}
	v["a.b"] = value
	data, err := configsrc.EncodeValues(v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := configsrc.DecodeValues(data, configsrc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(v, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Hash() != v.Hash() {
		t.Error("the hash is another one")
	}
	if again, err := configsrc.EncodeValues(got); err != nil || !bytes.Equal(again, data) {
		t.Errorf("other bytes the second time: %v\n%s\n%s", err, data, again)
	}
}

func TestCodecLeavesShadowsOut(t *testing.T) {
	t.Parallel()
	merged, err := configsrc.Merge(layer("x", "a", "low"+canary), layer("y", "a", "high"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := configsrc.EncodeValues(merged)
	if err != nil || bytes.Contains(data, []byte(canary)) {
		t.Errorf("%v\n%s", err, data)
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for _, v := range []values{layer("x", "a", 1), layer("x", "a", math.NaN()), layer("x", "a", canary+"\xff"), layer("x", "a", "1", "a.b", "2")} {
		if data, err := configsrc.EncodeValues(v); !errors.Is(err, configsrc.ErrInvalid) || data != nil || strings.Contains(err.Error(), canary) {
			t.Errorf("error is %v", err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	entry := func(lines ...string) string {
		text := `{"format":1,"values":[`
		if len(lines) > 0 {
			text += "\n" + strings.Join(lines, ",\n")
		}
		return text + "\n]}\n"
	}
	for name, c := range map[string]struct {
		data, want string
		limits     configsrc.Limits
	}{
		"nothing":           {data: "", want: "does not start"},
		"another format":    {data: `{"format":2,"values":[]}`, want: "format 1 does not start"},
		"other fields":      {data: `{"format":1,"valuez":[]}`, want: "does not start"},
		"more fields":       {data: `{"format":1,"values":[\n],"x":1}\n`, want: "broken end"},
		"more text":         {data: entry() + "{}", want: "broken end"},
		"cut off":           {data: `{"format":1,"values":[{"key":"a","type":"text","text":"` + canary, want: "broken end"},
		"cut off later":     {data: `{"format":1,"values":[{"key":"a","type":"text"}`, want: "broken end"},
		"unknown field":     {data: entry(`{"key":"a","type":"text","` + canary + `":1}`), want: "broken value"},
		"a number as text":  {data: entry(`{"key":"a","type":"text","text":5}`), want: "broken value"},
		"unknown type":      {data: entry(`{"key":"a","type":"` + canary + `","text":"5"}`), want: "the value of a is of no known type"},
		"no type":           {data: entry(`{"key":"a","type":""}`), want: "of no known type"},
		"no number":         {data: entry(`{"key":"a","type":"int","text":"` + canary + `"}`), want: "the value of a is not of its type"},
		"too large":         {data: entry(`{"key":"a","type":"int","text":"9223372036854775808"}`), want: "not of its type"},
		"another form":      {data: entry(`{"key":"a","type":"int","text":"+5"}`), want: "not in the one form"},
		"another bool":      {data: entry(`{"key":"a","type":"bool","text":"1"}`), want: "not in the one form"},
		"another float":     {data: entry(`{"key":"a","type":"float","text":"1.0"}`), want: "not in the one form"},
		"null with text":    {data: entry(`{"key":"a[0]","type":"null","text":"x"}`), want: "not in the one form"},
		"NaN":               {data: entry(`{"key":"a","type":"float","text":"NaN"}`), want: "not finite"},
		"a small uint":      {data: entry(`{"key":"a","type":"uint","text":"5"}`), want: "uint64"},
		"another empty":     {data: entry(`{"key":"a","type":"empty","text":"()"}`), want: "neither an empty list"},
		"a key twice":       {data: entry(`{"key":"a","type":"text"}`, `{"key":"a","type":"text"}`), want: "out of order"},
		"order":             {data: entry(`{"key":"a[10]","type":"text"}`, `{"key":"a[2]","type":"text"}`), want: "out of order"},
		"collision":         {data: entry(`{"key":"a","type":"text"}`, `{"key":"a.b","type":"text"}`), want: "is a value here"},
		"null in a section": {data: entry(`{"key":"a","type":"null"}`), want: "lists only"},
		"an empty key":      {data: entry(`{"key":"","type":"text"}`), want: "empty key"},
		"too many keys":     {data: entry(`{"key":"a","type":"text"}`, `{"key":"b","type":"text"}`), want: "more keys than the limit of 1", limits: configsrc.Limits{Keys: 1}},
		"a long value":      {data: entry(`{"key":"a","type":"text","text":"abc"}`), want: "longer than the limit of 2", limits: configsrc.Limits{ValueBytes: 2}},
		"null":              {data: entry(`null`), want: "not as it is written"},
		"case":              {data: entry(`{"KEY":"a","type":"text","text":"x"}`), want: "not as it is written"},
		"a field twice":     {data: entry(`{"key":"` + canary + `","key":"a","type":"text","text":"x"}`), want: "not as it is written"},
		"half a pair":       {data: entry(`{"key":"a","type":"text","text":"\ud800"}`), want: "not as it is written"},
		"another escape":    {data: entry(`{"key":"a","type":"text","text":"\u0041"}`), want: "not as it is written"},
		"an empty text":     {data: entry(`{"key":"a","type":"text","text":""}`), want: "not as it is written"},
		"space":             {data: entry(`{"key":"a", "type":"text"}`), want: "not as it is written"},
		"space at the end":  {data: entry(`{"key":"a","type":"text"} `), want: "not as it is written"},
		"a float as format": {data: `{"format":1e0,"values":[` + "\n]}\n", want: "does not start"},
		"no comma":          {data: entry(`{"key":"a","type":"text"}` + "\n" + `{"key":"b","type":"text"}`), want: "a comma is missing"},
		"a comma too many":  {data: entry(`{"key":"a","type":"text"},`), want: "broken value"},
		"an empty line":     {data: entry(``), want: "broken value"},
		"one line":          {data: `{"format":1,"values":[{"key":"a","type":"text"}` + "\n]}\n", want: "line of its own"},
		"deep":              {data: strings.Repeat("[", 20_000), want: "does not start"},
		"deep inside":       {data: entry(`{"key":` + strings.Repeat("[", 20_000)), want: "broken value"},
	} {
		v, err := configsrc.DecodeValues([]byte(c.data), c.limits)
		problemsOf(t, err)
		if v != nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: error is %v, want %q in it", name, err, c.want)
		}
	}
}

func TestCodecOfAnOriginThatIsNoText(t *testing.T) {
	t.Parallel()
	v := values{"a": {Raw: "x", Origin: configsrc.Origin{Source: "file", Name: "/etc/\xff\xfe.yaml"}}}
	data, err := configsrc.EncodeValues(v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := configsrc.DecodeValues(data, configsrc.Limits{})
	if err != nil || got["a"].Origin.Name != "/etc/\uFFFD.yaml" || got.Hash() != v.Hash() {
		t.Errorf("%v, origin %+v", err, got["a"].Origin)
	}
}

func drawRaw(t *rapid.T) any {
	return rapid.OneOf(
		rapid.Just[any](nil), rapid.Just[any](emptyList), rapid.Just[any](emptySection),
		rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Uint64Min(math.MaxInt64+1).AsAny(), rapid.Float64().AsAny(), rapid.String().AsAny(),
	).Draw(t, "raw")
}

func checkCodec(t *rapid.T) {
	v := values{}
	for i, key := range rapid.SliceOfDistinct(rapid.OneOf(anyKey(), rapid.String()), rapid.ID).Draw(t, "keys") {
		v[key] = configsrc.Value{Raw: drawRaw(t), Origin: configsrc.Origin{Source: rapid.String().Draw(t, "source"), Line: i}}
		if v.Check(configsrc.Limits{}) != nil {
			delete(v, key)
		}
	}
	data, err := configsrc.EncodeValues(v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := configsrc.DecodeValues(data, configsrc.Limits{})
	if diff := gocmp.Diff(v, got); err != nil || diff != "" || got.Hash() != v.Hash() {
		t.Fatalf("%v\n%s\n%s", err, data, diff)
	}
}

func TestCodecProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, checkCodec)
}

func FuzzCodec(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(rapid.MakeFuzz(checkCodec))
}

func FuzzDecodeValues(f *testing.F) {
	f.Add([]byte(`{"format":1,"values":[` + "\n" + `{"key":"a","type":"text","text":"x","origin":{"source":"s","name":"n","line":1}},` + "\n" + `{"key":"b[0]","type":"null"}` + "\n]}\n"))
	f.Add([]byte(`{"format":1,"values":[` + "\n" + `{"key":"a","type":"float","text":"-0"},` + "\n" + `{"key":"u","type":"uint","text":"18446744073709551615"}` + "\n]}\n"))
	f.Add([]byte(`{"format":1,"values":[` + "\n]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := configsrc.DecodeValues(data, configsrc.Limits{})
		if err != nil {
			problemsOf(t, err)
			return
		}
		again, err := configsrc.EncodeValues(v)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v\nread     %q\nwritten: %q", err, data, again)
		}
		got, err := configsrc.DecodeValues(again, configsrc.Limits{})
		if diff := gocmp.Diff(v, got); err != nil || diff != "" || got.Hash() != v.Hash() {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}
