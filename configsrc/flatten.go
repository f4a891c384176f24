package configsrc

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// Format is a notation that [Flatten] reads.
type Format string

const (
	YAML       Format = "yaml"
	JSON       Format = "json"
	TOML       Format = "toml"
	Properties Format = "properties"
)

// FormatOf returns the format that the extension of a file name stands for:
// .yaml, .yml, .json, .toml or .properties, in any case of letters.
func FormatOf(name string) (Format, bool) {
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml":
		return YAML, true
	case ".json":
		return JSON, true
	case ".toml":
		return TOML, true
	case ".properties":
		return Properties, true
	}
	return "", false
}

// Flatten reads a document into values that pass [Values.Check]. Origin gives
// the Source and Name of every value; Flatten adds the line. The error is an
// [*InvalidError] with all that can be found wrong at once, by line; no message
// of it holds a value.
//
// The document is UTF-8, with or without a byte order mark, its root a mapping;
// an empty one, or one of comments alone, has no values. A dotted key and nested
// sections say the same (a.b: 1). A key that is written twice is refused in
// every format. An empty list or section is the value [EmptyList] or
// [EmptySection] of its key; an empty root is nothing. A null in a section is
// as if the key were not written; in a list it is a nil element.
//
// Integers are int64, above its range uint64, and refused above that; floats
// are finite. By format:
//
//   - YAML: scalars are what go.yaml.in/yaml/v3 makes of them, a mix of YAML 1.2
//     and 1.1: true and false are bools, and yes, on and their like text; 0777
//     and 0o777 are octal, 08 is the float 8, 0x and 0b numbers too; 1_000 is
//     1000. Keys are the text as written. Dates, and whatever has a tag of its
//     own, are text. Aliases and merge keys (<<) count as what they repeat, up
//     to a bound; what is merged yields to a key of the mapping itself, dotted
//     or nested. One document; %YAML 1.2 is read like 1.1, and %TAG is refused,
//     as are more lines than 20 times Keys, or so many commas, brackets, dashes,
//     colons and comments that they may stand for more nodes than 40 times Keys.
//   - JSON: a number without fraction and exponent is an integer.
//   - TOML: dates and times are the text as written.
//   - Properties: everything is text; ${} has no meaning; Java's syntax, in UTF-8.
func Flatten(format Format, data []byte, origin Origin, limits Limits) (Values, error) {
	limits = limits.orDefault()
	if len(data) > limits.Bytes {
		return nil, tooLarge(limits.Bytes, origin)
	}
	w := newWalker(limits, origin, len(data)/40)
	data, ok := w.text(data)
	if !ok {
		return nil, w.problems.err(byLine)
	}
	switch format {
	case YAML:
		w.yaml(data)
	case JSON:
		w.json(data)
	case TOML:
		w.toml(data)
	case Properties:
		w.properties(data)
	default:
		w.problems.add("", origin, "unknown format %q: it is yaml, json, toml or properties", format)
	}
	return w.done(byLine)
}

// walker collects the values of one document, for all formats. It stands at
// one path at a time.
type walker struct {
	limits Limits // with the defaults filled in
	origin Origin

	values   Values
	keys     []string // of values, in the order of the document: often sorted, and so quick to check
	problems problems
	full     bool // refused as a whole: nothing more is looked at

	puts int // how often a value was set, or had one before it

	path  []byte
	depth int
}

// newWalker makes a walker for about so many keys, within limits that have
// their defaults.
func newWalker(limits Limits, origin Origin, keys int) *walker {
	return &walker{limits: limits, origin: origin, values: make(Values, min(keys, limits.Keys))}
}

// text is data without its byte order mark, if it is text at all.
func (w *walker) text(data []byte) ([]byte, bool) {
	if bytes.HasPrefix(data, []byte{0xFF, 0xFE}) || bytes.HasPrefix(data, []byte{0xFE, 0xFF}) {
		w.fail(1, "the document is UTF-16: save it as UTF-8")
		return nil, false
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if i := bytes.IndexByte(data, 0); i >= 0 {
		w.fail(lineAt(data, i), "not text: the document holds a NUL byte")
		return nil, false
	}
	if !utf8.Valid(data) {
		w.fail(lineAt(data, len(data)-len(invalidTail(data))), "not text: the document is not valid UTF-8")
		return nil, false
	}
	return data, true
}

// invalidTail is data from its first byte that is not valid UTF-8.
func invalidTail(data []byte) []byte {
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			break
		}
		data = data[size:]
	}
	return data
}

