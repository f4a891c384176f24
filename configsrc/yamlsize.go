package configsrc

import (
	"bytes"
	"unicode/utf8"
)

const (
	// yamlNodesPerKey allows for texts that look like nodes: JSON in a text, or
	// comments. At the default limits the parser's tree takes less than 150 MB.
	yamlNodesPerKey = 40
	// yamlLinesPerKey allows for comments, and for texts of many lines.
	yamlLinesPerKey = 20
	// yamlCommentNodes is what a comment costs: the parser keeps it.
	yamlCommentNodes = 3
)

// yamlTooLarge notes a document that may cost the parser too much. The parser
// builds every node before the first can be looked at, with a few hundred bytes
// for each, and a node takes a byte or two of the document.
func (w *walker) yamlTooLarge(data []byte) bool {
	nodes, lines := yamlSize(data)
	if most := yamlLinesPerKey * w.limits.Keys; lines > most {
		w.fail(0, "the document has more lines than the limit of %d", most)
		return true
	}
	if most := yamlNodesPerKey * w.limits.Keys; nodes > most {
		w.fail(0, "the document has more commas, brackets and other marks of YAML than the limit: they may stand for %d nodes, and %d is the most", nodes, most)
		return true
	}
	return false
}

// yamlSize counts the lines of data, and the most nodes that it may hold. It
// tells no text from a mark, so that nothing can hide behind a quote.
func yamlSize(data []byte) (nodes, lines int) {
	for len(data) > 0 {
		line, rest := cutYAMLLine(data)
		data = rest
		lines++
		// A line that starts with # is a comment, or belongs to a text. If that
		// is a quoted one, a quote might end it here, with nodes behind it.
		if text := bytes.TrimLeft(line, " \t"); len(text) > 0 && text[0] == '#' && bytes.IndexByte(text, '"') < 0 && bytes.IndexByte(text, '\'') < 0 {
			nodes += yamlCommentNodes
			continue
		}
		nodes += yamlLineNodes(line)
	}
	return nodes, lines
}

// yamlLineNodes is the most nodes that the marks of one line make.
func yamlLineNodes(line []byte) (nodes int) {
	for {
		i := bytes.IndexAny(line, ",[{-:?#")
		if i < 0 {
			return nodes
		}
		mark := line[i]
		line = line[i+1:]
		switch {
		case mark == '#':
			nodes += yamlCommentNodes
		case mark == ',' || mark == '[' || mark == '{':
			// Each opens an entry: a pair in a list is a mapping, a key and a
			// value, and needs no space around its colon.
			nodes += 3
		case len(line) > 0 && line[0] != ' ' && line[0] != '\t': // text, or within an entry
		case mark == '-':
			nodes += 2 // a list and an element
		default:
			nodes += 3 // a mapping, a key and a value
		}
	}
}

// cutYAMLLine cuts data behind its first line, without the line's end. YAML
// 1.1, which the parser reads, has five of them.
func cutYAMLLine(data []byte) (line, rest []byte) {
	for i := range data {
		switch data[i] {
		case '\n':
			return data[:i], data[i+1:]
		case '\r':
			return data[:i], bytes.TrimPrefix(data[i+1:], []byte{'\n'})
		case 0xC2, 0xE2:
			switch r, size := utf8.DecodeRune(data[i:]); r {
			case '\u0085', '\u2028', '\u2029':
				return data[:i], data[i+size:]
			}
		}
	}
	return data, nil
}

// yamlDirectives returns data with a %YAML 1.2 before the document as 1.1: the
// parser refuses the one and reads it all the same. It notes a %TAG, wherever:
// the parser compares each with all others, and writes a prefix out for every
// tag, so that a short document comes out long.
func (w *walker) yamlDirectives(data []byte) ([]byte, bool) {
	const directive = "%YAML 1.2"
	number, begun := 0, false
	for rest := data; len(rest) > 0; {
		at := len(data) - len(rest)
		var line []byte
		line, rest = cutYAMLLine(rest)
		number++
		switch {
		case len(line) == 0 || line[0] == '#':
		case bytes.HasPrefix(line, []byte("%TAG")):
			w.fail(number, "not YAML as it is read here: a line starts with the directive %%TAG")
			return nil, false
		case !begun && bytes.HasPrefix(line, []byte(directive)) && len(bytes.TrimLeft(line[len(directive):], "0123456789")) == len(line)-len(directive):
			data = bytes.Clone(data)
			data[at+len(directive)-1] = '1'
			begun = true
		case line[0] != '%':
			begun = true
		}
	}
	return data, true
}
