package configsrc

import (
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CompareKeys orders keys: it is negative when a comes first, positive when b
// does, and 0 when they are the same. Segment by segment, names go in ascending
// byte order and list elements by number, so that a[2] comes before a[10]; a
// key comes before what lies below it, and all that lies below one name stands
// together. It is a total order of all strings, well-formed keys or not.
func CompareKeys(a, b string) int {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	if !maybeIndexed(a, i) && !maybeIndexed(b, i) {
		// No index here, so names decide, and a dot ends a name.
		switch {
		case i == n:
			return cmp.Compare(len(a), len(b))
		case a[i] == '.':
			return -1
		case b[i] == '.':
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	// Segments that are the same in both need no look.
	start := strings.LastIndexByte(a[:i], '.') + 1
	segA, _, moreA := strings.Cut(a[start:], ".")
	segB, _, moreB := strings.Cut(b[start:], ".")
	if segA == segB {
		return compareBool(moreA, moreB) // one of the keys ends here, or they are the same
	}
	nameA, indexesA := cutIndexes(segA)
	nameB, indexesB := cutIndexes(segB)
	if c := strings.Compare(nameA, nameB); c != 0 {
		return c
	}
	return compareIndexes(indexesA, indexesB)
}

// maybeIndexed reports whether the segment around key[i] ends like an index.
func maybeIndexed(key string, i int) bool {
	for i < len(key) && key[i] != '.' {
		i++
	}
	return i > 0 && key[i-1] == ']'
}

// compareIndexes compares "[1][20]" by number. Canonical digits of one length
// order as text; a longer run of them is the larger number.
func compareIndexes(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a = cutIndex(a)
		y, b = cutIndex(b)
		if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// cutIndex takes the digits of the first index off "[1][20]".
func cutIndex(indexes string) (digits, rest string) {
	end := strings.IndexByte(indexes, ']')
	return indexes[1:end], indexes[end+1:]
}

// cutIndexes splits a segment into its name and its trailing indexes,
// "b[0][1]" into "b" and "[0][1]". What is no canonical index, or leaves no
// name before it, belongs to the name.
func cutIndexes(segment string) (name, indexes string) {
	end := len(segment)
	for end > 0 && segment[end-1] == ']' {
		open := strings.LastIndexByte(segment[:end], '[')
		if open <= 0 || !canonicalIndex(segment[open+1:end-1]) {
			break
		}
		end = open
	}
	return segment[:end], segment[end:]
}

func canonicalIndex(digits string) bool {
	if digits == "" || digits[0] == '0' && len(digits) > 1 {
		return false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return false
		}
	}
	return true
}

// ListRoot returns the key of the outermost list that key is an element of, or
// lies in an element of: "a.b" for "a.b[0].c[1]". It reports false for a key
// outside all lists.
func ListRoot(key string) (root string, ok bool) {
	if strings.IndexByte(key, ']') < 0 {
		return "", false
	}
	for start := 0; start <= len(key); {
		segment, _, _ := strings.Cut(key[start:], ".")
		if name, indexes := cutIndexes(segment); indexes != "" {
			return key[:start+len(name)], true
		}
		start += len(segment) + 1
	}
	return "", false
}

// step is one step of a key's path from the root: into a section by name, or
// into a list by index.
type step struct {
	text  string // the name, or the index's digits
	index bool
}

// appendSteps splits key into its steps.
func appendSteps(steps []step, key string) []step {
	for more := true; more; {
		var segment string
		segment, key, more = strings.Cut(key, ".")
		name, indexes := cutIndexes(segment)
		steps = append(steps, step{text: name})
		for indexes != "" {
			var digits string
			digits, indexes = cutIndex(indexes)
			steps = append(steps, step{text: digits, index: true})
		}
	}
	return steps
}

const emptyName = "the key has an empty name: write a name before, between and after its dots"

// keyProblem says what is wrong with the form of key; "" when nothing is.
func keyProblem(key string) string {
	switch {
	case key == "":
		return "empty key"
	case !utf8.ValidString(key):
		return "the key is not valid UTF-8"
	case strings.ContainsFunc(key, unicode.IsControl):
		return "the key holds a control character"
	case key[0] == '.' || key[len(key)-1] == '.' || strings.Contains(key, ".."):
		return emptyName
	}
	return ""
}

// shownKey is key as a message may hold it: printable and of a bounded length.
func shownKey(key string) string {
	const most = 120
	cut := len(key) > most
	if cut {
		key = key[:most]
	}
	key = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(key, string(utf8.RuneError)))
	if cut {
		key += "..."
	}
	return key
}
