package configsrc_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// manyKeys makes n keys by a line format with one %d.
func manyKeys(n int, format, separator string) string {
	lines := make([]string, n)
	for i := range n {
		lines[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(lines, separator)
}

func aliasBomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), ", "))
	}
	return b.String()
}

// mergeBomb merges the same mapping over and over, which adds no key.
func mergeBomb() string {
	return "a: &a {" + manyKeys(1000, "k%d: 1", ", ") + "}\nb:\n  <<: [" + strings.TrimSuffix(strings.Repeat("*a,", 20_000), ",") + "]\n"
}

// nullBomb repeats nulls, which are no keys.
func nullBomb() string {
	return "a: &a {" + manyKeys(1000, "k%d: ", ", ") + "}\nb: [" + strings.TrimSuffix(strings.Repeat("*a,", 9000), ",") + "]\n"
}

func TestFlattenHostile(t *testing.T) {
	const y, j, tm, p = configsrc.YAML, configsrc.JSON, configsrc.TOML, configsrc.Properties
	const deep = 20_000
	long := strings.Repeat("x", 600<<10)
	digits := strings.Repeat("1", 600<<10)
	for _, c := range []struct {
		name   string
		format configsrc.Format
		text   string
		want   string
	}{
		{"alias bomb", y, aliasBomb(), "more keys than the limit of 10000"},
		{"a million nodes", y, "a: [" + strings.Repeat("x,", 1<<20) + "]", "they may stand for 3145734 nodes, and 400000 is the most"},
		{"merge bomb", y, mergeBomb(), "the aliases repeat too much: together they stand for more than 40100 nodes"},
		{"null bomb", y, nullBomb(), "the aliases repeat too much"},
		{"an anchor in itself", y, "a: &a\n  b: *a\n", "inside its own anchor"},
		{"text bomb", y, "a: &a " + long[:500<<10] + "\nb: [" + strings.Repeat("*a, ", 10) + "]\n", "the texts together are larger than the limit of 4194304 bytes"},
		{"text bomb of aliases", y, "a: &a " + long[:500<<10] + "\nb: [" + strings.Repeat("*a, ", 9000) + "]\n", "the aliases repeat too much: together they stand for more than 16777216 bytes"},
		{"number bomb", y, "a: &a " + digits[:500<<10] + "\nb:\n" + strings.Repeat("- *a\n", 9000), "the aliases repeat too much: together they stand for more than 16777216 bytes"},
		{"bomb of numbers with a letter", y, "a: &a " + digits[:500<<10] + "x\nb:\n" + strings.Repeat("- *a\n", 9000), "the aliases repeat too much: together they stand for more than 16777216 bytes"},
		{"bomb of short numbers", y, "a: &a [" + digits[:8000] + "]\nb:\n" + strings.Repeat("- *a\n", 9000), "the aliases repeat too much: together they stand for more than 16777216 bytes"},
		{"bomb of wrong tags", y, "a: &a !!null " + digits + "\nb:\n" + strings.Repeat("- *a\n", 9000), "the aliases repeat too much"},
		{"alias as a key", y, "a: &a " + strings.Repeat("k", 2_000_000) + "\n" + strings.Repeat("*a : 1\n", 90_000), "the aliases repeat too much"},
		{"list bomb under a long key", y, "a: &a [" + strings.Repeat("1,", 9_000) + "]\n" + long[:253] + ": [" + strings.Repeat("*a,", 9_000) + "]\n", "the aliases repeat too much"},
		{"a long number", y, "a: " + strings.Repeat("1", 4_000_000), "a: the value is longer than the limit of 524288 bytes"},
		{"tag directives", y, manyKeys(190_000, "%%TAG !t%d! x", "\n") + "\n---\na: 1\n", "c:1: not YAML as it is read here: a line starts with the directive %TAG"},
		{"a long tag", y, "%TAG !t! " + long + "\n---\na: [" + strings.Repeat("!t!x x,", 90_000) + "]\n", "%TAG"},
		{"a second document's tags", y, "a: 1\n...\n" + manyKeys(190_000, "%%TAG !t%d! x", "\r") + "\n---\na: 1\n", "c:3: not YAML as it is read here: a line starts with the directive %TAG"},
		{"key bomb", y, "a: " + strings.Repeat("{"+long[:200]+": ", 60) + "1" + strings.Repeat("}", 60), "the key is longer than the limit of 256 bytes"},
		{"deep flow", y, "a: " + strings.Repeat("[", deep), "nested deeper than the limit of 64"},
		{"deep flow, closed", y, "a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "nested deeper than the limit of 64"},
		{"deep block", y, strings.Repeat("- ", deep), "nested deeper than the limit of 64"},
		{"deep sections", y, strings.Repeat("{a: ", deep), "nested deeper than the limit of 64"},
		{"deep", j, strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep), "nested deeper than the limit of 64"},
		{"deep but closed", j, strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000), "nested deeper than the limit of 64"},
		{"deep lists", j, `{"a":` + strings.Repeat("[", deep), "nested deeper than the limit of 64"},
		{"deep lists", tm, "a = " + strings.Repeat("[", deep), "nested deeper than the limit of 64"},
		{"deep lists, closed", tm, "a = " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "nested deeper than the limit of 64"},
		{"deep tables", tm, "a = " + strings.Repeat("{a=", deep), "nested deeper than the limit of 64"},
		{"deep dots", tm, strings.Repeat("a.", deep) + "a = 1", "nested deeper than the limit of 64"},
		{"deep header", tm, "[" + strings.Repeat("a.", deep) + "a]", "nested deeper than the limit of 64"},
		{"many headers", tm, manyKeys(30_000, "[t%d]", "\n"), "more tables than twice the limit of 10000 keys"},
		{"deep dots", p, strings.Repeat("a.", deep) + "a = 1", "the key is longer than the limit of 256 bytes"},
		{"100 MB", y, strings.Repeat("a", 100<<20), "document is larger than the limit of 4194304 bytes"},
		{"100 MB", j, strings.Repeat("a", 100<<20), "document is larger than the limit of 4194304 bytes"},
		{"10,001 keys", y, manyKeys(10_001, "k%d: 1", "\n"), "more keys than the limit of 10000"},
		{"10,001 keys", j, "{" + manyKeys(10_001, `"k%d":1`, ",") + "}", "more keys than the limit of 10000"},
		{"10,001 keys", tm, manyKeys(10_001, "k%d=1", "\n"), "more keys than the limit of 10000"},
		{"10,001 keys", p, manyKeys(10_001, "k%d=1", "\n"), "more keys than the limit of 10000"},
		{"10,001 elements", j, `{"a":[` + manyKeys(10_001, "%d", ",") + "]}", "more keys than the limit of 10000"},
		{"long key", y, long[:300] + ": 1", "the key is longer than the limit of 256 bytes"},
		{"long key", j, `{"` + long + `":{"a":1}}`, "the key is longer than the limit of 256 bytes"},
		{"long key", tm, long[:300] + " = 1", "the key is longer than the limit of 256 bytes"},
		{"long key", p, long[:300] + "=1", "the key is longer than the limit of 256 bytes"},
		{"long value", y, "a: " + long, "a: the value is longer than the limit of 524288 bytes"},
		{"long value", j, `{"a":"` + long + `"}`, "a: the value is longer than the limit of 524288 bytes"},
		{"long value", tm, `a = "` + long + `"`, "a: the value is longer than the limit of 524288 bytes"},
		{"long value", p, "a=" + long, "a: the value is longer than the limit of 524288 bytes"},
		{"a far index", p, "a[1000000000]=1", "element a[0] is missing"},
		{"a far index", y, "a[99999999999999999999]: 1", "element a[0] is missing"},
		{"NUL", y, "a: \x00", "NUL"},
		{"invalid UTF-8", j, "{\"a\":\"\xff\"}", "not valid UTF-8"},
		{"half a surrogate pair", j, `{"a":"\ud800"}`, "half a surrogate pair"},
		{"duplicate keys", y, "a: 1\na: 2", "duplicate key"},
		{"a and a.b", j, `{"a":1,"a.b":2}`, "makes it a section"},
	} {
		t.Run(string(c.format)+"/"+c.name, func(t *testing.T) {
			data := []byte(c.text)
			start := time.Now()
			_, err := configsrc.Flatten(c.format, data, configsrc.Origin{Name: "c"}, configsrc.Limits{})
			took := time.Since(start)
			problemsOf(t, err)
			message := err.Error()
			if !strings.Contains(message, c.want) {
				t.Errorf("error is %.300s, want %q in it", message, c.want)
			}
			if len(message) > 8<<10 {
				t.Errorf("a message of %d bytes", len(message))
			}
			t.Logf("took %v", took)
			// Most take far below 50 ms on a free CPU. The bound leaves room for the
			// race detector and for neighbours; what it is there for has no end.
			if took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// yamlBytes are documents of 4 MiB that cost as much memory as can be made of
// them, for what marks of YAML there are.
func yamlBytes() map[string]string {
	documents := make(map[string]string)
	add := func(name, begin, repeated string, most int, end string) {
		n := min(most, (4<<20-len(begin)-len(end))/len(repeated))
		documents[name] = begin + strings.Repeat(repeated, n) + end
	}
	for name, lineEnd := range map[string]string{"LF": "\n", "CR": "\r", "CRLF": "\r\n", "NEL": "\u0085", "LS": "\u2028", "PS": "\u2029"} {
		for _, mark := range []string{"a:", "-", "?", "? -", "- ? :", "#", ":"} {
			for _, most := range []int{4 << 20, 133_000} {
				add(fmt.Sprintf("%d lines of %q, %s", most, mark, name), "a:\n", mark+lineEnd, most, "")
			}
		}
		add("lines, "+name, "a: '", lineEnd, 199_000, "'")
		add("comments apart, "+name, "a: 1\n", "#"+lineEnd+lineEnd, 99_000, "")
	}
	for _, entry := range []string{"[],", "{},", ":,", "?,", "a,", "a:,", "\"\":,", "[[[[]]]],", "[:],", "{:},", "{?},", "!a,", "&a ,", "\"a\":b,"} {
		for _, most := range []int{133_000, 44_000, 14_000} {
			add(fmt.Sprintf("%d of %q in a list", most, entry), "a: [", entry, most, "]")
			add(fmt.Sprintf("%d of %q in a mapping", most, entry), "a: {", entry, most, "}")
		}
	}
	add("dashes", "a:\n", strings.Repeat("- ", 10)+"\n", 4<<20, "")
	add("some dashes", "a:\n", strings.Repeat("- ", 10)+"\n", 19_900, "")
	add("question marks", "a:\n", strings.Repeat("? ", 10)+"\n", 13_300, "")
	add("brackets", "a: [", strings.Repeat("[", 9)+strings.Repeat("]", 9)+",", 4<<20, "]")
	add("some brackets", "a: [", strings.Repeat("[", 9)+strings.Repeat("]", 9)+",", 13_300, "]")
	add("hidden in a comment", "a: [\"\n#\",", ":,", 4<<20, "]")
	add("behind a comment and a NEL", "a: [\n#\u0085", ":,", 4<<20, "]")
	add("anchors", "a:\n", "- &a\n", 140_000, "")
	add("aliases", "b: &a\na:\n", "- *a\n", 140_000, "")
	add("texts", "a:\n", "- abcdefghijklmnopqrstuvwxyz\n", 140_000, "")
	add("comments behind", "a:\n", "- #abcdefghijklmnopqrstuvw\n", 79_000, "")
	add("comments between", "a:\n", "# abcdefgh\n- a # abcdefghijkl\n", 49_900, "")
	return documents
}

func TestFlattenYAMLMemory(t *testing.T) {
	var worst, longest string
	var most uint64
	var latest time.Duration
	for name, text := range yamlBytes() {
		data := []byte(text)
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		peak, stop := make(chan uint64), make(chan struct{})
		go func() {
			highest := uint64(0)
			for {
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				highest = max(highest, now.HeapAlloc)
				select {
				case <-stop:
					peak <- highest
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
		}()
		start := time.Now()
		_, err := configsrc.Flatten(configsrc.YAML, data, configsrc.Origin{Name: "c"}, configsrc.Limits{})
		took := time.Since(start)
		close(stop)
		grown := (max(<-peak, before.HeapAlloc) - before.HeapAlloc) >> 20
		if grown >= 150 || took > 5*time.Second {
			t.Errorf("%s: %d MiB and %v, %.200v", name, grown, took, err)
		}
		if grown >= most {
			worst, most = name, grown
		}
		if took >= latest {
			longest, latest = name, took
		}
	}
	t.Logf("the most memory, %d MiB: %s", most, worst)
	t.Logf("the longest, %v: %s", latest, longest)
}

// TestFlattenYAMLTakesLargeTexts: what looks like many nodes and is none.
func TestFlattenYAMLTakesLargeTexts(t *testing.T) {
	t.Parallel()
	bundle := func(size int) string {
		var b strings.Builder
		for b.Len() < size {
			b.WriteString("  -----BEGIN CERTIFICATE-----\n")
			for range 30 {
				b.WriteString("  MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n")
			}
			b.WriteString("  -----END CERTIFICATE-----\n")
		}
		return b.String()
	}
	pretty := func(size int, pair string) string {
		var b strings.Builder
		b.WriteString("  {\n")
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, pair, i, i)
		}
		return b.String() + "  \"end\": []}\n"
	}
	for name, c := range map[string]struct {
		text string
		keys int
	}{
		"a MiB of certificates": {"a: |\n" + bundle(500<<10) + "b: |\n" + bundle(500<<10), 2},
		"JSON in a text":        {"a: |\n" + pretty(500<<10, "    \"name_%d\": {\"port\": %d},\n"), 1},
		"minified JSON":         {"a: '" + strings.ReplaceAll(pretty(500<<10, "\"name_%d\":{\"port\":%d},"), "\n", "") + "'\n", 1},
		"keys with long comments": {manyKeys(10_000, "# What it is: a number, or (in old files) a text - see \"limits\", [1] and {2}?\n"+
			"# "+strings.Repeat("It is, as ever, off: on - off. ", 6)+"\nsection.key_%d: value # short, or long", "\n"), 10_000},
		"sections in a list": {"a:\n" + manyKeys(5_000, "  - {name: n, port: %d}", "\n"), 10_000},
		"lists":              {"a: [" + manyKeys(10_000, "%d", ", ") + "]", 10_000},
	} {
		v, err := configsrc.Flatten(configsrc.YAML, []byte(c.text), configsrc.Origin{Name: "c"}, configsrc.Limits{})
		if err != nil || len(v) != c.keys {
			t.Errorf("%s: %d keys, %v", name, len(v), err)
		}
	}
}

// sections writes 10,000 keys in a shape that files have: 100 sections of 100.
func sections(open, pair, between, end string) string {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, open, i)
		for k := range 100 {
			if k > 0 {
				b.WriteString(between)
			}
			fmt.Fprintf(&b, pair, k, k)
		}
		b.WriteString(end)
	}
	return b.String()
}

func BenchmarkFlatten(b *testing.B) {
	json := sections(`"section_%03d":{`, `"some_key_%03d":"value %d"`, ",", "},\n")
	for format, text := range map[configsrc.Format]string{
		configsrc.YAML:       sections("section_%03d:\n", "  some_key_%03d: value %d", "\n", "\n"),
		configsrc.JSON:       "{" + strings.TrimSuffix(json, ",\n") + "}",
		configsrc.TOML:       sections("[section_%03d]\n", "some_key_%03d = \"value %d\"", "\n", "\n"),
		configsrc.Properties: manyKeys(10_000, "section.some_key_%d = value", "\n"),
	} {
		b.Run(string(format), func(b *testing.B) {
			data := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				v, err := configsrc.Flatten(format, data, configsrc.Origin{Name: "c"}, configsrc.Limits{})
				if err != nil || len(v) != 10_000 {
					b.Fatal(len(v), err)
				}
			}
		})
	}
}

func benchmarkValues(b *testing.B, source string) values {
	b.Helper()
	v, err := configsrc.Flatten(configsrc.Properties, []byte(manyKeys(10_000, "section.some_key_%d = value", "\n")), configsrc.Origin{Source: source}, configsrc.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	return v
}

func BenchmarkMerge(b *testing.B) {
	layers := []values{benchmarkValues(b, "a"), benchmarkValues(b, "b"), benchmarkValues(b, "c")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := configsrc.Merge(layers...); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	v := benchmarkValues(b, "a")
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Check(configsrc.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	v := benchmarkValues(b, "a")
	b.ReportAllocs()
	for b.Loop() {
		data, err := configsrc.EncodeValues(v)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := configsrc.DecodeValues(data, configsrc.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
