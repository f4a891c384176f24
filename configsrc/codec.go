package configsrc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// codecHead and codecTail frame the encoding. Between them stand the values, a
// line each. The number is that of the format; another one is not read.
const (
	codecHead = `{"format":1,"values":[`
	codecTail = "\n]}\n"
)

// encodedValue is one value as [EncodeValues] writes it. The text holds every
// type, because a JSON number does not keep them apart.
type encodedValue struct {
	Key    string `json:"key"`
	Type   string `json:"type"`
	Text   string `json:"text,omitempty"`
	Origin Origin `json:"origin,omitzero"`
}

// EncodeValues writes v as JSON that [DecodeValues] reads back as it was:
// types, origins and the hash, but not the shadows. Equal values give equal
// bytes. It refuses what [Values.Check] refuses, limits apart. The bytes hold
// every value in clear.
//
// In an origin, what is not valid UTF-8 (a file name may be so) is replaced.
func EncodeValues(v Values) ([]byte, error) {
	unlimited := Limits{Bytes: math.MaxInt, Keys: math.MaxInt, KeyBytes: math.MaxInt, ValueBytes: math.MaxInt, Depth: math.MaxInt}
	if err := v.Check(unlimited); err != nil {
		return nil, fmt.Errorf("encode values: %w", err)
	}
	var b bytes.Buffer
	b.WriteString(codecHead)
	for i, key := range v.Keys() {
		if i > 0 {
			b.WriteByte(',')
		}
		kind, text := encodeRaw(v[key].Raw)
		origin := v[key].Origin
		// The encoder's own replacement does not read back as what it writes.
		origin.Source = strings.ToValidUTF8(origin.Source, string(utf8.RuneError))
		origin.Name = strings.ToValidUTF8(origin.Name, string(utf8.RuneError))
		line, err := json.Marshal(encodedValue{Key: key, Type: kind, Text: text, Origin: origin})
		if err != nil {
			return nil, fmt.Errorf("encode values: %w", err)
		}
		b.WriteByte('\n')
		b.Write(line)
	}
	b.WriteString(codecTail)
	return b.Bytes(), nil
}

func encodeRaw(raw any) (kind, text string) {
	switch x := raw.(type) {
	case bool:
		return "bool", strconv.FormatBool(x)
	case int64:
		return "int", strconv.FormatInt(x, 10)
	case uint64:
		return "uint", strconv.FormatUint(x, 10)
	case float64:
		return "float", strconv.FormatFloat(x, 'g', -1, 64)
	case string:
		return "text", x
	case Empty:
		return "empty", string(x)
	}
	return "null", ""
}

func decodeRaw(kind, text string) (raw any, err error) {
	switch kind {
	case "null":
		raw = nil
	case "bool":
		raw, err = strconv.ParseBool(text)
	case "int":
		raw, err = strconv.ParseInt(text, 10, 64)
	case "uint":
		raw, err = strconv.ParseUint(text, 10, 64)
	case "float":
		raw, err = strconv.ParseFloat(text, 64)
	case "text":
		return text, nil
	case "empty":
		raw = Empty(text)
	default:
		return nil, errors.New("of no known type")
	}
	if err != nil {
		return nil, errors.New("not of its type")
	}
	if _, again := encodeRaw(raw); again != text {
		return nil, errors.New("not in the one form of its type")
	}
	return raw, nil
}

// DecodeValues reads what [EncodeValues] wrote, and nothing else: other bytes
// for the same values, a key twice or out of order, a value that is not of its
// type, or what [Values.Check] refuses within limits is an [*InvalidError].
// Values that come from [Merge] may need limits that are the sum of the
// layers'. Bytes bounds the texts here, not data as a whole, so the caller
// bounds what it reads.
func DecodeValues(data []byte, limits Limits) (Values, error) {
	limits = limits.orDefault()
	values, at, err := decodeValues(data, limits)
	if err != nil {
		return nil, &InvalidError{Problems: []Problem{{
			Reason: fmt.Sprintf("not encoded values, at byte %d: %v", at, err),
		}}}
	}
	if err := values.Check(limits); err != nil {
		return nil, err
	}
	return values, nil
}

// decodeValues reads line by line, so that a long list is given up at the
// limit. Its errors quote nothing of the data; the library's own may. It tells
// where it stopped.
func decodeValues(data []byte, limits Limits) (values Values, at int, err error) {
	rest, ok := bytes.CutPrefix(data, []byte(codecHead))
	if !ok {
		return nil, 0, errors.New("format 1 does not start like this")
	}
	at = len(codecHead)
	rest, ok = bytes.CutSuffix(rest, []byte(codecTail))
	if !ok {
		return nil, len(data), errors.New("broken end")
	}
	values = make(Values, min(bytes.Count(rest, []byte{'\n'}), limits.Keys))
	var again bytes.Buffer
	encoder := json.NewEncoder(&again)
	last := ""
	for len(rest) > 0 {
		if rest[0] != '\n' {
			return nil, at, errors.New("a value stands on a line of its own")
		}
		line, _, more := bytes.Cut(rest[1:], []byte{'\n'})
		size := 1 + len(line)
		if more {
			if line, more = bytes.CutSuffix(line, []byte{','}); !more {
				return nil, at, errors.New("a comma is missing")
			}
		}
		if len(values) == limits.Keys {
			return nil, at, fmt.Errorf("more keys than the limit of %d", limits.Keys)
		}
		e, err := decodeLine(line, encoder, &again)
		if err != nil {
			return nil, at, err
		}
		if len(values) > 0 && CompareKeys(last, e.Key) >= 0 {
			return nil, at, errors.New("keys are out of order")
		}
		raw, err := decodeRaw(e.Type, e.Text)
		if err != nil {
			return nil, at, fmt.Errorf("the value of %s is %w", shownKey(e.Key), err)
		}
		values[e.Key] = Value{Raw: raw, Origin: e.Origin}
		last = e.Key
		rest = rest[size:]
		at += size
	}
	return values, at, nil
}

// decodeLine reads one value. The library takes a field twice, in any case of
// letters, and half a surrogate pair: none of it comes out again.
func decodeLine(line []byte, encoder *json.Encoder, again *bytes.Buffer) (e encodedValue, err error) {
	if err := json.Unmarshal(line, &e); err != nil {
		return e, errors.New("broken value")
	}
	again.Reset()
	if err := encoder.Encode(e); err != nil || !bytes.Equal(bytes.TrimSuffix(again.Bytes(), []byte{'\n'}), line) {
		return e, errors.New("broken value: not as it is written")
	}
	return e, nil
}