// lineAt is the number of the line that data[offset] stands in.
func lineAt(data []byte, offset int) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), len(data))], []byte{'\n'})
}

func (w *walker) at(line int) Origin {
	origin := w.origin
	origin.Line = line
	return origin
}

// fail notes a problem of the document at line, or of the key at the path.
func (w *walker) fail(line int, format string, args ...any) {
	w.problems.add(string(w.path[:min(len(w.path), shownPath)]), w.at(line), format, args...)
}

// refuse ends the walk: the document as a whole is too much.
func (w *walker) refuse(line int, format string, args ...any) {
	w.full = true
	w.problems = problems{}
	w.problems.add("", w.at(line), format, args...)
}

// enter goes down by one name. When it reports false, it has noted why, the
// path is as before, and what is there has to be passed over.
func (w *walker) enter(name string, line int) (mark int, ok bool) {
	mark = len(w.path)
	if w.depth > 0 {
		w.path = append(w.path, '.')
	}
	if most := max(w.limits.KeyBytes, shownPath); len(name) > most {
		name = name[:most+1] // it is refused, and there may be many of it
	}
	return w.entered(mark, append(w.path, name...), line)
}

// shownPath is more of a path than a message holds.
const shownPath = 1 << 10

// enterIndex goes down by one list element, like enter.
func (w *walker) enterIndex(i, line int) (mark int, ok bool) {
	if n := len(w.path); n == 0 || w.path[n-1] == '.' {
		// An index that follows no name would read as a name itself.
		w.fail(line, "%s", emptyName)
		return n, false
	}
	return w.entered(len(w.path), fmt.Appendf(w.path, "[%d]", i), line)
}

func (w *walker) entered(mark int, to []byte, line int) (int, bool) {
	w.path = to
	w.depth++
	reason := ""
	switch {
	case w.full:
		w.leave(mark)
		return mark, false
	case len(to) > w.limits.KeyBytes:
		reason = keyTooLong(w.limits)
	case w.depth > w.limits.Depth:
		reason = fmt.Sprintf(depthReason, w.limits.Depth)
	default:
		return mark, true
	}
	w.fail(line, "%s", reason)
	w.leave(mark)
	return mark, false
}

// leave goes back up to where enter was called.
func (w *walker) leave(mark int) {
	w.path = w.path[:mark]
	w.depth--
}

// put sets the value at the path.
func (w *walker) put(raw any, line int) {
	w.puts++
	if w.full {
		return
	}
	if before, ok := w.values[string(w.path)]; ok {
		w.duplicate(before.Origin.Line, line)
		return
	}
	if len(w.values) == w.limits.Keys {
		w.refuse(line, "more keys than the limit of %d", w.limits.Keys)
		return
	}
	key := string(w.path)
	w.values[key] = Value{Raw: raw, Origin: w.at(line)}
	w.keys = append(w.keys, key)
}

// invalid notes a problem of the value at the path. The key counts as set, so
// that a list does not seem to have a hole there as well.
func (w *walker) invalid(line int, format string, args ...any) {
	w.fail(line, format, args...)
	w.put("", line)
}

func (w *walker) duplicate(first, line int) {
	if first == 0 {
		w.fail(line, "duplicate key")
		return
	}
	w.fail(line, "duplicate key: it stands in line %d too", first)
}

// section walks what is inside a section by inside, and notes a section that
// came out empty. The root is no key of its own.
func (w *walker) section(line int, inside func()) {
	puts, found := w.puts, w.problems.total
	inside()
	if w.depth > 0 && w.puts == puts && w.problems.total == found {
		w.put(EmptySection, line)
	}
}

func (w *walker) done(order func(a, b Problem) int) (Values, error) {
	if !w.full {
		w.problems.addAll(w.values.check(w.keys, w.limits))
	}
	if err := w.problems.err(order); err != nil {
		return nil, err
	}
	return w.values, nil
}
