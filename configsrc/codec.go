package configsrc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// codecFormat is the number of the encoding. Another one is not read.
const codecFormat = 1

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
	fmt.Fprintf(&b, `{"format":%d,"values":[`, codecFormat)
	for i, key := range v.Keys() {
		if i > 0 {
			b.WriteByte(',')
		}
		kind, text := encodeRaw(v[key].Raw)
		line, err := json.Marshal(encodedValue{Key: key, Type: kind, Text: text, Origin: v[key].Origin})
		if err != nil {
			return nil, fmt.Errorf("encode values: %w", err)
		}
		b.WriteByte('\n')
		b.Write(line)
	}
	b.WriteString("\n]}\n")
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

// DecodeValues reads what [EncodeValues] wrote, and nothing else: an unknown
// field, a key twice or out of order, a value that is not of its type, more
// text behind the end, or what [Values.Check] refuses within limits is an
// [*InvalidError]. Values that come from [Merge] may need limits that are the
// sum of the layers'. Bytes bounds the texts here, not data as a whole, so the
// caller bounds what it reads.
func DecodeValues(data []byte, limits Limits) (Values, error) {
	limits = limits.orDefault()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	values, err := decodeValues(d, limits)
	if err != nil {
		return nil, &InvalidError{Problems: []Problem{{
			Reason: fmt.Sprintf("not encoded values, at byte %d: %v", d.InputOffset(), err),
		}}}
	}
	if err := values.Check(limits); err != nil {
		return nil, err
	}
	return values, nil
}

// decodeValues reads value by value, so that a long list is given up at the
// limit. Its errors quote nothing of the data; the library's own may.
func decodeValues(d *json.Decoder, limits Limits) (Values, error) {
	for _, want := range []json.Token{json.Delim('{'), "format", float64(codecFormat), "values", json.Delim('[')} {
		if token, err := d.Token(); err != nil || token != want {
			return nil, fmt.Errorf("format %d does not start like this", codecFormat)
		}
	}
	values := Values{}
	last := ""
	for d.More() {
		var e encodedValue
		if err := d.Decode(&e); err != nil {
			return nil, errors.New("broken value")
		}
		if len(values) == limits.Keys {
			return nil, fmt.Errorf("more keys than the limit of %d", limits.Keys)
		}
		if len(values) > 0 && CompareKeys(last, e.Key) >= 0 {
			return nil, errors.New("keys are out of order")
		}
		raw, err := decodeRaw(e.Type, e.Text)
		if err != nil {
			return nil, fmt.Errorf("the value of %s is %w", shownKey(e.Key), err)
		}
		values[e.Key] = Value{Raw: raw, Origin: e.Origin}
		last = e.Key
	}
	for _, want := range []json.Token{json.Delim(']'), json.Delim('}')} {
		if token, err := d.Token(); err != nil || token != want {
			return nil, errors.New("broken end")
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more behind the end")
	}
	return values, nil
}
