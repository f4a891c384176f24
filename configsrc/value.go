package configsrc

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Values is a configuration as flat dotted keys. The grammar of keys is
// documented at [Values.Check]. Once shared, a Values is not changed.
type Values map[string]Value

// Value is the value at one key and where it comes from.
//
// Its printed forms (fmt, slog, JSON) are masked, because whether a value is
// secret is not known here. EncodeValues is the form that keeps it.
type Value struct {
	// Raw is a bool, int64, uint64 (above the range of int64 only), float64
	// (finite), string, Empty, or, inside a list only, nil.
	Raw any
	// Origin is where the value was read.
	Origin Origin
	// Shadows are the values of lower layers that this one hides, nearest
	// first. Sources leave it nil; Merge fills it.
	Shadows []Shadow
}

// Empty is the value of a key that holds a list or a section without content.
type Empty string

const (
	EmptyList    Empty = "[]"
	EmptySection Empty = "{}"
)

// Shadow is a value that a higher layer hides.
type Shadow struct {
	Key    string
	Raw    any
	Origin Origin
}

// Origin is the place a value was read from.
type Origin struct {
	// Source is the name of the layer: "file", "consul", "set".
	Source string `json:"source,omitempty"`
	// Name is the place inside it: a file name, a key, a namespace.
	Name string `json:"name,omitempty"`
	// Line is the line in it, from 1; 0 where there are no lines.
	Line int `json:"line,omitempty"`
}

// String is "name:line", or as much of it as is known.
func (o Origin) String() string {
	s := cmp.Or(o.Name, o.Source)
	if o.Line > 0 {
		s += ":" + strconv.Itoa(o.Line)
	}
	return s
}

const masked = "[masked]"

// String is the mask.
func (v Value) String() string { return masked }

// GoString is the mask.
func (v Value) GoString() string { return masked }

// LogValue is the mask.
func (v Value) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText gives the mask, to encoding/json too.
func (v Value) MarshalText() ([]byte, error) { return []byte(masked), nil }

// String is the mask.
func (s Shadow) String() string { return masked }

// GoString is the mask.
func (s Shadow) GoString() string { return masked }

// LogValue is the mask.
func (s Shadow) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText gives the mask, to encoding/json too.
func (s Shadow) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Keys returns the keys in the order of [CompareKeys].
func (v Values) Keys() []string {
	return slices.SortedFunc(maps.Keys(v), CompareKeys)
}

// Hash is the canonical hash of the content: of keys and typed values, not of
// origins or shadows. The number 5 and the text "5" are different contents.
func (v Values) Hash() [32]byte {
	h := sha256.New()
	// Any fixed order will do here; the byte order is the cheapest.
	for _, k := range slices.Sorted(maps.Keys(v)) {
		writeString(h, k)
		writeRaw(h, v[k].Raw)
	}
	return [32]byte(h.Sum(nil))
}

// Revision is the name of the content: the first 12 hex digits of its hash.
func (v Values) Revision() string {
	h := v.Hash()
	return hex.EncodeToString(h[:6])
}

func writeRaw(h hash.Hash, raw any) {
	switch x := raw.(type) {
	case nil:
		_, _ = h.Write([]byte{'n'})
	case bool:
		b := byte('f')
		if x {
			b = 't'
		}
		_, _ = h.Write([]byte{b})
	case int64:
		writeNumber(h, 'i', uint64(x)) //nolint:gosec // the bits are hashed, not the number
	case uint64:
		writeNumber(h, 'u', x)
	case float64:
		writeNumber(h, 'd', math.Float64bits(x))
	case string:
		_, _ = h.Write([]byte{'s'})
		writeString(h, x)
	case Empty:
		_, _ = h.Write([]byte{'e'})
		writeString(h, string(x))
	}
}

func writeNumber(h hash.Hash, tag byte, n uint64) {
	var b [9]byte
	b[0] = tag
	binary.BigEndian.PutUint64(b[1:], n)
	_, _ = h.Write(b[:])
}

func writeString(h hash.Hash, s string) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(len(s)))
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(s))
}
