package configsrc

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Check tells whether v is a configuration: whether its keys and values keep
// the rules below. Every source hands out only what passes; [Flatten],
// [FromTree] and [DecodeValues] have called it. The error is an
// [*InvalidError] with the problems in the order of their keys, 20 at the most
// and then the number of the others.
//
// Keys. A key is names with dots between them, each name followed by any
// number of list indexes: server.listen[0], a[0][1].b. A name is any text
// without a dot or a control character; it is never empty. An index is a
// decimal number without leading zeros, and stands at the end of a segment; any
// other bracket is a plain character of the name, so that Spring's [/api/**]
// stays as it is. Keys are told apart by their bytes: Port is not port.
//
// Structure. What stands under one name is a value, a section or a list, and
// only one of them: a excludes a.b and a[0], and a.b excludes a[0]. A list
// starts at 0 and has no hole.
//
// Values. Raw has one of the types that [Value] names, floats are finite, and
// texts are valid UTF-8.
//
// Limits. Nothing is over limits. The cost is that of sorting the keys; an
// index costs nothing, however high.
func (v Values) Check(limits Limits) error {
	found := v.check(slices.Collect(maps.Keys(v)), limits.orDefault())
	return found.err(byKey)
}

// check is Check for the keys of v, which it puts into order.
func (v Values) check(keys []string, limits Limits) (found problems) {
	if len(v) > limits.Keys {
		found.add("", Origin{}, "more keys than the limit of %d", limits.Keys)
		return found
	}
	slices.SortFunc(keys, CompareKeys)
	textBytes := 0
	wellFormed := keys[:0]
	for _, key := range keys {
		value := v[key]
		if text, ok := value.Raw.(string); ok {
			textBytes += len(text)
		}
		reason := cmp.Or(keyProblem(key), keyLength(key, limits))
		if reason == "" {
			wellFormed = append(wellFormed, key)
			if textBytes <= limits.Bytes { // else one long text under many keys is read again and again
				reason = rawProblem(key, value.Raw, limits)
			}
		}
		if reason != "" {
			found.add(key, value.Origin, "%s", reason)
		}
	}
	if textBytes > limits.Bytes {
		found.add("", Origin{}, "the texts together are larger than the limit of %d bytes", limits.Bytes)
	}
	v.checkStructure(wellFormed, limits, &found)
	return found
}

func keyLength(key string, limits Limits) string {
	if len(key) > limits.KeyBytes {
		return keyTooLong(limits)
	}
	return ""
}

func keyTooLong(limits Limits) string {
	return fmt.Sprintf("the key is longer than the limit of %d bytes", limits.KeyBytes)
}

func rawProblem(key string, raw any, limits Limits) string {
	switch x := raw.(type) {
	case nil:
		if _, indexes := cutIndexes(key[strings.LastIndexByte(key, '.')+1:]); indexes == "" {
			return "null stands in lists only: leave the key out"
		}
	case bool, int64:
	case uint64:
		if x <= math.MaxInt64 {
			return "the number is a uint64 where an int64 holds it"
		}
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return notFinite
		}
	case string:
		switch {
		case len(x) > limits.ValueBytes:
			return valueTooLong(limits)
		case !utf8.ValidString(x):
			return "the value is not text: it is not valid UTF-8"
		}
	case Empty:
		if x != EmptyList && x != EmptySection {
			return "neither an empty list nor an empty section"
		}
	default:
		return wrongType(raw)
	}
	return ""
}

const (
	notFinite   = "the number is not finite"
	outOfRange  = "number out of range"
	rootReason  = "the document must be a mapping of keys to values"
	depthReason = "nested deeper than the limit of %d"
)

func valueTooLong(limits Limits) string {
	return fmt.Sprintf("the value is longer than the limit of %d bytes", limits.ValueBytes)
}

// checkStructure walks the sorted keys. All below one name stands together, so
// comparing each key with the one before it finds every collision and hole.
func (v Values) checkStructure(keys []string, limits Limits, found *problems) {
	var before, steps []step
	for i, key := range keys {
		before, steps = steps, appendSteps(before[:0], key)
		origin := v[key].Origin
		if len(steps) > limits.Depth {
			found.add(key, origin, depthReason, limits.Depth)
		}
		common := 0
		for common < min(len(before), len(steps)) && before[common] == steps[common] {
			common++
		}
		if i > 0 && common > 0 {
			other := keys[i-1]
			switch at := v[other].Origin; {
			case common == len(before):
				found.add(other, at, "is a value here, and %s makes it a %s", place(key, origin), kindOf(steps[common]))
			case before[common].index != steps[common].index:
				found.add(other, at, "makes %s a %s, and %s makes it a %s", shownKey(prefix(steps[:common])),
					kindOf(before[common]), place(key, origin), kindOf(steps[common]))
			}
		}
		for at := common; at < len(steps); at++ {
			if !steps[at].index {
				continue
			}
			want := 0
			if at == common && common < len(before) && before[at].index {
				// An index too large for an int is a hole of its own.
				last, err := strconv.Atoi(before[at].text)
				if err != nil || last == math.MaxInt {
					continue
				}
				want = last + 1
			}
			if steps[at].text != strconv.Itoa(want) {
				found.add(key, origin, "the list has a hole: element %s[%d] is missing", shownKey(prefix(steps[:at])), want)
			}
		}
	}
}

func kindOf(s step) string {
	if s.index {
		return "list"
	}
	return "section"
}

// prefix is the key that steps lead to.
func prefix(steps []step) string {
	var key []byte
	for i, s := range steps {
		switch {
		case s.index:
			key = append(append(append(key, '['), s.text...), ']')
		case i > 0:
			key = append(append(key, '.'), s.text...)
		default:
			key = append(key, s.text...)
		}
	}
	return string(key)
}

// place names a key together with where it was read.
func place(key string, origin Origin) string {
	key = shownKey(key)
	if at := origin.String(); at != "" {
		key += " (" + at + ")"
	}
	return key
}
