package configsrc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
)

const halfPair = "half a surrogate pair (\\u....): write the character itself"

// json reads a JSON document. The library checks the syntax; it does not tell
// duplicate keys and lines, so walking the checked text is done here.
func (w *walker) json(data []byte) {
	if len(bytes.TrimLeft(data, " \t\r\n")) == 0 {
		return
	}
	if !json.Valid(data) {
		w.jsonSyntax(data)
		return
	}
	j := &jsonText{walker: w, data: data, line: 1}
	j.space()
	if j.data[j.pos] != '{' {
		w.fail(j.line, rootReason)
		return
	}
	j.object(j.line)
}

// jsonSyntax says where the first syntax error is. The library's own message
// quotes a character of the content.
func (w *walker) jsonSyntax(data []byte) {
	d := json.NewDecoder(bytes.NewReader(data))
	err := d.Decode(new(json.RawMessage))
	offset := int(d.InputOffset())
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = int(syntax.Offset) - 1 // Offset counts the bytes read, the wrong one included
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		offset = len(data)
	}
	offset = min(max(offset, 0), len(data))
	if err == nil {
		offset += len(data[offset:]) - len(bytes.TrimLeft(data[offset:], " \t\r\n"))
	}
	depth, deepest := 0, 0
	inText := false
	for i := 0; i < offset; i++ {
		switch c := data[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	line, column := lineAt(data, offset), offset-bytes.LastIndexByte(data[:offset], '\n')
	switch {
	case deepest > w.limits.Depth:
		w.fail(line, depthReason, w.limits.Depth)
	case err == nil:
		w.fail(line, "not JSON: there is more behind the end of the document, at column %d", column)
	case offset == len(data):
		w.fail(line, "not JSON: the document ends too early")
	default:
		w.fail(line, "not JSON: syntax error at column %d", column)
	}
}

// jsonText walks a text that is known to be valid JSON.
type jsonText struct {
	*walker
	data []byte
	pos  int
	line int
}

func (j *jsonText) space() {
	for ; j.pos < len(j.data); j.pos++ {
		switch j.data[j.pos] {
		case '\n':
			j.line++
		case ' ', '\t', '\r', ',', ':':
		default:
			return
		}
	}
}

func (j *jsonText) object(line int) {
	lines := make(map[string]int)
	j.section(line, func() {
		j.pos++
		for j.space(); !j.full && j.data[j.pos] != '}'; j.space() {
			line := j.line
			name, ok := j.text()
			j.space()
			if !ok {
				j.fail(line, "a key has "+halfPair)
				j.skip()
				continue
			}
			mark, ok := j.enter(name, line)
			if !ok {
				j.skip()
				continue
			}
			if first, again := lines[name]; again {
				j.duplicate(first, line)
				j.skip()
			} else {
				lines[name] = line
				j.value(line, false)
			}
			j.leave(mark)
		}
		j.pos++
	})
}

func (j *jsonText) array(line int) {
	j.pos++
	n := 0
	for j.space(); !j.full && j.data[j.pos] != ']'; j.space() {
		at := j.line
		if mark, ok := j.enterIndex(n, at); ok {
			j.value(at, true)
			j.leave(mark)
		} else {
			j.skip()
		}
		n++
	}
	j.pos++
	if n == 0 {
		j.put(EmptyList, line)
	}
}

func (j *jsonText) value(line int, inList bool) {
	switch j.data[j.pos] {
	case '{':
		j.object(line)
	case '[':
		j.array(line)
	case '"':
		text, ok := j.text()
		if !ok {
			j.invalid(line, halfPair)
			return
		}
		j.put(text, line)
	default:
		switch literal := j.literal(); literal {
		case "null":
			if inList {
				j.put(nil, line)
			}
		case "true", "false":
			j.put(literal == "true", line)
		default:
			j.number(literal, line)
		}
	}
}

// number puts a decimal number: an integer when it is written like one.
func (w *walker) number(text string, line int) {
	if strings.ContainsAny(text, ".eE") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			w.invalid(line, outOfRange)
			return
		}
		w.put(f, line)
		return
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		w.put(i, line)
		return
	}
	u, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		w.invalid(line, outOfRange)
		return
	}
	w.put(u, line)
}

// literal takes a number, true, false or null.
func (j *jsonText) literal() string {
	start := j.pos
	for j.pos < len(j.data) && strings.IndexByte(" \t\r\n,]}", j.data[j.pos]) < 0 {
		j.pos++
	}
	return string(j.data[start:j.pos])
}

// rawText takes a text with its quotes.
func (j *jsonText) rawText() (raw []byte, escaped bool) {
	start := j.pos
	for j.pos++; j.data[j.pos] != '"'; j.pos++ {
		if j.data[j.pos] == '\\' {
			escaped = true
			j.pos++
		}
	}
	j.pos++
	return j.data[start:j.pos], escaped
}

// text takes a text. It reports false for one with half a surrogate pair, which
// the library would silently replace.
func (j *jsonText) text() (string, bool) {
	raw, escaped := j.rawText()
	if !escaped {
		return string(raw[1 : len(raw)-1]), true
	}
	if !pairedSurrogates(raw) {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// pairedSurrogates tells whether the \u escapes of a valid JSON text pair up.
func pairedSurrogates(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if raw[i] != 'u' {
			continue
		}
		r := hexRune(raw[i+1 : i+5])
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		if i+6 >= len(raw) || raw[i+1] != '\\' || raw[i+2] != 'u' ||
			utf16.DecodeRune(r, hexRune(raw[i+3:i+7])) == '\uFFFD' {
			return false
		}
		i += 6
	}
	return true
}

func hexRune(digits []byte) rune {
	n, _ := strconv.ParseUint(string(digits), 16, 16)
	return rune(n)
}

// skip passes over one value, however deep, without a call for each level.
func (j *jsonText) skip() {
	for depth := 0; ; {
		j.space()
		switch j.data[j.pos] {
		case '{', '[':
			depth++
			j.pos++
		case '}', ']':
			depth--
			j.pos++
		case '"':
			j.rawText()
		default:
			j.literal()
		}
		if depth == 0 {
			return
		}
	}
}
